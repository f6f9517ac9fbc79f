"""Shares of failed, rerouted or slow requests: exact counts where requests are independent.

Requests of one session fail together. Where units make one request each, the exact count test
decides, window by window, whatever the common failure rate does. Otherwise hash buckets give the
variance. The latency histogram has no buckets: its design effect is taken as the larger one of mean
latency and of failures, over both arms, at least 1. That is a substitute: exceedances of a
threshold are correlated no more than the latencies behind them, as far as these have a finite
variance; extreme tails may hide correlation.
"""

from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.evidence import Reason
from optimizer.judge.conclusions import Exact, conclude, shown
from optimizer.judge.means import (
    MIN_ROWS,
    PROMOTE_CLUSTERS,
    first_reason,
    rows_needed,
)
from optimizer.judge.questions import Answer, Question
from optimizer.judge.sums import CANARY, CONTROL, Sums, arms
from optimizer.metrics import Metric
from optimizer.statistics.anytime import bernoulli_lower, bernoulli_upper
from optimizer.statistics.clusters import (
    MIN_CLUSTERS,
    RatioEstimate,
    design_effect,
    equally_clustered,
    row_mean,
)
from optimizer.statistics.evalues import (
    Side,
    exact_increments,
    log_evalue,
    odds_ratios,
)
from optimizer.statistics.sequential import mid_p_z

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

MIN_EVENTS: Final = 5
"""Events in both arms together below which a share has no asymptotic limits."""

EXACT: Final = "exact counts"
CLUSTERED: Final = "cluster-robust share on hash buckets of units"


def answer_share(question: Question, sums: Sums) -> Answer:
    """Harm in a share; see the module for which test decides."""
    metric, case = question.metric, question.case
    events, rows = sums.totals[metric.numerator][case], sums.totals[metric.denominator][case]
    single = sums.single[case]
    control, canary = share_estimates(metric, case, sums)
    clusters = np.minimum(canary.clusters, control.clusters)
    frequent = events.sum(axis=1) >= MIN_EVENTS
    enough = (rows.min(axis=1) >= MIN_ROWS) & frequent
    burnt_in = enough & (clusters >= MIN_CLUSTERS)
    exact = single & (question.tolerance == 0)
    log_e, odds = _count_test(question, sums, exact)
    found = conclude(
        question,
        canary,
        control,
        rows,
        readable=burnt_in,
        promotable=enough & (clusters >= PROMOTE_CLUSTERS),
        exact=Exact(decides=exact, z=_exact_deviate(events, rows, exact), proven=odds > 1),
        alike=_alike(canary, control, _independent(events, rows), single),
    )
    effect = np.where(single[:, None], 1.0, sums.clustered.dispersion[case])
    rare = _rare_upper(question, events, rows, effect, where=~frequent)
    by_count = (rare < question.margin) & ~question.spent_margin
    by_count &= question.schedule.final | ~question.schedule.has_plan
    found = replace(found, passed=np.where(frequent, found.passed, by_count))
    lower = np.fmax(found.harm.lower, _exact_lower(odds, events, rows, relative=question.relative))
    upper = np.where(frequent, found.harm.upper, rare)
    lacking = first_reason(
        (rows.min(axis=1) == 0, Reason.NO_ROWS),
        (rows.min(axis=1) < MIN_ROWS, Reason.MIN_SAMPLE),
        (clusters < PROMOTE_CLUSTERS, Reason.MIN_CLUSTERS),
        (~frequent & ~(rare < question.margin), Reason.MIN_EVENTS),
        (~np.isfinite(upper), Reason.BASELINE_NEAR_ZERO),
    )
    harm = shown(question, found, lower, np.where(lacking == Reason.NONE, upper, np.nan))
    return Answer(
        harm=harm,
        failed=found.failed,
        passed=found.passed,
        canary=canary.value,
        control=control.value,
        rows=rows.astype(np.int64),
        lacking=lacking,
        needed=rows_needed(question, harm, rows, lacking),
        z=found.z,
        log_e=log_e,
        method=np.where(exact, EXACT, CLUSTERED).astype(object),
        look=found.look,
        promotion=found.promotion,
    )


def _exact_deviate(events: FloatArray, rows: FloatArray, exact: BoolArray) -> FloatArray:
    """The conditional deviate of the canary's events, shape (n,); nan where an arm is empty.

    nan also where the test does not decide.
    """
    z = np.full(exact.size, np.nan)
    counts = [each[exact] for each in (events, rows)]
    z[exact] = mid_p_z(*(each[:, arm] for arm in (CANARY, CONTROL) for each in counts))
    return z


def share_estimates(
    metric: Metric, case: IntArray, sums: Sums
) -> tuple[RatioEstimate, RatioEstimate]:
    """Control's and the canary's share; its variance is never below that of smoothed counts."""
    single, spread = sums.single[case], sums.clustered.dispersion[case]
    events, rows = sums.totals[metric.numerator][case], sums.totals[metric.denominator][case]
    size = np.where(rows > 0, rows, np.nan)
    independent = _independent(events, rows)
    ratio = sums.clustered.ratios.get(metric.name)
    if ratio is not None:
        estimates = arms(ratio, case)
        clustered = np.stack([each.variance for each in estimates], axis=1)
    else:
        effect = np.ones(case.size)
        effect[~single] = _latency_design_effect(sums, case[~single])
        clustered = independent * effect[:, None]
    # No event at all: units are taken to agree wholly, the widest there is.
    wide_size = size / spread
    wide = (events / spread + 1.0) / (wide_size + 2.0)
    widest = np.where(single[:, None], independent, wide * (1.0 - wide) / wide_size)
    known = np.isfinite(clustered)
    variance = np.where(known, np.fmax(clustered, independent), widest)
    clusters = sums.clustered.clusters[case]
    control, canary = (
        RatioEstimate(
            value=events[:, arm] / size[:, arm],
            variance=variance[:, arm],
            clusters=clusters[:, arm],
        )
        for arm in (CONTROL, CANARY)
    )
    return control, canary


def _alike(
    canary: RatioEstimate, control: RatioEstimate, independent: FloatArray, single: BoolArray
) -> tuple[RatioEstimate, RatioEstimate]:
    """Both arms with the larger of their design effects, where requests come in sessions."""
    wide = equally_clustered((canary, control), (independent[:, CANARY], independent[:, CONTROL]))
    own = (canary.variance, control.variance)
    canary, control = (
        replace(each, variance=np.where(single, variance, each.variance))
        for each, variance in zip(wide, own, strict=True)
    )
    return canary, control


def _independent(events: FloatArray, rows: FloatArray) -> FloatArray:
    """Variance of the share of independent requests, from smoothed counts, shape (n, 2)."""
    size = np.where(rows > 0, rows, np.nan)
    smooth = (events + 1.0) / (size + 2.0)
    return np.asarray(smooth * (1.0 - smooth) / size)


def _latency_design_effect(sums: Sums, case: IntArray) -> FloatArray:
    """The larger design effect of latency and of failures over both arms, >= 1; nan unknown."""
    moments = sums.latency[:, case]
    latency, failures = (
        arms(sums.clustered.ratios[name], case) for name in ("latency_ms", "failure_rate")
    )
    failed, rows = sums.totals["n_failed"][case], sums.totals["n"][case]
    effects = []
    for arm in (CONTROL, CANARY):
        iid = row_mean(*(moment[:, arm] for moment in moments))
        effects.append(design_effect(latency[arm], iid))
        iid = row_mean(rows[:, arm], failed[:, arm], failed[:, arm])
        effects.append(design_effect(failures[arm], iid))
    largest = np.fmax.reduce(effects)
    return np.asarray(np.maximum(largest, 1.0))


def _count_test(question: Question, sums: Sums, exact: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Log e-value and the odds ratio that is excluded from below, nan where the test does not run.

    The odds ratio is above 1 exactly where the e-value exceeds 1 / alpha.
    """
    metric = question.metric
    position = np.full(len(sums.foreign), -1)
    position[question.case] = np.where(exact, np.arange(question.case.size), -1)
    windows = sums.windows
    asked = position[windows.case]
    # A window without events adds exactly nothing, whatever its sizes.
    chosen = (asked >= 0) & windows.counts[metric.numerator].any(axis=1)
    events = windows.counts[metric.numerator][chosen]
    rows = windows.counts[metric.denominator][chosen]
    increments = exact_increments(
        events[:, CANARY], rows[:, CANARY], events[:, CONTROL], rows[:, CONTROL]
    )
    state = np.zeros((question.case.size, increments.shape[-1]))
    np.add.at(state, asked[chosen], increments)
    log_e = np.where(exact, log_evalue(state), np.nan)
    threshold = -np.log(question.alpha_lower)
    # Elsewhere the odds ratio 1 is not excluded, so that no limit is known.
    harmful = log_e > threshold
    odds = np.full(question.case.size, np.nan)
    odds[harmful] = _odds_limit(state[harmful], threshold[harmful])
    return log_e, odds


def _odds_limit(state: FloatArray, threshold: FloatArray) -> FloatArray:
    """The largest odds ratio all smaller ones of which are excluded, where 1 is.

    The sequence is inverted on the grid of the test: each grid point is priced against those beyond
    it; between grid points its log e-value is interpolated. Only the exclusion of 1 decides.
    """
    log_psi = np.r_[0.0, np.log(odds_ratios(Side.HIGHER))]
    likelihood = np.concatenate([np.zeros((len(state), 1)), state], axis=1)
    log_e = np.stack(
        [
            log_evalue(likelihood[:, j + 1 :] - likelihood[:, j : j + 1])
            for j in range(likelihood.shape[1] - 1)
        ],
        axis=1,
    )
    kept = log_e <= threshold[:, None]
    first = np.where(kept.any(axis=1), kept.argmax(axis=1), log_e.shape[1] - 1)
    row = np.arange(len(state))
    before = np.maximum(first - 1, 0)
    high, low = log_e[row, before], log_e[row, first]
    step = np.divide(high - threshold, high - low, out=np.zeros(len(state)), where=high > low)
    limit = log_psi[before] + np.clip(step, 0.0, 1.0) * (log_psi[first] - log_psi[before])
    return np.where(first > 0, np.exp(limit), np.nan)


def _exact_lower(
    odds: FloatArray, events: FloatArray, rows: FloatArray, *, relative: BoolArray
) -> FloatArray:
    """Harm at an odds ratio, from control's smoothed share, at most the observed difference."""
    size = np.where(rows > 0, rows, np.nan)
    base = (events[:, CONTROL] + 0.5) / (size[:, CONTROL] + 1.0)
    worse = odds * base / (1.0 - base + odds * base)
    seen = events / size
    observed = seen[:, CANARY] - seen[:, CONTROL]
    harm = np.where(observed > 0, np.minimum(worse - base, observed), worse - base)
    return np.where(relative, harm / base, harm)


def _rare_upper(
    question: Question,
    events: FloatArray,
    rows: FloatArray,
    spread: FloatArray,
    *,
    where: BoolArray,
) -> FloatArray:
    """Upper limit of absolute harm from few events: the canary's upper less control's lower limit.

    Both limits are exact Bernoulli confidence sequences at half the error each, on counts divided
    by the widest design effect; nan for relative harm, which few events cannot bound, and where it
    is not asked for.
    """
    known = ((rows > 0) & np.isfinite(spread)).all(axis=1)
    usable = where & known & ~question.relative
    k, n = (counts[usable] / spread[usable] for counts in (events, rows))
    alpha = question.alpha_upper[usable] / 2.0
    upper = np.full(usable.size, np.nan)
    upper[usable] = bernoulli_upper(k[:, CANARY], n[:, CANARY], alpha=alpha) - bernoulli_lower(
        k[:, CONTROL], n[:, CONTROL], alpha=alpha
    )
    return upper
