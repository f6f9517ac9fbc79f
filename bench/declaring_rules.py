"""Rules that declare a best arm, each over many simulated runs at once, and the runs themselves."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from optimizer.statistics.declaring import (
    DELTA,
    MIN_UNITS,
    NONE,
    Race,
    declared,
    new_race,
    observe,
)
from optimizer.statistics.thompson import top_two

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DRAWS: Final = 200
"""Posterior draws of a simulated batch: any split is valid, so fewer cost speed, not truth."""
PLUG_IN_UNITS: Final = 10
SMALLEST_VARIANCE: Final = 1e-12
SMALLEST_SHARE: Final = 1e-6
SMALLEST_GAP: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What the plug-in rules remember: units and successes of each arm, shape (runs, K)."""

    units: IntArray
    successes: IntArray


State = TypeVar("State", Race, Counts)


class Rule(Protocol[State]):
    """A rule over many runs; a state holds arrays whose first axis is the run."""

    def start(self, runs: int, arms: int) -> State:
        """Before the first batch."""

    def shares(self, state: State, rng: np.random.Generator) -> FloatArray:
        """How the next batch is split, shape (runs, K)."""

    def observe(self, state: State, units: IntArray, successes: IntArray) -> State:
        """After one more batch."""

    def winner(self, state: State) -> IntArray:
        """The arm declared, shape (runs,), or -1."""


class EProcess:
    """The project's rule: exact e-processes of pairs, top-two Thompson sampling."""

    def start(self, runs: int, arms: int) -> Race:
        """Before the first batch."""
        return new_race(arms, (runs,))

    def shares(self, state: Race, rng: np.random.Generator) -> FloatArray:
        """Top two, with fewer draws than in service."""
        return top_two(state, rng, draws=DRAWS)

    def observe(self, state: Race, units: IntArray, successes: IntArray) -> Race:
        """After one more batch."""
        return observe(state, units, successes)

    def winner(self, state: Race) -> IntArray:
        """The arm whose bets have all reached their threshold."""
        return declared(state)


@dataclass(frozen=True, slots=True, kw_only=True)
class LikelihoodRatio:
    """Gaussian likelihood ratios with the variances measured so far put in as if they were known.

    split: how a batch is split from measured means and variances; min_units: units of every arm
    before the rule may split unevenly or stop.

    References:
        Garivier and Kaufmann (2016), Optimal best arm identification with fixed confidence, arXiv
        1602.04589; threshold ``log((1 + log t) / delta)``.
    """

    split: Callable[[FloatArray, FloatArray], FloatArray]
    min_units: int

    def start(self, runs: int, arms: int) -> Counts:
        """Before the first batch."""
        zeros = np.zeros((runs, arms), dtype=np.int64)
        return Counts(units=zeros, successes=zeros)

    def shares(self, state: Counts, rng: np.random.Generator) -> FloatArray:
        """Even until every arm has its first units, then as measured."""
        mean, variance = _measured(state)
        shares = np.maximum(self.split(mean, variance), SMALLEST_SHARE)
        shares /= shares.sum(axis=-1, keepdims=True)
        ready = np.all(state.units >= self.min_units, axis=-1, keepdims=True)
        return np.where(ready, shares, 1.0 / mean.shape[-1])

    def observe(self, state: Counts, units: IntArray, successes: IntArray) -> Counts:
        """After one more batch."""
        return Counts(units=state.units + units, successes=state.successes + successes)

    def winner(self, state: Counts) -> IntArray:
        """The leader, once its smallest likelihood ratio against another arm is large enough."""
        mean, variance = _measured(state)
        leader = mean.argmax(axis=-1)[:, None]
        spread = variance / np.maximum(state.units, 1)
        gap = np.take_along_axis(mean, leader, axis=-1) - mean
        ratio = gap**2 / (2.0 * (spread + np.take_along_axis(spread, leader, axis=-1)))
        np.put_along_axis(ratio, leader, np.inf, axis=-1)
        seen = state.units.sum(axis=-1)
        needed = np.log((1.0 + np.log(np.maximum(seen, 1))) / DELTA)
        ready = np.all(state.units >= self.min_units, axis=-1)
        return np.where(ready & (ratio.min(axis=-1) > needed), leader[:, 0], NONE)


def _measured(state: Counts) -> tuple[FloatArray, FloatArray]:
    mean = state.successes / np.maximum(state.units, 1)
    return mean, np.maximum(mean * (1.0 - mean), SMALLEST_VARIANCE)


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
class Cell:
    """A world: success rates of the arms, units a batch, units after which a run is given up."""

    rates: tuple[float, ...]
    batch: int
    limit: int = 20_000

    @property
    def name(self) -> str:
        """The rates and the batch in words."""
        return f"{' '.join(f'{rate:g}' for rate in self.rates)}, batches of {self.batch}"

    @property
    def tie(self) -> bool:
        """Whether more than one arm is the best."""
        return self.rates.count(max(self.rates)) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Races:
    """How the runs of one rule in one cell ended: the arm declared (or -1), after which units."""

    winner: IntArray
    units: IntArray

    def wrong(self, cell: Cell) -> int:
        """Runs that declared an arm that is not the best; among ties, runs that declared any."""
        best = np.asarray(cell.rates) == max(cell.rates)
        if cell.tie:
            return int((self.winner != NONE).sum())
        return int(((self.winner != NONE) & ~best[self.winner]).sum())

    @property
    def median(self) -> float:
        """Median units to a declaration; a run that declared nothing counts as the limit."""
        return float(np.median(self.units))


def run(rule: Rule[State], cell: Cell, runs: int, seed: int) -> Races:
    """Race the arms of a cell until each run has declared one, or its units are used up."""
    rng = np.random.Generator(np.random.PCG64(seed))
    winner = np.full(runs, NONE)
    used = np.full(runs, cell.limit)
    active, state = np.arange(runs), rule.start(runs, len(cell.rates))
    for seen in range(cell.batch, cell.limit + 1, cell.batch):
        units = rng.multinomial(cell.batch, rule.shares(state, rng))
        state = rule.observe(state, units, rng.binomial(units, cell.rates))
        named = rule.winner(state)
        done = named != NONE
        if not done.any():
            continue
        winner[active[done]], used[active[done]] = named[done], seen
        active = active[~done]
        if not active.size:
            break
        left = {field.name: getattr(state, field.name)[~done] for field in fields(state)}
        state = replace(state, **left)
    return Races(winner=winner, units=used)


E_PROCESS: Final = EProcess()
PLUG_IN: Final = LikelihoodRatio(split=as_if_known, min_units=PLUG_IN_UNITS)
UNIFORM: Final = LikelihoodRatio(split=evenly, min_units=MIN_UNITS)
