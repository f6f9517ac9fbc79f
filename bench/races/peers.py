"""What others ship: likelihood ratios with plugged-in variances, greedy routing, a fixed test.

Each is as its own project has it; a number that is theirs says whose.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.races.rules import ENDED, all_to
from bench.races.worlds import Batch
from optimizer.statistics.declaring import DELTA, MIN_UNITS, NONE

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

PLUG_IN_UNITS: Final = 10
SMALLEST_VARIANCE: Final = 1e-12
SMALLEST_SHARE: Final = 1e-6
SMALLEST_GAP: Final = 1e-6
TO_THE_BEST, TO_EACH_OTHER = 0.7, 0.1
FIXED_UNITS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What these rules remember: units, rewards and squared rewards of each arm, (runs, K)."""

    units: IntArray
    total: FloatArray
    squares: FloatArray

    def measured(self) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of each arm, as measured; the variance at least a speck."""
        n = np.maximum(self.units, 1)
        mean = self.total / n
        return mean, np.maximum(self.squares / n - mean**2, SMALLEST_VARIANCE)


def empty(truth: FloatArray) -> Sums:
    """Before the first batch."""
    none = np.zeros(truth.shape)
    return Sums(units=none.astype(np.int64), total=none, squares=none)


def added(state: Sums, batch: Batch) -> Sums:
    """After one more batch."""
    return Sums(
        units=state.units + batch.units,
        total=state.total + batch.total,
        squares=state.squares + batch.squares,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodRatio:
    """Gaussian likelihood ratios with the variances measured so far put in as if they were known.

    split: how a batch is split from measured means and variances; min_units: units of every arm
    before the rule may split unevenly or stop. With the split :func:`as_if_known` and 10 units it
    is the track-and-stop of TensorZero 2026.6.0.

    References:
        Garivier and Kaufmann (2016), Optimal best arm identification with fixed confidence, arXiv
        1602.04589; threshold ``log((1 + log t) / delta)``.
    """

    split: Callable[[FloatArray, FloatArray], FloatArray]
    min_units: int

    declares = True

    def start(self, truth: FloatArray) -> Sums:
        """Before the first batch."""
        return empty(truth)

    def shares(self, state: Sums, rng: np.random.Generator) -> FloatArray:
        """Even until every arm has its first units, then as measured."""
        mean, variance = state.measured()
        shares = np.maximum(self.split(mean, variance), SMALLEST_SHARE)
        shares /= shares.sum(axis=-1, keepdims=True)
        ready = np.all(state.units >= self.min_units, axis=-1, keepdims=True)
        return np.where(ready, shares, 1.0 / mean.shape[-1])

    def observe(self, state: Sums, batch: Batch) -> Sums:
        """After one more batch."""
        return added(state, batch)

    def winner(self, state: Sums) -> IntArray:
        """The leader, while its smallest likelihood ratio against another arm is large enough."""
        mean, variance = state.measured()
        leader = mean.argmax(axis=-1)[:, None]
        spread = variance / np.maximum(state.units, 1)
        gap = np.take_along_axis(mean, leader, axis=-1) - mean
        ratio = gap**2 / (2.0 * (spread + np.take_along_axis(spread, leader, axis=-1)))
        np.put_along_axis(ratio, leader, np.inf, axis=-1)
        seen = state.units.sum(axis=-1)
        needed = np.log((1.0 + np.log(np.maximum(seen, 1))) / DELTA)
        ready = np.all(state.units >= self.min_units, axis=-1)
        return np.where(ready & (ratio.min(axis=-1) > needed), leader[:, 0], NONE)

    def settled(self, named: IntArray, arms: int) -> FloatArray:
        """All traffic to the winner."""
        return all_to(named, arms)


def evenly(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """The same share for every arm."""
    return np.full(mean.shape, 1.0 / mean.shape[-1]) + 0.0 * variance


def as_if_known(mean: FloatArray, variance: FloatArray) -> FloatArray:
    """The shares that would be best if means and variances were as measured.

    References:
        Chen, Lin, Yuecesan and Chick (2000), Simulation budget allocation for further enhancing the
        efficiency of ordinal optimization, Discrete Event Dynamic Systems 10:251; exact for two.
    """
    leader = mean.argmax(axis=-1)[:, None]
    gap = np.maximum(np.take_along_axis(mean, leader, axis=-1) - mean, SMALLEST_GAP)
    weight = variance / gap**2
    np.put_along_axis(weight, leader, 0.0, axis=-1)
    lead = np.sqrt(
        np.take_along_axis(variance, leader, axis=-1)
        * (weight**2 / variance).sum(axis=-1, keepdims=True)
    )
    np.put_along_axis(weight, leader, lead, axis=-1)
    return np.asarray(weight / weight.sum(axis=-1, keepdims=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Greedy:
    """Epsilon-greedy: .7 to the arm with the best mean, .1 to each other, then normalised.

    bonus: what is added to ``weight`` times each arm's mean, () where all arms cost alike.
    """

    bonus: tuple[float, ...] = ()
    weight: float = 1.0

    declares = False

    def start(self, truth: FloatArray) -> Sums:
        """Before the first batch."""
        return empty(truth)

    def shares(self, state: Sums, rng: np.random.Generator) -> FloatArray:
        """Even until every arm has one unit."""
        arms = state.units.shape[-1]
        best = self.winner(state)[:, None] == np.arange(arms)
        shares = np.where(best, TO_THE_BEST, TO_EACH_OTHER)
        ready = np.all(state.units > 0, axis=-1, keepdims=True)
        even = np.full(shares.shape, 1.0 / arms)
        return np.where(ready, shares / shares.sum(axis=-1, keepdims=True), even)

    def observe(self, state: Sums, batch: Batch) -> Sums:
        """After one more batch."""
        return added(state, batch)

    def winner(self, state: Sums) -> IntArray:
        """The favourite."""
        score = self.weight * state.measured()[0]
        return np.asarray((score + np.asarray(self.bonus) if self.bonus else score).argmax(axis=-1))

    def settled(self, named: IntArray, arms: int) -> FloatArray:
        """As long as it is the favourite."""
        shares = np.where(named[:, None] == np.arange(arms), TO_THE_BEST, TO_EACH_OTHER)
        return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """Sums, and what the test said once it was done: an arm, -1 not yet, -2 nothing."""

    sums: Sums
    said: IntArray


class FixedTest:
    """1,000 units of each arm evenly, then one test: the leader against each other, one-sided.

    Two-proportion (or two-mean) z at delta over K - 1; without significance the arm in force stays.
    """

    declares = True

    def start(self, truth: FloatArray) -> Tested:
        """Before the first batch."""
        return Tested(sums=empty(truth), said=np.full(len(truth), NONE))

    def shares(self, state: Tested, rng: np.random.Generator) -> FloatArray:
        """Even."""
        shape = state.sums.units.shape
        return np.full(shape, 1.0 / shape[-1])

    def observe(self, state: Tested, batch: Batch) -> Tested:
        """After one more batch; the test is done once."""
        sums = added(state.sums, batch)
        due = (state.said == NONE) & np.all(sums.units >= FIXED_UNITS, axis=-1)
        return Tested(sums=sums, said=np.where(due, significant(sums), state.said))

    def winner(self, state: Tested) -> IntArray:
        """What the test said."""
        return state.said

    def settled(self, named: IntArray, arms: int) -> FloatArray:
        """All traffic to the winner, or to the arm in force."""
        return all_to(named, arms)


def significant(sums: Sums) -> IntArray:
    """The arm with the best mean, -2 where it is not significantly above each other one."""
    mean, variance = sums.measured()
    leader = mean.argmax(axis=-1)[:, None]
    spread = variance / np.maximum(sums.units, 1)
    error = np.sqrt(spread + np.take_along_axis(spread, leader, axis=-1))
    z = (np.take_along_axis(mean, leader, axis=-1) - mean) / error
    np.put_along_axis(z, leader, np.inf, axis=-1)
    needed = -special.ndtri(DELTA / (mean.shape[-1] - 1))
    return np.where(z.min(axis=-1) > needed, leader[:, 0], ENDED)


PLUG_IN: Final = LikelihoodRatio(split=as_if_known, min_units=PLUG_IN_UNITS)
UNIFORM: Final = LikelihoodRatio(split=evenly, min_units=MIN_UNITS)
