"""Kayenta's judge as a rule of a ramp: asked every hour on the points of the rollout so far."""

from typing import Final

import numpy as np
import numpy.typing as npt

from bench.rollouts.kayenta import Label, Settings, classify
from bench.rollouts.plan import CANARY, CONTROL
from bench.rollouts.world import FAILURE, Sums

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

POINTS: Final = (1, 5, 15)
"""Minutes of a point."""
SETTINGS: Final = Settings(direction="increase", critical=True)


def judged(sums: Sums, minutes: int) -> IntArray:
    """The window at whose end the failure rate is first High, shape (R,); beyond all for never.

    A minute without requests is no point. Windows must last a minute.
    """
    plan = sums.plan
    per_hour = plan.windows_an_hour // minutes
    points = _points(sums, minutes)
    never = np.full(sums.rollouts, plan.hours * plan.windows_an_hour)
    for row, arms in enumerate(points):
        for hour in range(1, plan.planned_hours + 1):
            seen = arms[: hour * per_hour]
            if classify(seen[:, CONTROL], seen[:, CANARY], SETTINGS) is Label.HIGH:
                never[row] = hour * plan.windows_an_hour - 1
                break
    return never


def _points(sums: Sums, minutes: int) -> FloatArray:
    """Failure rates by point, shape (R, points, 2), nan for a point without requests."""
    n, k = (
        table.reshape(sums.rollouts, -1, minutes, 2).sum(axis=2)
        for table in (sums.n, sums.events[FAILURE])
    )
    return np.asarray(k / np.where(n > 0, n, np.nan))
