"""Whether the limits of the p95 latency hold the truth at all looks together.

The canary of Ramp A looks every hour at all its latencies so far. They are log-normal, or rows of a
measured set drawn with replacement, whose p95 is therefore known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import stats

from bench.rollouts.coverage import ALPHA, P95, PART, Coverage, of_quantile
from bench.rollouts.plan import CANARY, ramp_a
from bench.rollouts.running import chance
from bench.traced.measured import Measured
from optimizer.statistics.quantiles import (
    bucket_at_rank,
    bucket_of,
    lower_edge,
    quantile_sequence,
    upper_edge,
)

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

VOLUMES: Final = (2_000.0, 200.0)
SIGMAS: Final = (0.8, 1.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """Limits that are promised at all looks together, and limits for one look at the same looks."""

    promised: tuple[Coverage, ...]
    contrast: tuple[Coverage, ...]


def covered(sets: Sequence[Measured], rollouts: int) -> Covered:
    """Log-normal latencies, and every measured set, at every volume."""
    normal = [of_quantile(sigma, volume, rollouts) for volume in VOLUMES for sigma in SIGMAS]
    measured = [of_measured(each, volume, rollouts) for volume in VOLUMES for each in sets]
    return Covered(
        promised=(*normal, *(always for always, _ in measured)),
        contrast=tuple(once for _, once in measured),
    )


def of_measured(measured: Measured, volume: float, rollouts: int) -> tuple[Coverage, Coverage]:
    """The p95 confidence sequence of a measured set, and the limits for one look."""
    name = f"p95 of latency, {measured.name}, {volume:,.0f}/h"
    truth, buckets, weights = law(measured)
    plan = ramp_a(volume, hold_hours=0)
    held = np.zeros(2, dtype=np.int64)
    for part, start in enumerate(range(0, rollouts, PART)):
        numbers = chance(name, part)
        shape = (min(PART, rollouts - start), plan.hours)
        n = numbers.poisson(plan.volume * plan.hourly_shares()[:, CANARY], shape)
        counts = np.cumsum(numbers.multinomial(n, weights), axis=1)
        for number, (lower, upper) in enumerate(
            (quantile_sequence(buckets, counts, p=P95, alpha=ALPHA), _once(buckets, counts))
        ):
            held[number] += ((lower <= truth) & (truth <= upper)).all(axis=1).sum()
    return (
        Coverage(name=name, always=True, rollouts=rollouts, held=int(held[0])),
        Coverage(name=name, always=False, rollouts=rollouts, held=int(held[1])),
    )


def _once(buckets: IntArray, counts: IntArray) -> tuple[FloatArray, FloatArray]:
    """Limits from the ranks that a binomial count keeps within at one look, each shape (R, L)."""
    n = counts.sum(axis=-1)
    first, last = (stats.binom.ppf(q, n, P95) for q in (ALPHA / 2, 1.0 - ALPHA / 2))
    lower = lower_edge(bucket_at_rank(buckets, counts, np.maximum(first, 1)))
    upper = upper_edge(bucket_at_rank(buckets, counts, np.minimum(last + 1, np.maximum(n, 1))))
    return np.where(first > 0, lower, -np.inf), np.where(last < n, upper, np.inf)


def law(measured: Measured) -> tuple[float, IntArray, FloatArray]:
    """True p95, ms, and the buckets of a measured set with the chance of each."""
    chances = measured.weights()
    order = np.argsort(measured.latency_ms, kind="stable")
    below = np.cumsum(chances[order])
    # The smallest value that 95 % of the requests do not exceed; rounding must not skip it.
    at = int(np.searchsorted(below, P95 * (1.0 - 1e-12)))
    buckets, place = np.unique(bucket_of(measured.latency_ms), return_inverse=True)
    weights = np.bincount(place, weights=chances)
    return float(measured.latency_ms[order[at]]), buckets.astype(np.int64), weights / weights.sum()
