"""Costs, latencies and scores: ratios of hash-bucket sums."""

from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.evidence import Reason
from optimizer.judge.buckets import MATURE_METRICS
from optimizer.judge.conclusions import conclude, shown
from optimizer.judge.limits import LARGEST_ALPHA, Harm, near_zero
from optimizer.judge.questions import Answer, Question
from optimizer.judge.sums import Sums, arms
from optimizer.statistics.clusters import MIN_CLUSTERS
from optimizer.statistics.planning import promotion_bound, units_needed, units_needed_anytime

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

MIN_ROWS: Final = 100
"""Rows of an arm below which no limit is read (burn-in of the asymptotic sequence)."""
PROMOTE_CLUSTERS: Final = 50
"""Hash buckets with data, per arm, below which nothing is promoted."""

METHOD: Final = "cluster-robust mean on hash buckets of units"


def answer_mean(question: Question, sums: Sums) -> Answer:
    """Harm in a mean; below the floors its limits are unknown."""
    metric, case = question.metric, question.case
    late = metric.name in MATURE_METRICS
    totals = (sums.mature if late else sums.totals)[metric.denominator][case]
    control, canary = arms(sums.clustered.ratios[metric.name], case)
    clusters = np.minimum(canary.clusters, control.clusters)
    enough = totals.min(axis=1) >= MIN_ROWS
    absent = totals.min(axis=1) == 0
    waiting = absent & (sums.totals[metric.denominator][case].min(axis=1) > 0)
    found = conclude(
        question,
        canary,
        control,
        totals,
        readable=enough & (clusters >= MIN_CLUSTERS),
        promotable=enough & (clusters >= PROMOTE_CLUSTERS),
    )
    lacking = first_reason(
        (waiting, Reason.LABELS_IMMATURE),
        (absent, Reason.NO_ROWS),
        (~np.isfinite(canary.value - control.value), Reason.NON_FINITE),
        (~enough, Reason.MIN_SAMPLE),
        (clusters < PROMOTE_CLUSTERS, Reason.MIN_CLUSTERS),
        (question.relative & near_zero(control), Reason.BASELINE_NEAR_ZERO),
        # Equal values in every bucket are no evidence of certainty.
        (~np.isfinite(found.harm.upper), Reason.MIN_EVENTS),
    )
    upper = np.where(lacking == Reason.NONE, found.harm.upper, np.nan)
    harm = shown(question, found, found.harm.lower, upper)
    return Answer(
        harm=harm,
        failed=found.failed,
        passed=found.passed,
        canary=canary.value,
        control=control.value,
        rows=totals.astype(np.int64),
        lacking=lacking,
        needed=rows_needed(question, harm, totals, lacking),
        z=found.z,
        log_e=np.full(case.size, np.nan),
        method=np.full(case.size, METHOD, dtype=object),
        look=found.look,
        promotion=found.promotion,
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
    variance = np.where(known, harm.variance * rows / 2.0, np.nan)
    margin = np.where(known, room, 1.0)
    alpha = np.minimum(question.alpha_upper, LARGEST_ALPHA)
    total = units_needed(variance, margin, bound=promotion_bound(alpha))
    anytime = ~question.schedule.has_plan
    if anytime.any():
        total[anytime] = units_needed_anytime(
            variance[anytime], margin[anytime], alpha=alpha[anytime]
        )
    floor = np.where(lacking == Reason.MIN_SAMPLE, MIN_ROWS - rows, 0.0)
    floor = np.where(known | (lacking == Reason.MIN_SAMPLE), floor, np.nan)
    return np.asarray(np.fmax(total - rows, floor))
