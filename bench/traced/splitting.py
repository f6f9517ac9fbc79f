"""Random splits of a replayed day into control and canary, and the window sums they leave behind.

A day's requests have one outcome each; a split only says whose they are. Harm is injected into what
the canary serves, so that every case sees the same split, the same requests and the same chance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.rollouts.plan import CANARY, CONTROL, Plan
from bench.rollouts.world import BUCKETS, COST, FAILURE, REQUESTS, SLOW, Sums
from bench.traced.arrivals import LOOKS, WINDOWS, Day
from bench.traced.measured import Measured
from optimizer.statistics.quantiles import snap_to_edge

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

INPUT_USD: Final = 2e-8
OUTPUT_USD: Final = 4e-8
"""A token of Meta-Llama-3.1-8B-Instruct-Turbo at DeepInfra, as LiteLLM 1.109.1 lists it."""
P95: Final = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Harm:
    """What is wrong with the canary: multiples of its failures, latency and cost."""

    failures: float = 1.0
    latency: float = 1.0
    cost: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What a day's requests come to, each of shape (N,), whoever serves them.

    luck: uniform; decides whether injected harm makes the request fail.
    """

    failed: BoolArray
    latency_ms: FloatArray
    cost_usd: FloatArray
    luck: FloatArray

    def of(self, request: IntArray) -> "Served":
        """The outcomes of these requests."""
        return Served(
            failed=self.failed[request],
            latency_ms=self.latency_ms[request],
            cost_usd=self.cost_usd[request],
            luck=self.luck[request],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """Who answers: where failures and latencies were measured, and how requests meet endpoints.

    kept: whether all requests of a unit go to one endpoint; else each goes to one at random.
    """

    failures: Measured
    latencies: Measured
    kept: bool

    def served(self, day: Day, numbers: np.random.Generator) -> Served:
        """An outcome for every request of a day."""
        failing = self._strata(self.failures, day, numbers)
        slow = (
            failing
            if self.latencies is self.failures
            else self._strata(self.latencies, day, numbers)
        )
        n = day.window.size
        return Served(
            failed=numbers.random(n) < self.failures.fails[failing],
            latency_ms=self.latencies.latencies(slow, numbers),
            cost_usd=INPUT_USD * day.input_tokens + OUTPUT_USD * day.output_tokens,
            luck=numbers.random(n),
        )

    def _strata(self, measured: Measured, day: Day, numbers: np.random.Generator) -> IntArray:
        if self.kept:
            return measured.strata(day.units, numbers)[day.unit]
        return measured.strata(day.window.size, numbers)


def threshold(before: Served) -> float:
    """The slow-request threshold frozen at the start, ms: p95 of the answers of the day before."""
    answered = before.latency_ms[~before.failed]
    return float(snap_to_edge(np.quantile(answered, P95, method="inverted_cdf")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """R splits of a day: those of its requests that belong to an arm, each of shape (K,).

    canary: whether the canary serves it; cell: place in a table of shape (R, W, 2); bucket: hash
    bucket of its unit; served: its outcome without harm. failure_rate: the true one; slow_ms: the
    frozen threshold.
    """

    plan: Plan
    rollouts: int
    canary: BoolArray
    cell: IntArray
    bucket: IntArray
    served: Served
    failure_rate: float
    slow_ms: float

    def sums(self, harms: Sequence[Harm]) -> Iterator[Sums]:
        """The window sums when the canary has each of these harms."""
        windows = (self.rollouts, LOOKS * WINDOWS, 2)
        hours = (self.rollouts, LOOKS, 2, BUCKETS)
        place = self.cell * BUCKETS + self.bucket
        arm = self.cell % 2
        hourly = (self.cell // (2 * WINDOWS) * 2 + arm) * BUCKETS + self.bucket
        n = _counts(self.cell, windows)
        fine = _counts(place, (*windows, BUCKETS)).astype(np.int16)
        requests = _counts(hourly, hours).astype(np.float64)
        cost = np.bincount(hourly, weights=self.served.cost_usd, minlength=requests.size)
        cost = cost.reshape(hours)
        for harm in harms:
            failed = self._failed(harm)
            slow = self._slow(harm, failed)
            yield Sums(
                plan=self.plan,
                lag_hours=0,
                n=n,
                # Nothing is promoted here, so that nobody asks for the units first seen.
                units=n,
                events={
                    FAILURE: _counts(self.cell[failed], windows),
                    SLOW: _counts(self.cell[slow], windows),
                },
                fine={
                    REQUESTS: fine,
                    FAILURE: _counts(place[failed], (*windows, BUCKETS)).astype(np.int16),
                },
                buckets={
                    REQUESTS: requests,
                    FAILURE: _counts(hourly[failed], hours).astype(np.float64),
                    SLOW: _counts(hourly[slow], hours).astype(np.float64),
                    COST: cost * np.array([1.0, harm.cost])[:, None],
                },
            )

    def _failed(self, harm: Harm) -> BoolArray:
        """As served, and so many of the canary's answers more that its rate is the multiple."""
        extra = (harm.failures - 1.0) * self.failure_rate / (1.0 - self.failure_rate)
        return np.asarray(self.served.failed | (self.canary & (self.served.luck < extra)))

    def _slow(self, harm: Harm, failed: BoolArray) -> BoolArray:
        """Above the frozen threshold; a request without an answer counts as slow."""
        limit = self.slow_ms / np.array([1.0, harm.latency])[self.cell % 2]
        return np.asarray(failed | (self.served.latency_ms > limit))


def split(
    day: Day,
    served: Served,
    plan: Plan,
    *,
    rollouts: int,
    slow_ms: float,
    failure_rate: float,
    numbers: np.random.Generator,
) -> Splits:
    """Random splits of a day: a unit has one place in [0, 1), and keeps its arm as shares grow.

    The lowest places are the canary's, the highest control's.
    """
    place = numbers.random((rollouts, day.units), dtype=np.float32)[:, day.unit]
    shares = plan.hourly_shares()[day.window // WINDOWS].astype(np.float32)
    canary = place < shares[:, CANARY]
    rollout, request = np.nonzero(canary | (place >= 1.0 - shares[:, CONTROL]))
    mine = canary[rollout, request]
    bucket = numbers.integers(0, BUCKETS, day.units)[day.unit]
    return Splits(
        plan=plan,
        rollouts=rollouts,
        canary=mine,
        cell=(rollout * LOOKS * WINDOWS + day.window[request]) * 2
        + np.where(mine, CANARY, CONTROL),
        bucket=bucket[request],
        served=served.of(request),
        failure_rate=failure_rate,
        slow_ms=slow_ms,
    )


def _counts(place: IntArray, shape: tuple[int, ...]) -> IntArray:
    return np.bincount(place, minlength=int(np.prod(shape))).reshape(shape)
