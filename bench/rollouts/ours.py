"""The rules of this project on window sums: hourly looks, the five-minute guard, promotion.

Everything statistical is the project's own; here is only which sums are asked when. A rollout is
rolled back by the first guardrail that crosses its boundary or by the guard, whichever is earlier,
and is otherwise asked at the planned end, and once more at the extension, whether it may be
promoted. What cannot be answered is never answered with yes.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.rollouts.design import PROMOTE_ALPHA, Design, Guardrail
from bench.rollouts.plan import CANARY, CONTROL, EXTENSION_HOURS
from bench.rollouts.world import BUCKETS, FAILURE, LABELS, REQUESTS, Sums
from optimizer.statistics.anytime import (
    TIGHTEST_ROLLBACK,
    bernoulli_interval,
    half_width_multiplier,
)
from optimizer.statistics.clusters import (
    MIN_CLUSTERS,
    Difference,
    RatioEstimate,
    bucket_ratio,
    equally_clustered,
    harm,
)
from optimizer.statistics.crossing import crosses, promotion_spending
from optimizer.statistics.evalues import exact_increments, log_evalue_path, srm_log_evalue
from optimizer.statistics.sequential import mid_p_z

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

MIN_REQUESTS: Final = 100
MIN_EVENTS: Final = 5
PROMOTE_REQUESTS: Final = 200
PROMOTE_CLUSTERS: Final = 50
PROMOTE_LABELS: Final = 100
SRM_LIMIT: Final = float(np.log(1_000.0))
ROLLOUTS_AT_ONCE: Final = 200
"""So that the guard's state of many windows stays within some tens of megabytes."""


class Ending(IntEnum):
    """How a rollout ends."""

    ROLLED_BACK = 0
    PROMOTED = 1
    EXTENDED = 2
    REVERTED = 3


class State(IntEnum):
    """What one required metric says at a promotion look."""

    NO_DATA = 0
    INCONCLUSIVE = 1
    PASS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Ends of R rollouts.

    ending: shape (R,), of ``Ending``; window: the newest window it rests on, shape (R,); guard:
    whether the five-minute guard rolled it back; states: of every required metric at the look that
    decided, shape (R, required), ``PASS`` where nothing was asked; srm: whether the split was found
    broken by then.
    """

    ending: IntArray
    window: IntArray
    guard: BoolArray
    states: IntArray
    srm: BoolArray


def verdicts(sums: Sums, design: Design) -> Verdicts:
    """How each rollout ends."""
    plan, rollouts = sums.plan, sums.rollouts
    looks, guards = hourly_rollbacks(sums, design), guard_rollbacks(sums, design.monitors)
    back = np.minimum(looks, guards)
    last = plan.hours * plan.windows_an_hour - 1
    ending = np.full(rollouts, Ending.REVERTED, dtype=np.int64)
    window = np.full(rollouts, last)
    states = np.full((rollouts, len(design.required)), State.PASS, dtype=np.int64)
    srm = np.zeros(rollouts, dtype=bool)
    if design.required:
        for hour, passed in zip(_promotion_hours(sums), _promotions(sums, design), strict=True):
            end = hour * plan.windows_an_hour - 1
            broken = _srm(sums, hour)
            open_ = (ending == Ending.REVERTED) & (back > end)
            states[open_], srm[open_] = passed[open_], broken[open_]
            ready = open_ & (passed == State.PASS).all(axis=1) & ~broken
            ending[ready] = Ending.PROMOTED if hour == plan.planned_hours else Ending.EXTENDED
            window[ready] = end
    rolled = (ending == Ending.REVERTED) & (back <= last)
    ending[rolled], window[rolled] = Ending.ROLLED_BACK, back[rolled]
    return Verdicts(
        ending=ending, window=window, guard=rolled & (guards < looks), states=states, srm=srm
    )


def hourly_rollbacks(sums: Sums, design: Design) -> IntArray:
    """The window at whose end a guardrail first crosses its boundary; beyond all for never."""
    plan = sums.plan
    never = np.full(sums.rollouts, plan.hours * plan.windows_an_hour)
    for guardrail in design.guardrails:
        z, fractions = looks(sums, guardrail)
        for look in range(plan.hours):
            end = (look + 1) * plan.windows_an_hour - 1
            asked = np.flatnonzero((never > end) & np.isfinite(z[:, look]))
            if not asked.size:
                continue
            found = crosses(
                z[asked, look],
                fractions[asked, : look + 1],
                alpha=guardrail.alpha,
                closing=(fractions[asked, look] >= 1.0) | (look + 1 >= plan.planned_hours),
            )
            never[asked[found.crossed]] = end
    return never


def looks(sums: Sums, guardrail: Guardrail) -> tuple[FloatArray, FloatArray]:
    """Deviates and information fractions of the hourly looks, shape (R, hours); nan = no look.

    The look at the planned end is the last one; where that hour brought nothing new, it is the
    first one after it that does.
    """
    hours = np.arange(sums.plan.hours)
    n = _sizes(sums, guardrail)[:, hours]
    z, clusters = deviates(sums, guardrail, hours)
    information = n[..., CANARY] * n[..., CONTROL] / np.maximum(n.sum(axis=-1), 1)
    fractions = information / sums.plan.information(guardrail.measured)[0]
    enough = (n.min(axis=-1) >= MIN_REQUESTS) & (clusters >= MIN_CLUSTERS)
    if guardrail.share:
        events = sums.by_hour(sums.events[guardrail.name])[:, hours]
        enough &= events.sum(axis=-1) >= MIN_EVENTS
    new = np.diff(fractions, axis=1, prepend=0.0) > 0
    ready = enough & new & np.isfinite(z)
    closing = ready & ((fractions >= 1.0) | (hours + 1 >= sums.plan.planned_hours))
    taken = ready & (np.cumsum(closing, axis=1) - closing == 0)
    return np.where(taken, z, np.nan), np.where(taken, fractions, np.nan)


def guard_rollbacks(sums: Sums, alpha: float) -> IntArray:
    """The window at which the five-minute guard on failures first alarms; beyond all for never."""
    windows = sums.n.shape[1]
    never = np.full(sums.rollouts, windows)
    if alpha <= 0:
        return never
    for start in range(0, sums.rollouts, ROLLOUTS_AT_ONCE):
        part = slice(start, start + ROLLOUTS_AT_ONCE)
        alarm = _guard_clustered(sums, part, alpha) if sums.clustered else _guard(sums, part, alpha)
        never[part] = np.where(alarm.any(axis=1), alarm.argmax(axis=1), windows)
    return never


def _guard(sums: Sums, part: slice, alpha: float) -> BoolArray:
    n, k = sums.n[part], sums.events[FAILURE][part]
    increments = exact_increments(k[..., CANARY], n[..., CANARY], k[..., CONTROL], n[..., CONTROL])
    return np.asarray(log_evalue_path(increments) >= -np.log(alpha))


def _guard_clustered(sums: Sums, part: slice, alpha: float) -> BoolArray:
    """Hour by hour, so that no array over all windows and buckets is ever held twice."""
    step = sums.plan.windows_an_hour
    fine = {name: table[part] for name, table in sums.fine.items()}
    rollouts, windows = fine[REQUESTS].shape[:2]
    alarm = np.zeros((rollouts, windows), dtype=bool)
    before = {name: np.zeros((rollouts, 1, 2, BUCKETS)) for name in fine}
    for start in range(0, windows, step):
        now = {
            name: before[name] + np.cumsum(table[:, start : start + step], axis=1, dtype=float)
            for name, table in fine.items()
        }
        before = {name: table[:, -1:] for name, table in now.items()}
        n, k = now[REQUESTS].sum(axis=-1), now[FAILURE].sum(axis=-1)
        estimates = [
            clustered_share(now[FAILURE][..., arm, :], now[REQUESTS][..., arm, :])
            for arm in (CANARY, CONTROL)
        ]
        difference = harm(*estimates, harm_sign=1)
        clusters = np.minimum(*(each.clusters for each in estimates))
        multiplier = half_width_multiplier(
            n.sum(axis=-1), alpha=alpha, tightest_at=TIGHTEST_ROLLBACK, two_sided=False
        )
        burnt_in = (n.min(axis=-1) >= MIN_REQUESTS) & (k.sum(axis=-1) >= MIN_EVENTS)
        with np.errstate(invalid="ignore"):
            beyond = difference.z >= multiplier
        alarm[:, start : start + step] = burnt_in & (clusters >= MIN_CLUSTERS) & beyond
    return alarm


def _promotion_hours(sums: Sums) -> tuple[int, ...]:
    planned = sums.plan.planned_hours
    held = sums.plan.hold_hours >= EXTENSION_HOURS
    return (planned, planned + EXTENSION_HOURS) if held else (planned,)


def _promotions(sums: Sums, design: Design) -> list[IntArray]:
    """The state of every required metric at each promotion look, shape (R, required)."""
    hours = _promotion_hours(sums)
    found = [np.empty((sums.rollouts, len(design.required)), dtype=np.int64) for _ in hours]
    for column, guardrail in enumerate(design.required):
        planned, extended = sums.plan.information(guardrail.measured)
        ends = np.array(hours) - 1
        n = _sizes(sums, guardrail)[:, ends]
        z, clusters = deviates(sums, guardrail, ends, promotion=True)
        enough = _floor(sums, guardrail, n, ends) & (clusters >= PROMOTE_CLUSTERS)
        taken = np.full((sums.rollouts, len(hours)), np.nan)
        for look in range(len(hours)):
            size = n[:, look]
            information = size[:, CANARY] * size[:, CONTROL] / np.maximum(size.sum(axis=-1), 1)
            fraction = information / planned
            earlier = np.fmax.reduce(np.nan_to_num(taken[:, :look]), axis=1, initial=0.0)
            asked = enough[:, look] & np.isfinite(z[:, look]) & (fraction > earlier)
            taken[:, look] = np.where(asked, fraction, np.nan)
            crossed = crosses(
                np.where(asked, z[:, look], np.nan),
                taken[:, : look + 1],
                alpha=PROMOTE_ALPHA,
                spending=promotion_spending(extended / planned),
            ).crossed
            state = np.where(crossed, State.PASS, State.INCONCLUSIVE)
            found[look][:, column] = np.where(size.min(axis=-1) > 0, state, State.NO_DATA)
    return found


def _floor(sums: Sums, guardrail: Guardrail, n: IntArray, hours: IntArray) -> BoolArray:
    """Whether a promotion look may be taken after some hours, shape (R, hours)."""
    if guardrail.denominator == LABELS:
        return np.asarray(n.min(axis=-1) >= PROMOTE_LABELS)
    least = max(PROMOTE_REQUESTS, 0.5 * sums.plan.planned_canary)
    enough = np.asarray(n[..., CANARY] >= least)
    if guardrail.share:
        events = sums.by_hour(sums.events[guardrail.name])[:, hours]
        frequent = events.sum(axis=-1) >= MIN_EVENTS
        k, size = events[..., CANARY], n[..., CANARY]
        upper = bernoulli_interval(k, size, alpha=PROMOTE_ALPHA)[1]
        control = events[..., CONTROL] / np.maximum(n[..., CONTROL], 1)
        enough &= frequent | (upper < control + (guardrail.margin or 0.0))
    return enough


def _srm(sums: Sums, hour: int) -> BoolArray:
    units = sums.units[:, : hour * sums.plan.windows_an_hour].sum(axis=1)
    evidence = srm_log_evalue(
        units[:, CANARY], units[:, CONTROL], control_ratio=sums.plan.control_ratio
    )
    return np.asarray(evidence >= SRM_LIMIT)


def deviates(
    sums: Sums, guardrail: Guardrail, hours: IntArray, *, promotion: bool = False
) -> tuple[FloatArray, IntArray]:
    """Deviates of harm, or of its distance below the margin, and clusters after some hours."""
    margin = guardrail.margin or 0.0
    if guardrail.share and not sums.clustered:
        n, k = (sums.by_hour(table)[:, hours] for table in (sums.n, sums.events[guardrail.name]))
        clusters = np.minimum(n.min(axis=-1), BUCKETS)
        if promotion:
            estimates = [counted_share(k[..., arm], n[..., arm]) for arm in (CANARY, CONTROL)]
            found = harm(*estimates, harm_sign=guardrail.sign, absolute_margin=margin)
            return -found.z, clusters
        z = mid_p_z(k[..., CANARY], n[..., CANARY], k[..., CONTROL], n[..., CONTROL])
        return z, clusters
    y, x = (
        np.cumsum(sums.buckets[name], axis=1)[:, hours]
        for name in (guardrail.name, guardrail.denominator)
    )
    estimate = clustered_share if guardrail.share else bucket_ratio
    canary, control = (estimate(y[..., arm, :], x[..., arm, :]) for arm in (CANARY, CONTROL))
    clusters = np.minimum(canary.clusters, control.clusters)
    if not promotion:
        return harm(canary, control, harm_sign=guardrail.sign).z, clusters
    if guardrail.share:
        sums_of = [
            (y[..., arm, :].sum(axis=-1), x[..., arm, :].sum(axis=-1)) for arm in (CANARY, CONTROL)
        ]
        canary, control = equally_clustered(
            (canary, control), (counted_variance(*sums_of[0]), counted_variance(*sums_of[1]))
        )
    found = harm(canary, control, harm_sign=guardrail.sign, absolute_margin=margin)
    return -found.z, clusters


def counted_share(k: IntArray, n: IntArray) -> RatioEstimate:
    """A share of independent requests, its variance from smoothed counts so that it is never 0."""
    return RatioEstimate(
        value=k / np.maximum(n, 1), variance=counted_variance(k, n), clusters=np.maximum(n, 2)
    )


def counted_variance(k: npt.ArrayLike, n: npt.ArrayLike) -> FloatArray:
    """Variance of a share of independent requests, from smoothed counts."""
    events, size = np.asarray(k, dtype=np.float64), np.maximum(np.asarray(n, dtype=np.float64), 1.0)
    smooth = (events + 1.0) / (size + 2.0)
    return np.asarray(smooth * (1.0 - smooth) / size)


def clustered_share(y: FloatArray, x: FloatArray) -> RatioEstimate:
    """A share from bucket sums of shape (..., B), as the judge reads it.

    Its variance is never below that of independent requests, and where the buckets show no spread
    that of units whose requests agree wholly, the widest there is.
    """
    found = bucket_ratio(y, x)
    k, n, mean = y.sum(axis=-1), x.sum(axis=-1), x.mean(axis=-1)
    spread = np.maximum(x.var(axis=-1, ddof=1) / np.where(mean > 0, mean, np.nan), 1.0)
    variance = np.where(
        np.isfinite(found.variance),
        np.maximum(found.variance, counted_variance(k, n)),
        counted_variance(k / spread, n / spread),
    )
    return replace(found, variance=variance)


def bucket_harm(
    y: FloatArray, x: FloatArray, sign: int, margin: float = 0.0
) -> tuple[Difference, IntArray]:
    """Harm from bucket sums of shape (..., 2, B), and the smaller number of clusters."""
    canary, control = (bucket_ratio(y[..., arm, :], x[..., arm, :]) for arm in (CANARY, CONTROL))
    found = harm(canary, control, harm_sign=sign, absolute_margin=margin)
    return found, np.minimum(canary.clusters, control.clusters)


def _sizes(sums: Sums, guardrail: Guardrail) -> IntArray:
    """Requests, or labels, after each hour, shape (R, hours, 2)."""
    if guardrail.denominator == REQUESTS:
        return sums.by_hour(sums.n)
    labels = sums.buckets[guardrail.denominator].sum(axis=-1)
    return np.asarray(np.cumsum(labels, axis=1), dtype=np.int64)
