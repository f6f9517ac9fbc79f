"""What knows the truth from the beginning: the best arm of each run, and the best single one."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.races.rules import all_to
from bench.races.worlds import Batch

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """The arm each run has, shape (runs,), and how many there are, same shape."""

    arm: IntArray
    arms: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Yardstick:
    """One arm from the first unit: the best of each run, or the one that is best for most."""

    each: bool

    declares = False

    def start(self, truth: FloatArray) -> Known:
        """The choice."""
        runs, arms = truth.shape
        best = truth.argmax(axis=-1) if self.each else np.full(runs, truth.mean(axis=0).argmax())
        return Known(arm=best, arms=np.full(runs, arms))

    def shares(self, state: Known, rng: np.random.Generator) -> FloatArray:
        """All to it."""
        return all_to(state.arm, int(state.arms[0]))

    def observe(self, state: Known, batch: Batch) -> Known:
        """Nothing is learned."""
        return state

    def winner(self, state: Known) -> IntArray:
        """The choice."""
        return state.arm

    def settled(self, named: IntArray, arms: int) -> FloatArray:
        """All to it."""
        return all_to(named, arms)


ORACLE, SWAP = Yardstick(each=True), Yardstick(each=False)
