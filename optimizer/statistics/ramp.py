"""How long a ramp needs until each of its questions can be answered.

A question is a metric with the variance of one request, the harm that must be excluded, the share
of requests that answer it and the delay of the answers. The law kept here: more traffic or a wider
margin never takes longer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.evidence import RampPlan
from optimizer.metrics import GRAIN_S, HOUR_S
from optimizer.statistics.planning import hours_needed, promotion_bound, units_needed

FloatArray = npt.NDArray[np.float64]

SHORTEST_STAGE_HOURS: Final = GRAIN_S / HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a metric must show: that harm is below ``margin`` (> 0) at ``variance`` per request.

    label_rate: fraction of requests that are measured; lag_hours: age of a window before it counts;
    design_effect: variance relative to independent requests; control_ratio: control requests to one
    canary request.
    """

    metric: str
    variance: float
    margin: float
    label_rate: float = 1.0
    lag_hours: float = 0.0
    design_effect: float = 1.0
    control_ratio: float = 1.0


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
    return units_needed(
        [q.variance for q in questions],
        [q.margin for q in questions],
        bound=promotion_bound(alpha),
        power=power,
        design_effect=[q.design_effect for q in questions],
        control_ratio=[q.control_ratio for q in questions],
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
    stay = _stays(requests_per_hour, share, bake_hours, min_requests)
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


def ramp_plan(
    *,
    requests_per_hour: float,
    shares: Sequence[float],
    bake_hours: Sequence[float],
    min_requests: Sequence[int],
    planned_hours: float,
    longest_stage_hours: float,
    measured: Mapping[str, float],
) -> RampPlan:
    """How long a ramp is planned to last, and the canary requests it will have seen.

    Args:
        requests_per_hour: the target's whole traffic, > 0.
        shares: the canary's share in each stage, in (0, 1].
        bake_hours: shortest stay in each stage, hours, >= 0.
        min_requests: requests the canary needs in each stage.
        planned_hours: hours the plan check found; the last stage lasts until then.
        longest_stage_hours: hours after which a stage expires.
        measured: share of requests in which each metric is known.

    Examples:
        >>> plan = ramp_plan(requests_per_hour=1000, shares=[0.1, 0.5], bake_hours=[2, 2],
        ...                  min_requests=[1, 1], planned_hours=6, longest_stage_hours=10,
        ...                  measured={})
        >>> plan.hours, plan.requests, plan.extended
        (6.0, 2200.0, 5200.0)
    """
    share = np.asarray(shares, dtype=np.float64)
    stay = _stays(requests_per_hour, share, bake_hours, min_requests)
    stay[-1] = max(float(stay[-1]), planned_hours - float(stay[:-1].sum()))
    stay = np.minimum(stay, longest_stage_hours)
    seen = float((requests_per_hour * share * stay).sum())
    more = requests_per_hour * float(share[-1]) * (longest_stage_hours - float(stay[-1]))
    return RampPlan(hours=float(stay.sum()), requests=seen, extended=seen + more, measured=measured)


def _stays(
    requests_per_hour: float,
    share: FloatArray,
    bake_hours: Sequence[float],
    min_requests: Sequence[int],
) -> FloatArray:
    """The shortest stay in each stage, hours."""
    floor = np.asarray(min_requests, dtype=np.float64) / (requests_per_hour * share)
    stay = np.maximum(np.asarray(bake_hours, dtype=np.float64), floor)
    return np.maximum(stay, SHORTEST_STAGE_HOURS)
