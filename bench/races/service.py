"""The project's rule in service: a declared arm is watched, and an alarm begins a new race."""

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bench.races.rules import DRAWS
from bench.races.worlds import Batch
from optimizer.statistics.declaring import NONE, Race, declared, new_race, observe
from optimizer.statistics.thompson import after_declaration, top_two
from optimizer.statistics.watching import LeaderWatch, changed, observe_watch, watch_leader

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

Held = TypeVar("Held", Race, LeaderWatch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Runs in service; watching: whether an arm is declared and no detector has alarmed since."""

    race: Race
    held: LeaderWatch
    watching: BoolArray


class InService:
    """Racing until an arm is declared, watched until an alarm, racing again."""

    declares = True

    def start(self, truth: FloatArray) -> Service:
        """Before the first batch."""
        runs, arms = truth.shape
        race = new_race(arms, (runs,))
        return Service(
            race=race,
            held=watch_leader(race, np.zeros(runs, dtype=np.int64)),
            watching=np.zeros(runs, np.bool_),
        )

    def shares(self, state: Service, rng: np.random.Generator) -> FloatArray:
        """As without service."""
        return top_two(state.race, rng, draws=DRAWS)

    def observe(self, state: Service, batch: Batch) -> Service:
        """After one more batch: an alarm voids the evidence of all arms, a declaration is watched.

        Labels that come after an alarm may have been asked for before it; as in an experiment, what
        counts is when they come.
        """
        race = observe(state.race, batch.units, batch.good)
        held = observe_watch(state.held, batch.units, batch.good)
        alarm = state.watching & changed(held)
        race = _where(alarm, new_race(race.arms, alarm.shape), race)
        named = np.where(state.watching, NONE, declared(race))
        fresh = named != NONE
        return Service(
            race=race,
            held=_where(fresh, watch_leader(race, np.maximum(named, 0)), held),
            watching=(state.watching & ~alarm) | fresh,
        )

    def winner(self, state: Service) -> IntArray:
        """The arm that is watched."""
        return np.where(state.watching, state.held.leader, NONE)

    def settled(self, named: IntArray, arms: int) -> FloatArray:
        """All but the floor to the arm declared."""
        return after_declaration(named, arms=arms)


def _where(chosen: BoolArray, one: Held, other: Held) -> Held:
    mixed = {}
    for field in fields(other):
        first, second = getattr(one, field.name), getattr(other, field.name)
        mixed[field.name] = np.where(chosen.reshape(-1, *[1] * (second.ndim - 1)), first, second)
    return replace(other, **mixed)
