"""Worlds drawn request by request and summed at once: sessions, and metrics that are means.

A session has one chance of failure, one place on every other metric's scale, one hash and hence one
arm and one bucket, however many windows its requests fall into.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.rollouts.bursts import arrived
from bench.rollouts.independent import arrivals, hourly_rates
from bench.rollouts.plan import CANARY, CONTROL, Plan
from bench.rollouts.world import (
    BUCKETS,
    COST,
    FAILURE,
    LABELS,
    LATENCY,
    QUALITY,
    REQUESTS,
    SLOW,
    Sums,
    Units,
    World,
)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

SESSION_REQUESTS: Final = 10
SPAN_HOURS: Final = 3
SLOW_SHARE: Final = 0.05
"""Requests slower than the threshold, which is the baseline's p95."""
MEAN_SCORE: Final = 0.8
SCORE_SD: Final = 0.16
LATENCY_MS: Final = 1_000.0
MOST_FAILURES: Final = 0.9
"""A session's chance of failure is drawn around a mean of at most this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Requests in no order: their rollout, window and arm; their unit, a number from 0 on.

    fails: chance of failure of each unit; bucket: of each unit.
    """

    rollout: IntArray
    window: IntArray
    arm: IntArray
    unit: IntArray
    fails: FloatArray
    bucket: IntArray


def summed(world: World, plan: Plan, rollouts: int, chance: np.random.Generator) -> Sums:
    """Windows of a world whose requests are drawn one by one."""
    if world.units is Units.SINGLE:
        drawn = _single(world, plan, rollouts, chance)
    elif world.units is Units.BURST:
        drawn = _bursts(world, plan, rollouts, chance)
    else:
        drawn = _sessions(world, plan, rollouts, chance)
    return _sums(world, plan, rollouts, drawn, chance)


def _single(world: World, plan: Plan, rollouts: int, chance: np.random.Generator) -> Requests:
    n = arrivals(world, plan, rollouts, chance)
    rates = np.repeat(hourly_rates(world, plan, rollouts, chance), plan.windows_an_hour, axis=1)
    cell = np.repeat(np.arange(n.size), n.reshape(-1))
    rollout, window, arm = np.unravel_index(cell, n.shape)
    return Requests(
        rollout=rollout,
        window=window,
        arm=arm,
        unit=np.arange(cell.size),
        fails=rates.reshape(-1)[cell],
        bucket=chance.integers(0, BUCKETS, cell.size),
    )


def _sessions(world: World, plan: Plan, rollouts: int, chance: np.random.Generator) -> Requests:
    spans = world.units is Units.SPAN
    early = SPAN_HOURS if spans else 0
    sessions = chance.poisson(plan.volume / SESSION_REQUESTS * (plan.hours + early), rollouts)
    owner = np.repeat(np.arange(rollouts), sessions)
    start = chance.uniform(-early, plan.hours, owner.size)
    size = (
        chance.geometric(1.0 / SESSION_REQUESTS, owner.size)
        if spans
        else np.full(owner.size, SESSION_REQUESTS)
    )
    place = chance.random(owner.size)
    fails = _chances(world, plan, place, chance)
    bucket = chance.integers(0, BUCKETS, owner.size)
    unit = np.repeat(np.arange(owner.size), size)
    hours = start[unit]
    if spans:
        hours = hours + chance.uniform(0.0, SPAN_HOURS, unit.size)
    inside = (hours >= 0) & (hours < plan.hours)
    unit, hours = unit[inside], hours[inside]
    hour = hours.astype(np.int64)
    lost = chance.random((rollouts, plan.hours)) < world.missing
    arm = _arm(world, plan, place[unit], hour)
    kept = (arm >= 0) & ~lost[owner[unit], hour]
    return Requests(
        rollout=owner[unit][kept],
        window=(hours[kept] * plan.windows_an_hour).astype(np.int64),
        arm=arm[kept],
        unit=unit[kept],
        fails=fails,
        bucket=bucket,
    )


def _bursts(world: World, plan: Plan, rollouts: int, chance: np.random.Generator) -> Requests:
    came = arrived(world, plan, rollouts, chance)
    place = chance.random(came.rollout.size)
    fails = _chances(world, plan, place, chance, rate=came.rate)
    bucket = chance.integers(0, BUCKETS, came.rollout.size)
    hour = came.window // plan.windows_an_hour
    lost = chance.random((rollouts, plan.hours)) < world.missing
    arm = _arm(world, plan, place[came.unit], hour)
    kept = (arm >= 0) & ~lost[came.rollout[came.unit], hour]
    return Requests(
        rollout=came.rollout[came.unit][kept],
        window=came.window[kept],
        arm=arm[kept],
        unit=came.unit[kept],
        fails=fails,
        bucket=bucket,
    )


def _chances(
    world: World,
    plan: Plan,
    place: FloatArray,
    chance: np.random.Generator,
    *,
    rate: FloatArray | float = 1.0,
) -> FloatArray:
    """Each session's chance of failure: Beta with the arm's mean, correlation ``icc`` within it.

    rate: of each session, over the world's.
    """
    shares = plan.hourly_shares()
    mean = np.where(place < shares[:, CANARY].max(), world.rate * world.effect, world.rate)
    mean = np.minimum(mean * rate, MOST_FAILURES)
    weight = 1.0 / world.icc - 1.0
    return np.asarray(chance.beta(mean * weight, (1.0 - mean) * weight))


def _arm(world: World, plan: Plan, place: FloatArray, hour: IntArray) -> IntArray:
    """The arm a session's place in [0, 1) belongs to at an hour's shares; -1 for neither."""
    shares = plan.hourly_shares()[hour]
    neither = np.full(place.shape, -1)
    canary = place < shares[:, CANARY]
    arm = np.where(place >= 1.0 - shares[:, CONTROL], CONTROL, neither)
    return np.where(canary, CANARY if world.canary else -1, arm)


def _sums(
    world: World, plan: Plan, rollouts: int, drawn: Requests, chance: np.random.Generator
) -> Sums:
    windows = plan.hours * plan.windows_an_hour
    coarse = (rollouts, windows, 2)
    cell = (drawn.rollout * windows + drawn.window) * 2 + drawn.arm
    failed = chance.random(cell.size) < drawn.fails[drawn.unit]
    speed = _standard(world, drawn, chance)
    slow = failed | (speed > _slow_limit(world, drawn))
    bucket = drawn.bucket[drawn.unit]
    clustered = world.units is not Units.SINGLE
    hour = drawn.window // plan.windows_an_hour
    hourly = ((drawn.rollout * plan.hours + hour) * 2 + drawn.arm) * BUCKETS + bucket
    shape = (rollouts, plan.hours, 2, BUCKETS)
    fine = {}
    buckets = {REQUESTS: _table(hourly, shape), SLOW: _table(hourly[slow], shape)}
    if clustered:
        place = cell * BUCKETS + bucket
        fine = {
            REQUESTS: _table(place, (*coarse, BUCKETS)).astype(np.int16),
            FAILURE: _table(place[failed], (*coarse, BUCKETS)).astype(np.int16),
        }
        buckets[FAILURE] = _table(hourly[failed], shape)
    if world.means:
        buckets |= _means(world, plan, drawn, (hourly, shape), speed, chance)
    return Sums(
        plan=plan,
        lag_hours=world.lag_hours,
        n=_table(cell, coarse).astype(np.int64),
        units=_first_seen(drawn, cell, coarse) if clustered else _table(cell, coarse).astype(int),
        events={
            FAILURE: _table(cell[failed], coarse).astype(np.int64),
            SLOW: _table(cell[slow], coarse).astype(np.int64),
        },
        fine=fine,
        buckets=buckets,
    )


def _slow_limit(world: World, drawn: Requests) -> FloatArray:
    """Where an answered request's log latency counts as slow; failures count on top."""
    shares = SLOW_SHARE * np.array([1.0, world.slow_effect])
    return np.asarray(-special.ndtri(shares))[drawn.arm]


def _means(  # noqa: PLR0917 - what a request is made of
    world: World,
    plan: Plan,
    drawn: Requests,
    place: tuple[IntArray, tuple[int, ...]],
    speed: FloatArray,
    chance: np.random.Generator,
) -> dict[str, FloatArray]:
    """Sums of cost, latency and quality over hash buckets by hour."""
    hourly, shape = place
    canary = drawn.arm == CANARY
    log_mean = -0.5 * world.sigma**2
    cost = world.cost_usd * np.exp(world.sigma * _standard(world, drawn, chance) + log_mean)
    cost *= np.where(canary, world.cost_effect, 1.0)
    latency = LATENCY_MS * np.exp(world.sigma * speed + log_mean)
    labelled = chance.random(hourly.size) < world.labelled
    score = np.clip(MEAN_SCORE + SCORE_SD * _standard(world, drawn, chance), 0.0, 1.0)
    # The loss is taken after the scale's end has cut scores off, so that the harm is exact.
    score -= np.where(canary, world.quality_loss, 0.0)
    later = _hours_to_count(world, plan, drawn.window, chance)
    # A score that counts only after the end never counts.
    labelled &= drawn.window // plan.windows_an_hour + later < plan.hours
    scored = (hourly + later * 2 * BUCKETS)[labelled]
    return {
        COST: _table(hourly, shape, cost),
        LATENCY: _table(hourly, shape, latency),
        LABELS: _table(scored, shape),
        QUALITY: _table(scored, shape, score[labelled]),
    }


def _hours_to_count(
    world: World, plan: Plan, window: IntArray, chance: np.random.Generator
) -> IntArray:
    """Hours from a request's own hour to the one at whose end its score counts, if it has one.

    A score counts once it is there and its window is mature, as the judge counts it.
    """
    wait = np.full(window.size, world.maturity_hours * plan.windows_an_hour)
    if world.label_delay_hours > 0:
        mean = max(world.label_delay_hours * plan.windows_an_hour, 1.0)
        wait = np.maximum(wait, chance.geometric(1.0 / mean, window.size))
    hour = window // plan.windows_an_hour
    return np.asarray((window + wait) // plan.windows_an_hour - hour, dtype=np.int64)


def _standard(world: World, drawn: Requests, chance: np.random.Generator) -> FloatArray:
    """A standard normal deviate of each request, correlated within sessions."""
    own = chance.standard_normal(drawn.unit.size)
    if world.units is Units.SINGLE:
        return own
    shared = chance.standard_normal(drawn.fails.size)[drawn.unit]
    return np.asarray(np.sqrt(world.icc) * shared + np.sqrt(1.0 - world.icc) * own)


def _first_seen(drawn: Requests, cell: IntArray, shape: tuple[int, ...]) -> IntArray:
    """Units by the window and arm of their first request in an arm."""
    if not cell.size:
        return np.zeros(shape, dtype=np.int64)
    # Requests of a unit stand together; a unit has one arm, so its first cell is its smallest.
    first = np.flatnonzero(np.diff(drawn.unit, prepend=-1))
    return _table(np.minimum.reduceat(cell, first), shape).astype(np.int64)


def _table(cell: IntArray, shape: tuple[int, ...], weights: FloatArray | None = None) -> FloatArray:
    size = int(np.prod(shape))
    return np.bincount(cell, weights=weights, minlength=size).reshape(shape).astype(np.float64)
