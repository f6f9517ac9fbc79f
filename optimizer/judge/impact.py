"""What a promotion really did, measured against its holdback.

The holdback is a concurrent random sample of the old baseline's traffic, so seasons, outages and
prices strike both. One look at a planned time: limits are those of a single look, 95 %.
"""

from collections.abc import Mapping
from datetime import datetime
from math import isfinite
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from optimizer.evidence import Anchor, Impact
from optimizer.judge.buckets import MATURE_METRICS
from optimizer.judge.case import Case
from optimizer.judge.health import examine, unlabelled_imbalance
from optimizer.judge.limits import fieller, near_zero
from optimizer.judge.means import MIN_ROWS
from optimizer.judge.shares import share_estimates
from optimizer.judge.sums import Sums, arms, collect
from optimizer.metrics import METRICS, MetricKind
from optimizer.policy import Guardrail
from optimizer.statistics.clusters import RatioEstimate, harm, relative_lift, t_interval

FloatArray = npt.NDArray[np.float64]

ALPHA: Final = 0.05
METHOD: Final = "concurrent holdback"
_ONE: Final = np.zeros(1, dtype=np.int64)


def realised(case: Case, grains: pd.DataFrame, *, now: datetime, data_until: datetime) -> Impact:
    """The measured change of a promoted decision; fields are None where nothing is known.

    Limits are 95 %, two-sided. ``daily_saving_usd`` is for the whole target at the traffic seen;
    ``n`` counts the requests of both arms, and ``confidence`` is the chance that the saving is
    above zero, under a flat prior. Nothing is estimated from a split that is not the planned one.
    """
    sums = collect([case], grains, now=now, data_until=data_until)
    count = int(sums.totals["n"].sum())
    if examine([case], sums, data_until).srm[0]:
        return Impact(n=count, method=f"{METHOD}; not estimated: sample-ratio mismatch")
    saving, lower, upper, confidence = _saving(sums)
    quality = _quality(sums)
    latency = _arms("latency_ms", sums)
    return Impact(
        cost_reduction_pct=saving,
        cost_reduction_lower_pct=lower,
        cost_reduction_upper_pct=upper,
        quality_delta=quality[0],
        quality_delta_lower=quality[1],
        quality_delta_upper=quality[2],
        latency_delta_pct=None if latency is None else _percent(relative_lift(*latency).value),
        daily_saving_usd=_daily(sums),
        confidence=confidence,
        n=count,
        method=METHOD,
    )


def charges(
    case: Case, grains: pd.DataFrame, *, now: datetime, data_until: datetime
) -> Mapping[str, Anchor | None]:
    """What this promotion costs, per anchored metric, from mature data of the holdback.

    ``harm`` is in the guardrail's own terms (relative or absolute), positive is worse; a gain is
    negative. None = too few data, or labels unlike between the arms: then what the last check
    before the promotion estimated stays.
    """
    sums = collect([case], grains, now=now, data_until=data_until)
    mismatch = bool(examine([case], sums, data_until).srm[0])
    return {
        rail.metric: None if mismatch else _charge(case, rail, sums)
        for rail in case.policy.guardrails
        if rail.anchored
    }


def _charge(case: Case, rail: Guardrail, sums: Sums) -> Anchor | None:
    arms = _arms(rail.metric, sums)
    if arms is None:
        return None
    canary, control = arms
    sign = METRICS[rail.metric].direction.harm_sign
    if rail.relative:
        lift = relative_lift(canary, control)
        value, variance = sign * lift.value, lift.variance
    else:
        found = harm(canary, control, harm_sign=sign)
        value, variance = found.value, found.variance
    if not isfinite(value[0]) or not isfinite(variance[0]):
        return None
    earlier = case.anchors.get((case.decision.target, rail.metric))
    return Anchor(
        target=case.decision.target,
        metric=rail.metric,
        reference_arm=case.decision.baseline if earlier is None else earlier.reference_arm,
        harm=float(value[0]),
        variance=float(variance[0]),
        promotions=1,
    )


def _arms(metric: str, sums: Sums) -> tuple[RatioEstimate, RatioEstimate] | None:
    """The canary's and control's estimate; None below the floors, or where labels are unlike."""
    late = metric in MATURE_METRICS
    known = METRICS[metric]
    rows = (sums.mature if late else sums.totals)[known.denominator][0]
    if rows.min() < MIN_ROWS or (late and unlabelled_imbalance(sums, _ONE)[0]):
        return None
    if known.kind is MetricKind.SHARE:
        control, canary = share_estimates(known, _ONE, sums)
    else:
        control, canary = arms(sums.clustered.ratios[metric], _ONE)
    return (canary, control) if isfinite(canary.variance[0] + control.variance[0]) else None


def _saving(sums: Sums) -> tuple[float | None, float | None, float | None, float | None]:
    """Cost reduction, its limits, percent, and the chance that it is above zero."""
    arms = _arms("cost_usd", sums)
    if arms is None or near_zero(arms[1])[0]:
        return None, None, None, None
    difference = harm(*arms, harm_sign=1)
    deviate: FloatArray = np.asarray(-special.stdtrit(difference.df, ALPHA / 2.0), dtype=np.float64)
    low, high = fieller(*arms, deviate)
    return (
        _percent(1.0 - arms[0].value / arms[1].value),
        _percent(1.0 - high),
        _percent(1.0 - low),
        _finite(special.stdtr(difference.df, -difference.t)),
    )


def _quality(sums: Sums) -> tuple[float | None, float | None, float | None]:
    arms = _arms("quality", sums)
    if arms is None:
        return None, None, None
    difference = harm(*arms, harm_sign=1)
    low, high = t_interval(difference, alpha=ALPHA)
    return _finite(difference.value), _finite(low), _finite(high)


def _daily(sums: Sums) -> float | None:
    arms = _arms("cost_usd", sums)
    if arms is None or sums.span_h[0] <= 0:
        return None
    per_day = sums.totals["n"].sum() / sums.span_h[0] * 24.0
    return _finite((arms[1].value - arms[0].value) * per_day)


def _percent(value: FloatArray) -> float | None:
    return _finite(100.0 * value)


def _finite(value: FloatArray) -> float | None:
    only = float(np.asarray(value).reshape(-1)[0])
    return only if isfinite(only) else None
