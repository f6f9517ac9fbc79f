"""Races of one rule in one cell: until it declares an arm, and what all units of the run cost."""

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from bench.races.rules import AnyRule
from bench.races.worlds import MARGIN, Cell, Stream
from optimizer.statistics.declaring import NONE
from optimizer.statistics.planning import wilson_interval

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
State = TypeVar("State")


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How the runs of a rule ended, shape (runs,) each.

    winner: the arm declared, -1 none, -2 ended without; of a rule that declares nothing its
    favourite at the end; units: until then, the limit where nothing was declared; right: whether
    the winner is the best arm; regret: successes (or parts of the best mean reward) lost against
    the best arm, all units of the run together; worse: share of them that an arm served which is
    worse than the best by more than the margin; split: of the run's last units, shape (runs, K).
    """

    winner: IntArray
    units: IntArray
    right: BoolArray
    regret: FloatArray
    worse: FloatArray
    split: FloatArray

    @property
    def runs(self) -> int:
        """How many there are."""
        return len(self.winner)

    @property
    def wrong(self) -> int:
        """Runs that named an arm that is not the best; of ties nothing is."""
        return int(((self.winner >= 0) & ~self.right).sum())

    @property
    def wrong_upper(self) -> float:
        """Upper Wilson limit of their share."""
        return float(wilson_interval(self.wrong, self.runs)[1])

    @property
    def undecided(self) -> int:
        """Runs in which no arm was named."""
        return int((self.winner < 0).sum())

    @property
    def median(self) -> float:
        """Median units until an arm was declared."""
        return float(np.median(self.units))


def play(rule: AnyRule, cell: Cell, runs: int, seed: int) -> Played:
    """Race the arms of a cell until each run has its answer, or its units are used up."""
    rng = np.random.Generator(np.random.PCG64(seed))
    truth = cell.truth(runs)
    harm, arms = cell.harm(truth), truth.shape[1]
    stream = Stream(cell=cell, truth=truth, rng=rng)
    found = _started(truth, cell.limit)
    active, state = np.arange(runs), rule.start(truth)
    for seen in range(cell.batch, cell.limit + 1, cell.batch):
        shares = rule.shares(state, rng)
        _charge(found, active, shares, harm[active], cell.batch)
        found.split[active] = shares
        state = rule.observe(state, stream.serve(shares))
        if not rule.declares:
            continue
        named = rule.winner(state)
        done = named != NONE
        if not done.any():
            continue
        ended = active[done]
        found.winner[ended], found.units[ended] = named[done], seen
        found.split[ended] = rule.settled(named[done], arms)
        _charge(found, ended, found.split[ended], harm[ended], cell.limit - seen)
        active, state = active[~done], kept(state, ~done)
        stream.keep(~done)
        if not active.size:
            break
    if not rule.declares:
        found.winner[:] = rule.winner(state)
    best = (harm == 0.0) & (not cell.tie)
    named = np.maximum(found.winner, 0)
    return replace(
        found,
        right=best[np.arange(runs), named] & (found.winner >= 0),
        worse=found.worse / cell.limit,
    )


def _started(truth: FloatArray, limit: int) -> Played:
    runs = len(truth)
    return Played(
        winner=np.full(runs, NONE),
        units=np.full(runs, limit),
        right=np.zeros(runs, dtype=np.bool_),
        regret=np.zeros(runs),
        worse=np.zeros(runs),
        split=np.zeros(truth.shape),
    )


def _charge(
    found: Played, runs: IntArray, shares: FloatArray, harm: FloatArray, units: int
) -> None:
    """Add what units split like this lose on average."""
    found.regret[runs] += units * (shares * harm).sum(axis=-1)
    found.worse[runs] += units * (shares * (harm > MARGIN + 1e-12)).sum(axis=-1)


def kept(state: State, runs: BoolArray) -> State:
    """The state of some of the runs; states may hold states."""
    left: dict[str, Any] = {}
    for each in fields(state):  # type: ignore[arg-type]
        value = getattr(state, each.name)
        left[each.name] = value[runs] if isinstance(value, np.ndarray) else kept(value, runs)
    return replace(state, **left)  # type: ignore[type-var]
