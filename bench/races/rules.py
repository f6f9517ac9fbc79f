"""What a rule is, and the project's own: exact e-processes of pairs, top-two Thompson sampling."""

from typing import Any, Final, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from bench.races.worlds import Batch
from optimizer.statistics.declaring import Race, declared, new_race, observe
from optimizer.statistics.thompson import after_declaration, top_two

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DRAWS: Final = 200
"""Posterior draws of a simulated batch: any split is valid, so fewer cost speed, not truth."""
ENDED: Final = -2
"""The answer of a rule that has ended without a winner."""

State = TypeVar("State")


class Rule(Protocol[State]):
    """A rule over many runs; a state is a dataclass of arrays whose first axis is the run."""

    @property
    def declares(self) -> bool:
        """Whether it names a winner; a rule that does not is asked for its favourite at the end."""

    def start(self, truth: FloatArray) -> State:
        """Before the first batch; yardsticks alone look at the means of the arms, (runs, K)."""

    def shares(self, state: State, rng: np.random.Generator) -> FloatArray:
        """How the next batch is split while nothing is declared, shape (runs, K)."""

    def observe(self, state: State, batch: Batch) -> State:
        """After one more batch."""

    def winner(self, state: State) -> IntArray:
        """The arm declared (or the favourite), shape (runs,); -1 not yet, -2 ended without one."""

    def settled(self, named: IntArray, arms: int) -> FloatArray:
        """The split once this was its answer, shape (runs, K)."""


AnyRule = Rule[Any]


def all_to(named: IntArray, arms: int) -> FloatArray:
    """All traffic to the arm named; to the first, which is in force, where none is."""
    return np.asarray(np.maximum(named, 0)[:, None] == np.arange(arms), dtype=np.float64)


class EProcess:
    """The project's rule for successes, until it declares an arm."""

    declares = True

    def start(self, truth: FloatArray) -> Race:
        """Before the first batch."""
        return new_race(truth.shape[1], truth.shape[:1])

    def shares(self, state: Race, rng: np.random.Generator) -> FloatArray:
        """Top two, with fewer draws than in service."""
        return top_two(state, rng, draws=DRAWS)

    def observe(self, state: Race, batch: Batch) -> Race:
        """After one more batch."""
        return observe(state, batch.units, batch.good)

    def winner(self, state: Race) -> IntArray:
        """The arm whose bets have all reached their threshold."""
        return declared(state)

    def settled(self, named: IntArray, arms: int) -> FloatArray:
        """All but the floor to the arm declared."""
        return after_declaration(named, arms=arms)
