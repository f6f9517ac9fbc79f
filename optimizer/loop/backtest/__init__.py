"""The past run again: what the loop would have decided each hour on a log, acting on nothing."""

from optimizer.engine.walked import Read, Walked
from optimizer.loop.backtest.reading import read
from optimizer.loop.backtest.walking import walk

__all__ = ["Read", "Walked", "read", "walk"]
