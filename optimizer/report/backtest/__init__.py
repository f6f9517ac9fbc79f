"""A backtest as it is told: what decisions would have saved, beside yardsticks and what is unknown.

::

    value -> scenarios -> figures, curves -> records, notes -> telling -> text, page
"""

from optimizer.report.backtest.records import Backtest
from optimizer.report.backtest.telling import tell

__all__ = ["Backtest", "tell"]
