"""Whether reported intervals hold the truth: at all looks together, and at one planned look."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bench.rollouts.design import Guardrail
from bench.rollouts.ours import MIN_REQUESTS, bucket_harm, counted_share
from bench.rollouts.plan import CANARY, CONTROL, Plan, ramp_a
from bench.rollouts.running import chance, drawn
from bench.rollouts.world import COST, FAILURE, REQUESTS, Sums, Units, World
from optimizer.statistics.anytime import TIGHTEST_PROMOTE, half_width_multiplier
from optimizer.statistics.clusters import Difference, harm
from optimizer.statistics.planning import wilson_interval
from optimizer.statistics.quantiles import bucket_of, quantile_sequence, upper_edge

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

ALPHA: Final = 0.05
P95: Final = 0.95
MIN_EVENTS: Final = 5
PART: Final = 50
FAILURES: Final = Guardrail(name=FAILURE, alpha=ALPHA)
COSTS: Final = Guardrail(name=COST, alpha=ALPHA, share=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How many rollouts' intervals hold the truth; always: at every look together."""

    name: str
    always: bool
    rollouts: int
    held: int

    @property
    def share(self) -> float:
        """Part of the rollouts."""
        return self.held / self.rollouts

    @property
    def limits(self) -> tuple[float, float]:
        """95 % Wilson limits of that part."""
        low, high = wilson_interval(self.held, self.rollouts)
        return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """An interval of a difference, and the world that knows the truth."""

    name: str
    world: World
    volume: float
    guardrail: Guardrail

    @property
    def truth(self) -> float:
        """The canary's value less control's."""
        if self.guardrail.name == COST:
            return self.world.cost_usd * (self.world.cost_effect - 1.0)
        return self.world.rate * (self.world.effect - 1.0)


def questions() -> list[Question]:
    """Every difference whose interval is checked."""
    found = [
        Question(
            name=f"difference of failure rates, {name}, {volume:,.0f}/h",
            world=world,
            volume=volume,
            guardrail=FAILURES,
        )
        for volume in (2_000.0, 200.0)
        for name, world in (
            ("independent", World(effect=1.25)),
            ("sessions over hours", World(effect=1.25, units=Units.SPAN)),
        )
    ]
    return found + [
        Question(
            name=f"difference of mean costs, log sd {sigma:g}, {volume:,.0f}/h",
            world=World(means=True, sigma=sigma, cost_effect=1.1),
            volume=volume,
            guardrail=COSTS,
        )
        for volume in (2_000.0, 200.0)
        for sigma in (0.8, 1.8)
    ]


def of_difference(question: Question, rollouts: int) -> list[Coverage]:
    """The asymptotic confidence sequence at all hourly looks, and the t interval at the last."""
    plan = ramp_a(question.volume, hold_hours=0)
    always, once = 0, 0
    for part, start in enumerate(range(0, rollouts, PART)):
        size = min(PART, rollouts - start)
        sums = drawn(question.world, plan, size, chance(question.name, part))
        found, units, known = _differences(question, sums)
        multiplier = half_width_multiplier(
            units, alpha=ALPHA, tightest_at=TIGHTEST_PROMOTE, two_sided=True
        )
        with np.errstate(invalid="ignore"):
            missed = known & (np.abs(found.z) >= multiplier)
            # Where nothing is reported at the end, nothing covers.
            near = np.abs(found.z[:, -1]) < -special.ndtri(ALPHA / 2)
        always += int((~missed.any(axis=1)).sum())
        once += int(near.sum())
    return [
        Coverage(name=question.name, always=True, rollouts=rollouts, held=always),
        Coverage(name=question.name, always=False, rollouts=rollouts, held=once),
    ]


def _differences(question: Question, sums: Sums) -> tuple[Difference, FloatArray, BoolArray]:
    """Distance of the estimate from the truth after each hour, requests, and whether reported."""
    n = sums.by_hour(sums.n)
    sign = 1 if question.truth >= 0 else -1
    margin = abs(question.truth)
    if question.guardrail.share and not sums.clustered:
        k = sums.by_hour(sums.events[question.guardrail.name])
        estimates = [counted_share(k[..., arm], n[..., arm]) for arm in (CANARY, CONTROL)]
        found = harm(*estimates, harm_sign=sign, absolute_margin=margin)
    else:
        y, x = (
            np.cumsum(sums.buckets[name], axis=1) for name in (question.guardrail.name, REQUESTS)
        )
        found, _ = bucket_harm(y, x, sign, margin)
    known = (n.min(axis=-1) >= MIN_REQUESTS) & np.isfinite(found.z)
    if question.guardrail.share:
        events = sums.by_hour(sums.events[question.guardrail.name])
        known &= events.sum(axis=-1) >= MIN_EVENTS
    return found, np.asarray(n.sum(axis=-1), dtype=np.float64), known


def of_quantile(sigma: float, volume: float, rollouts: int) -> Coverage:
    """The p95 confidence sequence of log-normal latencies at all hourly looks."""
    name = f"p95 of latency, log sd {sigma:g}, {volume:,.0f}/h"
    plan = ramp_a(volume, hold_hours=0)
    truth, buckets, weights = _latencies(sigma)
    held = 0
    for part, start in enumerate(range(0, rollouts, PART)):
        numbers = chance(name, part)
        counts = _histograms(plan, min(PART, rollouts - start), weights, numbers)
        lower, upper = quantile_sequence(buckets, counts, p=P95, alpha=ALPHA)
        held += int(((lower <= truth) & (truth <= upper)).all(axis=1).sum())
    return Coverage(name=name, always=True, rollouts=rollouts, held=held)


def _latencies(sigma: float) -> tuple[float, npt.NDArray[np.int64], FloatArray]:
    """True p95, ms, and the buckets of a log-normal latency with the chance of each."""
    law = stats.lognorm(s=sigma, scale=1_000.0)
    first, last = (int(bucket_of(law.ppf(q))) for q in (1e-9, 1.0 - 1e-9))
    buckets = np.arange(first, last + 1)
    edges = np.concatenate([[0.0], law.cdf(upper_edge(buckets[:-1])), [1.0]])
    return float(law.ppf(P95)), buckets, np.diff(edges)


def _histograms(
    plan: Plan, rollouts: int, weights: FloatArray, numbers: np.random.Generator
) -> npt.NDArray[np.int64]:
    """The canary's cumulative histograms after each hour, shape (R, hours, B)."""
    n = numbers.poisson(plan.volume * plan.hourly_shares()[:, CANARY], (rollouts, plan.hours))
    return np.asarray(np.cumsum(numbers.multinomial(n, weights), axis=1), dtype=np.int64)


def quantile_cases() -> Sequence[tuple[float, float]]:
    """Log standard deviations and volumes of the p95 checks."""
    return [(sigma, volume) for volume in (2_000.0, 200.0) for sigma in (0.8, 1.8)]
