"""What an experiment's hours say: who is best, if anyone is, and how the next hour is split.

Everything is computed anew from the stored hours, so that a late or repeated run says the same.
Where a unit is simply a success or not, the exact test of ``declaring`` decides; graded scores and
units of several requests are compared by ``declaring_means``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.random import Generator

from optimizer.evidence import Estimate, Outcome, Reason
from optimizer.experiment.batches import Batches, batches
from optimizer.experiment.design import METRICS as METRICS_COMPARED
from optimizer.experiment.design import Rule
from optimizer.experiment.life import Experiment
from optimizer.metrics import HOUR_S, METRICS, at, floor_s
from optimizer.statistics.clusters import MIN_CLUSTERS
from optimizer.statistics.declaring import (
    MIN_UNITS,
    NONE,
    Race,
    first_declared,
    new_race,
    rival_pairs,
)
from optimizer.statistics.declaring_means import MIN_SCORED, Leads, declared_mean, leads
from optimizer.statistics.thompson import after_declaration, top_two, top_two_means
from optimizer.statistics.watching import changed, observe_watch, watch_leader

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LABEL_ALARM = 2_000.0
"""Odds against scores that are missing alike, from which nothing is declared."""
EXACT = "exact test of successes, hour by hour"
CLUSTERED = "cluster-robust mean on hash buckets of units, hour by hour"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmStanding:
    """One arm so far: requests that count, their mean reward (higher is better), its next share."""

    arm: str
    n: int
    mean: float | None
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known at one hour.

    outcome: PASS when ``leader`` is proven the best, else INCONCLUSIVE or NO_DATA with the reason;
    since: start of the evidence, later than the experiment's where a change point voided what came
    before; shares: of the next hour's traffic, one an arm of the design; estimates: the leader
    against the baseline; in a trial of tuning the point against it, led or not, by every metric.
    """

    outcome: Outcome
    reason: Reason
    sentence: str
    shares: tuple[float, ...]
    arms: tuple[ArmStanding, ...]
    until: datetime | None = None
    since: datetime | None = None
    leader: str | None = None
    estimates: tuple[Estimate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What one kind of test says: the place of the arm declared, shares, counts and means (K,).

    voided: the position of the batch at whose end a leader provably changed, -1 = none.
    """

    leader: int
    shares: FloatArray
    n: FloatArray
    mean: FloatArray
    found: Leads
    lacking: Reason
    method: str
    voided: int = NONE


def standing(
    experiment: Experiment, hours: pd.DataFrame, *, now: datetime, until: datetime
) -> Standing:
    """Where the experiment stands, by its closed and mature hours.

    Args:
        experiment: one that has begun.
        hours: aggregates in windows of an hour, any slices.
        now: the hour that is decided for; with the id it seeds the draws.
        until: end of the data that count: closed, delivered, and old enough to be judged.

    Raises:
        DataError: hash buckets that cannot be read.
    """
    start = experiment.evidence_from
    if start is None:
        return _nothing(experiment, "its split is not yet proven in force")
    rows = hours[hours["window_start_s"] + HOUR_S <= until.timestamp()]
    arms = experiment.alive
    seen = batches(rows, experiment.target, arms, from_s=int(start.timestamp()))
    if not len(seen.start_s):
        return _nothing(experiment, "no hour of it is closed and old enough to be judged")
    said = _test(experiment, seen, now)
    if experiment.design.metric == "quality" and _labelled_unlike(seen):
        said = replace(said, leader=NONE, lacking=Reason.LABELS_IMBALANCED, voided=NONE)
    if said.voided != NONE:
        since = at(int(seen.start_s[said.voided]) + HOUR_S)
        again = standing(replace(experiment, evidence_from=since), rows, now=now, until=until)
        return replace(again, since=again.since or since)
    stands = _stand(experiment, said, until=at(int(seen.start_s[-1]) + HOUR_S))
    if experiment.design.rule is Rule.TUNING:
        return replace(stands, estimates=_of_point(experiment, said, seen))
    return stands


def rng_of(experiment: Experiment, now: datetime) -> Generator:
    """The generator of one experiment and hour: a repeated run draws the same."""
    text = f"{experiment.id}|{floor_s(now, HOUR_S)}"
    return np.random.default_rng(int.from_bytes(sha256(text.encode()).digest()[:8], "big"))


def even(experiment: Experiment) -> tuple[float, ...]:
    """An even split: each arm its zone, nothing for those that were dropped."""
    arms = experiment.design.arms
    return tuple(0.0 if arm in experiment.dropped else 1.0 / len(arms) for arm in arms)


def _nothing(experiment: Experiment, why: str) -> Standing:
    shares = even(experiment)
    return Standing(
        outcome=Outcome.NO_DATA,
        reason=Reason.NO_ROWS,
        sentence=why,
        shares=shares,
        arms=tuple(
            ArmStanding(arm=arm, n=0, mean=None, share=share)
            for arm, share in zip(experiment.design.arms, shares, strict=True)
        ),
    )


def _test(experiment: Experiment, seen: Batches, now: datetime) -> _Said:
    quality = experiment.design.metric == "quality"
    if seen.single and (seen.binary or not quality):
        sums = seen.sums
        units = sums["n_quality"] if quality else sums["n"]
        successes = sums["quality_e6"] // 1_000_000 if quality else sums["n"] - sums["n_failed"]
        return _by_counts(experiment, seen, units, successes, now)
    return _by_means(experiment, seen, now)


def _reward(metric: str, seen: Batches) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Sums of reward and of counts per bucket, and sums of squared rewards."""
    buckets, sums = seen.buckets, seen.sums
    if metric == "quality":
        squares = np.asarray(sums["quality_sq_e9"] * 1e-9)
        return buckets["quality_e6"] * 1e-6, buckets["n_quality"], squares
    succeeded = buckets["n"] - buckets["n_failed"]
    return succeeded, buckets["n"], (sums["n"] - sums["n_failed"]).astype(np.float64)


def _labelled_unlike(seen: Batches) -> bool:
    """Whether arms' answered requests are provably scored in different shares: no fair comparison.

    Counted on answered requests, so that an arm that fails less is not taken for one that is scored
    more.
    """
    answered = seen.buckets["n"] - seen.buckets["n_failed"]
    scored = np.minimum(seen.buckets["n_quality"], answered)
    found = leads(scored, answered, scored.sum(axis=-1), rivals=1, delta=1.0 / LABEL_ALARM)
    with np.errstate(invalid="ignore"):
        return bool(np.any(found.lower > 0))


def _first_batch(experiment: Experiment, seen: Batches) -> int:
    """Batches that must have passed before anything is declared."""
    started = experiment.started_at
    if started is None:
        return len(seen.start_s)
    earliest = (started + experiment.design.min_duration).timestamp()
    return int(np.count_nonzero(seen.start_s + HOUR_S < earliest))


def _rivals(experiment: Experiment) -> int:
    return rival_pairs(len(experiment.design.arms), dropped=bool(experiment.dropped))


def _by_counts(
    experiment: Experiment, seen: Batches, units: IntArray, successes: IntArray, now: datetime
) -> _Said:
    design, size = experiment.design, len(experiment.alive)
    y, x, squares = _reward(design.metric, seen)
    rivals = _rivals(experiment)
    found = leads(y, x, squares, rivals=rivals, delta=design.delta)
    total, good = units.sum(axis=0), successes.sum(axis=0)
    leader, voided = NONE, NONE
    if size > 1:
        batch, leader = first_declared(
            units,
            successes,
            rivals=rivals,
            not_before=_first_batch(experiment, seen),
            delta=design.delta,
        )
        if leader != NONE and design.keep_running:
            voided = _change_point(units, successes, batch, leader)
    return _Said(
        leader=leader,
        shares=_shares(
            experiment,
            leader,
            lambda rng: top_two(_race(total, good), rng, floor=design.floor),
            now,
        ),
        n=total.astype(np.float64),
        mean=good / np.maximum(total, 1),
        found=found,
        lacking=Reason.MIN_SAMPLE if total.min() < MIN_UNITS else Reason.WIDE_INTERVAL,
        method=EXACT,
        voided=voided,
    )


def _by_means(experiment: Experiment, seen: Batches, now: datetime) -> _Said:
    design = experiment.design
    y, x, squares = _reward(design.metric, seen)
    found = leads(y, x, squares, rivals=_rivals(experiment), delta=design.delta)
    soon = _first_batch(experiment, seen) >= len(seen.start_s)
    leader = NONE if soon or len(experiment.alive) < 2 else declared_mean(found)  # noqa: PLR2004
    lacking = Reason.WIDE_INTERVAL
    if found.rows.min() < MIN_SCORED:
        lacking = Reason.MIN_SAMPLE
    elif found.clusters.min() < MIN_CLUSTERS:
        lacking = Reason.MIN_CLUSTERS
    return _Said(
        leader=leader,
        shares=_shares(
            experiment,
            leader,
            lambda rng: top_two_means(
                found.mean, found.posterior_variance, rng, floor=design.floor
            ),
            now,
        ),
        n=found.rows,
        mean=found.mean,
        found=found,
        lacking=lacking,
        method=CLUSTERED,
    )


def _race(units: IntArray, successes: IntArray) -> Race:
    """The counts alone: the next hour's split needs nothing else."""
    return replace(new_race(len(units)), units=units, successes=successes)


def _change_point(units: IntArray, successes: IntArray, batch: int, leader: int) -> int:
    """The batch after which the declared leader provably leads no more; -1 = it still does."""
    race = new_race(units.shape[1])
    race = replace(race, units=units[: batch + 1].sum(0), successes=successes[: batch + 1].sum(0))
    held = watch_leader(race, leader)
    for position in range(batch + 1, len(units)):
        held = observe_watch(held, units[position], successes[position])
        if bool(changed(held)):
            return position
    return NONE


def _shares(
    experiment: Experiment, leader: int, drawn: Callable[[Generator], FloatArray], now: datetime
) -> FloatArray:
    """Shares of the next hour for the arms that are still compared, with a sum of 1."""
    design, size = experiment.design, len(experiment.alive)
    if design.rule is not Rule.TOP_TWO:
        return np.full(size, 1.0 / size)
    if leader != NONE and design.keep_running:
        return after_declaration(leader, arms=size, floor=design.floor)
    if size == 1:
        return np.ones(1)
    return drawn(rng_of(experiment, now))


def _stand(experiment: Experiment, said: _Said, *, until: datetime) -> Standing:
    alive = experiment.alive
    # What dropped arms held is the baseline's.
    kept = len(alive) / len(experiment.design.arms)
    share = {arm: kept * float(each) for arm, each in zip(alive, said.shares, strict=True)}
    leader = None if said.leader == NONE else alive[said.leader]
    arms = tuple(
        ArmStanding(
            arm=arm,
            n=int(said.n[place]),
            mean=float(said.mean[place]) if said.n[place] > 0 else None,
            share=share[arm],
        )
        for place, arm in enumerate(alive)
    )
    seen = ", ".join(
        f"{each.arm} {'unknown' if each.mean is None else format(each.mean, '.4f')} (n {each.n})"
        for each in arms
    )
    verdict = "no arm is proven the best" if leader is None else f"{leader} is proven the best"
    return Standing(
        outcome=Outcome.INCONCLUSIVE if leader is None else Outcome.PASS,
        reason=said.lacking if leader is None else Reason.NONE,
        sentence=f"{verdict} by {experiment.design.metric}: {seen}",
        shares=tuple(share.get(arm, 0.0) for arm in experiment.design.arms),
        arms=arms,
        until=until,
        leader=leader,
        estimates=_estimates(experiment, said, alive),
    )


def _estimates(experiment: Experiment, said: _Said, alive: tuple[str, ...]) -> tuple[Estimate, ...]:
    """The leader against the baseline."""
    leader, base = said.leader, experiment.baseline
    if leader == NONE or base not in alive or alive[leader] == base:
        return ()
    pair = (leader, alive.index(base))
    return (_estimate(experiment, experiment.design.metric, said, pair),)


def _of_point(experiment: Experiment, said: _Said, seen: Batches) -> tuple[Estimate, ...]:
    """The point of a trial against the baseline, by what decides and by every other metric.

    Nothing where scores are missing unlike: their difference would be told as an effect.
    """
    alive, base = experiment.alive, experiment.baseline
    pair = next(
        ((place, alive.index(base)) for place, arm in enumerate(alive) if arm != base), None
    )
    if pair is None or base not in alive or said.lacking is Reason.LABELS_IMBALANCED:
        return ()
    decides = experiment.design.metric
    found = [_estimate(experiment, decides, said, pair)]
    for metric in METRICS_COMPARED:
        if metric != decides:
            y, x, squares = _reward(metric, seen)
            other = leads(y, x, squares, rivals=1, delta=experiment.design.delta)
            beside = replace(said, n=other.rows, mean=other.mean, found=other, method=CLUSTERED)
            found.append(_estimate(experiment, metric, beside, pair))
    return tuple(found)


def _estimate(experiment: Experiment, name: str, said: _Said, pair: tuple[int, int]) -> Estimate:
    """The first arm of the pair against the second, in the metric's own unit and direction."""
    metric, (arm, base) = METRICS[name], pair
    sign = -float(metric.direction.harm_sign)
    low, high = said.found.lower[arm, base], said.found.upper[arm, base]
    ends = sorted((sign * float(low), sign * float(high)))
    own, other = (float(said.mean[each]) for each in pair)
    values = (1.0 - own, 1.0 - other) if sign < 0 else (own, other)
    return Estimate(
        metric=metric.name,
        unit=metric.unit,
        effect=_known(sign * float(said.found.lead[arm, base])),
        lower=_known(ends[0]),
        upper=_known(ends[1]),
        canary=_known(values[0]),
        control=_known(values[1]),
        n_canary=int(said.n[arm]),
        n_control=int(said.n[base]),
        confidence=1.0 - experiment.design.delta,
        method=said.method,
    )


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def matured_until(closed: datetime, now: datetime, maturity: timedelta, metric: str) -> datetime:
    """End of the data that count: scores need time to come, failures are known at once.

    Examples:
        >>> from datetime import UTC
        >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
        >>> matured_until(noon, noon, timedelta(hours=1), "quality").hour
        11
    """
    return min(closed, now - maturity) if metric == "quality" else closed
