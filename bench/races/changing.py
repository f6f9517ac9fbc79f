"""What a rule does once the truth changes: its leader falls behind, or another arm overtakes it."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.races.rules import AnyRule
from bench.races.worlds import Cell, Stream
from optimizer.statistics.declaring import NONE

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BATCH: Final = 20
BEFORE: Final = 3_000
"""Units before the change."""
MOST: Final = 0.8
"""Share of the traffic with which the right arm is back in its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A change of the arms' success rates; the first arm is the best before it, ``best`` after."""

    name: str
    before: tuple[float, ...]
    after: tuple[float, ...]

    @property
    def best(self) -> int:
        """The best arm after the change."""
        return self.after.index(max(self.after))


DROP: Final = Turn(name="the leader drops from .8 to .5", before=(0.8, 0.7), after=(0.5, 0.7))
RISE: Final = Turn(name="the other rises from .7 to .9", before=(0.8, 0.7), after=(0.8, 0.9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of leaders, in units since the change; inf = not within the limit.

    led: runs whose leader had the traffic (or was declared) at the change; noticed: median units
    until it was no more; recovered: until the right arm has most of the traffic, shape (led,);
    wrong: runs that named the leader anew in between; resets: how often a leader was given up while
    nothing changed, in ``watched`` units.
    """

    led: int
    noticed: float
    recovered: FloatArray
    wrong: int
    resets: int
    watched: int

    @property
    def median(self) -> float:
        """Median units until the right arm has most of the traffic."""
        return float(np.median(self.recovered)) if self.led else float("nan")

    def within(self, units: int) -> int:
        """Runs in which it has after so many."""
        return int((self.recovered <= units).sum())

    @property
    def resets_per_10_000(self) -> float:
        """False resets in 10,000 units."""
        return 10_000 * self.resets / self.watched if self.watched else float("nan")


def change(
    rule: AnyRule, turn: Turn, runs: int, seed: int, *, limit: int, quiet: int = 0
) -> Change:
    """Let leaders settle, then let the truth change; ``quiet``: units in which it does not."""
    resets, watched = calm(rule, turn, runs, seed, units=quiet)
    served = _led(rule, turn, runs, seed)
    led = served.split[:, 0] >= MOST
    served.turn(turn.after)
    noticed, recovered = np.full(runs, np.inf), np.full(runs, np.inf)
    wrong = np.zeros(runs, dtype=np.bool_)
    for seen in range(BATCH, limit + 1, BATCH):
        served.step()
        gone = served.split[:, 0] < MOST
        noticed = np.minimum(noticed, np.where(gone, seen, np.inf))
        back = served.split[:, turn.best] >= MOST
        wrong |= ~gone & np.isfinite(noticed) & ~np.isfinite(recovered)
        recovered = np.minimum(recovered, np.where(back, seen, np.inf))
    return Change(
        led=int(led.sum()),
        noticed=float(np.median(noticed[led])) if led.any() else float("nan"),
        recovered=recovered[led],
        wrong=int((led & wrong).sum()),
        resets=resets,
        watched=watched,
    )


def calm(rule: AnyRule, turn: Turn, runs: int, seed: int, *, units: int) -> tuple[int, int]:
    """How often leaders were given up while nothing changed, and the units they were watched."""
    resets = watched = 0
    served = _led(rule, turn, runs, seed)
    for _ in range(units // BATCH):
        before = served.named
        watched += BATCH * int((before != NONE).sum())
        served.step()
        resets += int(((before != NONE) & (served.named != before)).sum())
    return resets, watched


def _led(rule: AnyRule, turn: Turn, runs: int, seed: int) -> "_Served":
    rng = np.random.Generator(np.random.PCG64(seed))
    served = _Served(rule, turn.before, runs, rng)
    for _ in range(BEFORE // BATCH):
        served.step()
    return served


class _Served:
    """Runs of a rule whose answer directs the traffic as long as it gives one."""

    def __init__(
        self, rule: AnyRule, means: tuple[float, ...], runs: int, rng: np.random.Generator
    ) -> None:
        self.rule, self.rng, self.runs = rule, rng, runs
        self.turn(means)
        self.state = rule.start(self.stream.truth)
        self.named = np.full(runs, NONE)
        self.split = self._split()

    def turn(self, means: tuple[float, ...]) -> None:
        """Other success rates from now on, the same in every run."""
        self.stream = Stream(
            cell=Cell(means=means, batch=BATCH), truth=np.tile(means, (self.runs, 1)), rng=self.rng
        )

    def step(self) -> None:
        """One batch."""
        self.state = self.rule.observe(self.state, self.stream.serve(self.split))
        if self.rule.declares:
            self.named = self.rule.winner(self.state)
        self.split = self._split()

    def _split(self) -> FloatArray:
        shares = self.rule.shares(self.state, self.rng)
        settled = self.named != NONE
        if not settled.any():
            return shares
        return np.where(settled[:, None], self.rule.settled(self.named, shares.shape[1]), shares)
