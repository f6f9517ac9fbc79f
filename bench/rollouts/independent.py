"""Worlds of independent requests, drawn as counts: how failure rates move, and their windows."""

from typing import Final

import numpy as np
import numpy.typing as npt

from bench.rollouts.plan import CANARY, Plan
from bench.rollouts.world import FAILURE, Blip, Sums, World

FloatArray = npt.NDArray[np.float64]

DRIFT_CORRELATION: Final = 0.7
BLIP_HOUR: Final = 8
BLIP_FACTOR: Final = 5.0


def name_of(metric: int) -> str:
    """The failure-like metrics by number: the first is the failures themselves."""
    return FAILURE if metric == 0 else f"{FAILURE} {metric + 1}"


def hourly_rates(
    world: World, plan: Plan, rollouts: int, chance: np.random.Generator
) -> FloatArray:
    """Failure rates of both arms, shape (R, hours, 2); the mean over drift is ``world.rate``."""
    shocks = chance.standard_normal((rollouts, plan.hours))
    level = np.empty_like(shocks)
    level[:, 0] = shocks[:, 0]
    fresh = np.sqrt(1.0 - DRIFT_CORRELATION**2)
    for hour in range(1, plan.hours):
        level[:, hour] = DRIFT_CORRELATION * level[:, hour - 1] + fresh * shocks[:, hour]
    base = world.rate * np.exp(world.drift_sd * level - 0.5 * world.drift_sd**2)
    rates = np.repeat(base[:, :, None], 2, axis=2)
    rates[:, world.harm_from_hour :, CANARY] *= world.effect
    if world.blip is not Blip.NOBODY:
        hit = slice(None) if world.blip is Blip.BOTH else slice(CANARY, CANARY + 1)
        rates[:, BLIP_HOUR, hit] *= BLIP_FACTOR
    return np.minimum(rates, 1.0)


def arrivals(
    world: World, plan: Plan, rollouts: int, chance: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Poisson requests that leave a trace, shape (R, W, 2)."""
    expected = plan.volume / plan.windows_an_hour * plan.hourly_shares()
    if not world.canary:
        expected[:, CANARY] = 0.0
    kept = chance.random((rollouts, plan.hours)) >= world.missing
    mean = np.repeat(kept[:, :, None] * expected, plan.windows_an_hour, axis=1)
    return np.asarray(chance.poisson(mean), dtype=np.int64)


def counted(world: World, plan: Plan, rollouts: int, chance: np.random.Generator) -> Sums:
    """Windows of independent requests with failure-like metrics alone."""
    n = arrivals(world, plan, rollouts, chance)
    events = {}
    for metric in range(world.guardrails):
        own = world if metric == 0 else World(rate=world.rate, drift_sd=world.drift_sd)
        rates = hourly_rates(own, plan, rollouts, chance)
        by_window = np.repeat(rates, plan.windows_an_hour, axis=1)
        events[name_of(metric)] = np.asarray(chance.binomial(n, by_window), dtype=np.int64)
    return Sums(plan=plan, lag_hours=world.lag_hours, n=n, units=n, events=events)
