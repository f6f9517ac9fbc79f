"""Costs, latencies and scores: ratios of hash-bucket sums under a confidence sequence."""

from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.aggregates import CLUSTER_FIELDS
from optimizer.evidence import Reason
from optimizer.judge.limits import Harm, limits, near_zero
from optimizer.judge.questions import Answer, Question
from optimizer.judge.sums import CANARY, CONTROL, Sums
from optimizer.metrics import Metric
from optimizer.statistics.clusters import MIN_CLUSTERS, RatioEstimate, bucket_ratio
from optimizer.statistics.planning import units_needed_anytime

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

FIELD: Final = {name: position for position, name in enumerate(CLUSTER_FIELDS)}
MIN_ROWS: Final = 100
"""Rows of an arm below which no limit is read (burn-in of the asymptotic sequence)."""
PROMOTE_CLUSTERS: Final = 50
"""Hash buckets with data, per arm, below which nothing is promoted."""

MATURE_METRICS: Final = frozenset({"quality"})
"""Metrics whose rows arrive later than the request."""

METHOD: Final = "asymptotic confidence sequence on hash buckets of units"


def bucket_estimates(metric: Metric, buckets: FloatArray) -> tuple[RatioEstimate, RatioEstimate]:
    """Control's and the canary's ratio; buckets: shape (n, 2, len(CLUSTER_FIELDS), N_CLUSTERS)."""
    y = buckets[:, :, FIELD[metric.numerator]] * metric.scale
    x = buckets[:, :, FIELD[metric.denominator]]
    return bucket_ratio(y[:, CONTROL], x[:, CONTROL]), bucket_ratio(y[:, CANARY], x[:, CANARY])


def answer_mean(question: Question, sums: Sums) -> Answer:
    """Harm in a mean; below the floors its limits are unknown."""
    metric, case = question.metric, question.case
    late = metric.name in MATURE_METRICS
    buckets = (sums.mature_buckets if late else sums.buckets)[case]
    totals = (sums.mature if late else sums.totals)[metric.denominator][case]
    control, canary = bucket_estimates(metric, buckets)
    harm = limits(
        canary,
        control,
        sign=metric.direction.harm_sign,
        relative=question.relative,
        units=totals.sum(axis=1),
        alpha_lower=question.alpha_lower,
        alpha_upper=question.alpha_upper,
    )
    clusters = np.minimum(canary.clusters, control.clusters)
    enough = totals.min(axis=1) >= MIN_ROWS
    absent = totals.min(axis=1) == 0
    waiting = absent & (sums.totals[metric.denominator][case].min(axis=1) > 0)
    lacking = first_reason(
        (waiting, Reason.LABELS_IMMATURE),
        (absent, Reason.NO_ROWS),
        (~np.isfinite(canary.value - control.value), Reason.NON_FINITE),
        (~enough, Reason.MIN_SAMPLE),
        (clusters < PROMOTE_CLUSTERS, Reason.MIN_CLUSTERS),
        (question.relative & near_zero(control), Reason.BASELINE_NEAR_ZERO),
        # Equal values in every bucket are no evidence of certainty.
        (~np.isfinite(harm.upper), Reason.MIN_EVENTS),
    )
    readable = lacking == Reason.NONE
    return Answer(
        harm=Harm(
            value=harm.value,
            lower=np.where(enough & (clusters >= MIN_CLUSTERS), harm.lower, np.nan),
            upper=np.where(readable, harm.upper, np.nan),
            variance=harm.variance,
        ),
        canary=canary.value,
        control=control.value,
        rows=totals.astype(np.int64),
        lacking=lacking,
        needed=rows_needed(question, harm, totals, lacking),
        log_e=np.full(case.size, np.nan),
        method=np.full(case.size, METHOD, dtype=object),
    )


def first_reason(*causes: tuple[BoolArray, Reason]) -> npt.NDArray[np.object_]:
    """For each case the first reason whose condition holds, NONE where none does."""
    found = np.full(causes[0][0].shape, Reason.NONE, dtype=object)
    for condition, reason in reversed(causes):
        found[condition] = reason
    return found


def rows_needed(
    question: Question, harm: Harm, totals: FloatArray, lacking: npt.NDArray[np.object_]
) -> FloatArray:
    """Further rows per arm until the upper limit may be expected (80 %) below the margin.

    A guardrail's true harm is taken as the estimate, at least zero; a goal's as the estimate. Rows
    that a floor lacks are counted where only the floor is known. nan where no number would do.
    """
    expected = harm.value if question.role == "goal" else np.maximum(harm.value, 0.0)
    room = question.margin - expected
    rows = totals.min(axis=1)
    known = np.isfinite(harm.variance) & (room > 0)
    total = units_needed_anytime(
        np.where(known, harm.variance * rows / 2.0, np.nan),
        np.where(known, room, 1.0),
        alpha=np.minimum(question.alpha_upper, 0.499),
    )
    floor = np.where(lacking == Reason.MIN_SAMPLE, MIN_ROWS - rows, 0.0)
    floor = np.where(known | (lacking == Reason.MIN_SAMPLE), floor, np.nan)
    return np.asarray(np.fmax(total - rows, floor))
