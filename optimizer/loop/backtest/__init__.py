"""The past run again: what the loop would have decided each hour on a log, acting on nothing."""

from optimizer.loop.backtest.reading import Period, Read, read
from optimizer.loop.backtest.walking import Walked, walk

__all__ = ["Period", "Read", "Walked", "read", "walk"]
