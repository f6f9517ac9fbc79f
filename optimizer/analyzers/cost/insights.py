"""One insight on money: the numbers it always carries, and the day it rests on."""

from typing import Final

import numpy as np

from optimizer.evidence import Insight, Severity
from optimizer.metrics import DAY_S, HOUR_S, at
from optimizer.statistics.arms import Row

NAME: Final = "cost"
KEPT: Final = (
    "cost_usd",
    "success_cost_usd",
    "hour_usd",
    "day_usd",
    "today_usd",
    "forecast_usd",
    "forecast_low_usd",
    "forecast_high_usd",
    "month_usd",
    "month_forecast_usd",
    "month_low_usd",
    "month_high_usd",
    "unknown_cost_share",
)
"""The numbers every insight of this analyzer carries, where they are known."""


def insight(  # noqa: PLR0913 - an insight has this many independent parts
    row: Row,
    kind: str,
    severity: Severity,
    *,
    title: str,
    text: str,
    caveat: str,
    metric: str = "cost_usd",
    value: float,
    limit: float,
    arm: str | None = None,
    n: int | None = None,
    start_s: int | None = None,
) -> Insight:
    """The insight of a row of the analyzer's table; by default on its newest day and its arm."""
    numbers = {name: float(getattr(row, name)) for name in KEPT}
    end = int(row.newest_s) + HOUR_S
    return Insight(
        analyzer=NAME,
        kind=kind,
        severity=severity,
        target=row.target,
        arm=arm or row.in_force,
        metric=metric,
        title=title,
        description=f"{row.target}: {text}",
        value=float(value),
        limit=float(limit),
        n=int(row.n_cost if n is None else n),
        start=at(end - DAY_S if start_s is None else start_s),
        end=at(end),
        caveat=caveat,
        metrics={name: number for name, number in numbers.items() if np.isfinite(number)},
    )
