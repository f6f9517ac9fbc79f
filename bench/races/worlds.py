"""Worlds of known truth: arms, what a batch of units on them turns out as, and when it is known.

In a third of a cell's runs its two best arms have exchanged places, because models differ from one
target to the next; a rule that knows no more than the fleet's best arm is wrong there.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.aggregates import N_CLUSTERS

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

MISSING: Final = 0.3
"""Share of labels that never come, where labels come late."""
LATE: Final = 3
"""Batches by which they come late."""
DRIFT: Final = 0.5
"""Standard deviation of a drift that all arms share: of log odds, or of the log of a reward."""
MEMORY: Final = 0.7
"""Correlation of the drift from batch to batch."""
EXCHANGED: Final = 3
"""One run in so many has its two best arms exchanged."""
MARGIN: Final = 0.03
"""Lost rate, or lost part of the mean reward, from which an arm breaks what was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A world: arms, units a batch, units a run has.

    means: success rates, or mean rewards where ``log_sd`` is the sd of their logarithm; drifts: a
    shared drift; late: labels come late, and 30 % never; alike: the arms are the same in every run.
    """

    means: tuple[float, ...]
    batch: int
    log_sd: float = 0.0
    drifts: bool = False
    late: bool = False
    alike: bool = False
    limit: int = 20_000

    @property
    def name(self) -> str:
        """The world in words."""
        says = " ".join(f"{mean:g}" for mean in self.means)
        says += f", log sd {self.log_sd:g}" if self.log_sd else ""
        says += ", drift" if self.drifts else ""
        says += ", late labels" if self.late else ""
        return f"{says}, batches of {self.batch:,}"

    @property
    def tie(self) -> bool:
        """Whether more than one arm is the best."""
        return self.means.count(max(self.means)) > 1

    def truth(self, runs: int) -> FloatArray:
        """Means of each run's arms, shape (runs, K)."""
        own = np.tile(np.asarray(self.means, dtype=np.float64), (runs, 1))
        if not self.alike:
            second, best = np.argsort(own[0], kind="stable")[-2:]
            own[::EXCHANGED, [second, best]] = own[::EXCHANGED, [best, second]]
        return own

    def harm(self, truth: FloatArray) -> FloatArray:
        """What each arm loses against the best, rate or part of the mean reward, same shape."""
        best = truth.max(axis=-1, keepdims=True)
        lost = best - truth
        return np.asarray(lost / best if self.log_sd else lost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Labelled outcomes of one batch, first axis the run.

    units, good, total, squares: units, successes, sum of rewards and of their squares of each arm,
    shape (runs, K), a reward above 1 being a success; x, y: units and rewards by hash bucket, shape
    (runs, K, B), B = 0 for successes.
    """

    units: IntArray
    good: IntArray
    total: FloatArray
    squares: FloatArray
    x: FloatArray
    y: FloatArray


def counted(units: IntArray, successes: IntArray) -> Batch:
    """A batch of successes and failures."""
    none = np.zeros((*units.shape, 0))
    total = successes.astype(np.float64)
    return Batch(units=units, good=successes, total=total, squares=total, x=none, y=none)


@dataclass(slots=True, kw_only=True)
class Stream:
    """The outcomes of one cell's runs, batch by batch."""

    cell: Cell
    truth: FloatArray
    rng: np.random.Generator
    shift: FloatArray = field(init=False)
    waiting: deque[Batch] = field(init=False)

    def __post_init__(self) -> None:
        """No drift yet, and no batch on its way."""
        self.shift = np.zeros(len(self.truth))
        self.waiting = deque()

    def serve(self, shares: FloatArray) -> Batch:
        """Send a batch by these shares; what is labelled by then, an empty batch at first."""
        units = self.rng.multinomial(self.cell.batch, shares)
        if self.cell.drifts:
            fresh = self.rng.normal(0.0, DRIFT * np.sqrt(1.0 - MEMORY**2), len(self.shift))
            self.shift = MEMORY * self.shift + fresh
        self.waiting.append(self._rewards(units) if self.cell.log_sd else self._successes(units))
        if len(self.waiting) > (LATE if self.cell.late else 0):
            return self.waiting.popleft()
        return emptied(self.waiting[0])

    def keep(self, runs: BoolArray) -> None:
        """Go on with some of the runs."""
        self.truth, self.shift = self.truth[runs], self.shift[runs]
        self.waiting = deque(kept(batch, runs) for batch in self.waiting)

    def _successes(self, units: IntArray) -> Batch:
        if self.cell.late:
            units = self.rng.binomial(units, 1.0 - MISSING)
        odds = self.truth / (1.0 - self.truth) * np.exp(self.shift)[:, None]
        return counted(units, self.rng.binomial(units, odds / (1.0 + odds)))

    def _rewards(self, units: IntArray) -> Batch:
        sd, shape = self.cell.log_sd, (*units.shape, N_CLUSTERS)
        arm = np.repeat(np.arange(units.size), units.ravel())
        if self.cell.late:
            arm = arm[self.rng.random(arm.size) >= MISSING]
        centre = np.log(self.truth) - 0.5 * sd**2 + self.shift[:, None]
        reward = np.exp(self.rng.normal(centre.ravel()[arm], sd))
        bucket = arm * N_CLUSTERS + self.rng.integers(N_CLUSTERS, size=arm.size)
        x = np.bincount(bucket, minlength=units.size * N_CLUSTERS).reshape(shape)
        y = np.bincount(bucket, reward, minlength=units.size * N_CLUSTERS).reshape(shape)
        squares = np.bincount(arm, reward**2, minlength=units.size).astype(np.float64)
        good = np.bincount(arm[reward > 1.0], minlength=units.size).reshape(units.shape)
        return Batch(
            units=x.sum(axis=-1),
            good=good,
            total=y.sum(axis=-1),
            squares=squares.reshape(units.shape),
            x=x.astype(np.float64),
            y=y,
        )


def emptied(batch: Batch) -> Batch:
    """A batch of the same shape without any unit."""
    none = {name: np.zeros_like(getattr(batch, name)) for name in Batch.__slots__}
    return replace(batch, **none)


def kept(batch: Batch, runs: BoolArray) -> Batch:
    """The batch of some of its runs."""
    return replace(batch, **{name: getattr(batch, name)[runs] for name in Batch.__slots__})
