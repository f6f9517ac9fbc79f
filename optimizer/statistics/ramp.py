"""How long a ramp needs until each of its questions can be answered.

A question is a metric with the variance of one request, the harm that must be excluded, the share
of requests that answer it and the delay of the answers. The law kept here: more traffic or a wider
margin never takes longer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.metrics import GRAIN_S, HOUR_S
from optimizer.statistics.planning import hours_needed, units_needed_anytime

FloatArray = npt.NDArray[np.float64]

SHORTEST_STAGE_HOURS: Final = GRAIN_S / HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a metric must show: that harm is below ``margin`` (> 0) at ``variance`` per request.

    label_rate: fraction of requests that are measured; lag_hours: age of a window before it counts;
    design_effect: variance relative to independent requests.
    """

    metric: str
    variance: float
    margin: float
    label_rate: float = 1.0
    lag_hours: float = 0.0
    design_effect: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How long a ramp needs: in all, and in its longest stage, with the metric that decides."""

    hours: float
    longest_stage_hours: float
    metric: str


def units_for(questions: Sequence[Question], *, alpha: FloatArray, power: float) -> FloatArray:
    """Canary requests each question needs, shape (Q,); ``alpha`` has a value for each question."""
    if not questions:
        return np.zeros(0)
    return units_needed_anytime(
        [q.variance for q in questions],
        [q.margin for q in questions],
        alpha=alpha,
        power=power,
        design_effect=[q.design_effect for q in questions],
    )


def reach(
    questions: Sequence[Question],
    units: npt.ArrayLike,
    *,
    requests_per_hour: float,
    shares: Sequence[float],
    bake_hours: Sequence[float],
    min_requests: Sequence[int],
) -> Reach:
    """The hours a ramp takes; every stage lasts its bake time and until its sample floor is met.

    Args:
        questions: at least one.
        units: canary requests each needs, as :func:`units_for` returns them.
        requests_per_hour: the target's whole traffic, > 0.
        shares: the canary's share in each stage, in (0, 1].
        bake_hours: shortest stay in each stage, hours, >= 0.
        min_requests: requests the canary needs in each stage.

    Examples:
        >>> ask = Question(metric="failure_rate", variance=0.0196, margin=0.01)
        >>> plan = reach([ask], [5395.0], requests_per_hour=2000, shares=[0.05, 0.5],
        ...              bake_hours=[1, 1], min_requests=[200, 200])
        >>> round(plan.hours, 2), round(plan.longest_stage_hours, 2), plan.metric
        (7.19, 5.19, 'failure_rate')
    """
    share = np.asarray(shares, dtype=np.float64)
    floor = np.asarray(min_requests, dtype=np.float64) / (requests_per_hour * share)
    stay = np.maximum(np.maximum(np.asarray(bake_hours, dtype=np.float64), floor), 0.0)
    stay = np.maximum(stay, SHORTEST_STAGE_HOURS)
    needed = hours_needed(
        units,
        requests_per_hour,
        shares=share,
        stage_hours=stay,
        label_rate=[q.label_rate for q in questions],
    ) + np.array([q.lag_hours for q in questions])
    # A question nobody can size is never answered.
    needed = np.where(np.isnan(needed), np.inf, needed)
    slowest = int(np.argmax(needed))
    total = max(float(needed[slowest]), float(stay.sum()))
    last = total - float(stay[:-1].sum())
    longest = max(last, float(stay[:-1].max(initial=0.0)))
    return Reach(hours=total, longest_stage_hours=longest, metric=questions[slowest].metric)
