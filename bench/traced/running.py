"""Replay a world: draw its days, split them at random, and ask this project's rules and the rivals.

A rollout follows Ramp A over a day, and is rolled back by the first guardrail that crosses its
boundary or by the five-minute guard, whichever is earlier.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.rollouts.design import Design, default, unpromoted
from bench.rollouts.kayenta_rule import judged
from bench.rollouts.ours import guard_rollbacks, hourly_rollbacks
from bench.rollouts.plan import ramp_a
from bench.rollouts.rules import RULES, evidence, first
from bench.rollouts.running import OURS, chance
from bench.rollouts.world import COST, FAILURE, QUALITY, SLOW, Sums
from bench.traced.arrivals import Traffic
from bench.traced.splitting import Harm, Serving, Splits, split, threshold
from optimizer.statistics.planning import wilson_interval

IntArray = npt.NDArray[np.int64]

PEEKING: Final = "z test every hour"
CAREFUL: Final = "asymptotic confidence sequence"
RIVALS: Final = (
    "success >= 97 %, threshold 1",
    "success >= 97 %, threshold 5",
    PEEKING,
    CAREFUL,
)
KAYENTA: Final = "Kayenta, a point each window"
SCALED: Final = f"{OURS}, cost in other units"
OTHER_UNITS: Final = 1e5
GUARD: Final = "guard"
HARMLESS: Final = "none"
TWICE: Final = "failures x2"
THRICE: Final = "failures x3"
SLOWER: Final = "latency +50 %"
COSTLY: Final = "cost +50 %"
HARMS: Final[Mapping[str, Harm]] = {
    HARMLESS: Harm(),
    "failures x1.5": Harm(failures=1.5),
    TWICE: Harm(failures=2.0),
    THRICE: Harm(failures=3.0),
    "latency +20 %": Harm(latency=1.2),
    SLOWER: Harm(latency=1.5),
    COSTLY: Harm(cost=1.5),
}
AT_ONCE: Final = 25
"""Splits of one day and its outcomes; the next part has other ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Arrivals and who serves them. gated: whether the false roll-backs are promised."""

    name: str
    traffic: Traffic
    serving: Serving
    gated: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many splits: without harm, with each harm, and for the judge of time series."""

    harmless: int
    harmful: int
    points: int
    covered: int
    quick: bool = False


FULL: Final = Size(harmless=2_000, harmful=500, points=50, covered=2_000)
QUICK: Final = Size(harmless=100, harmful=50, points=0, covered=100, quick=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What came out of a world under one rule and one harm.

    requests: the canary's at the roll-back, median over those rolled back, nan for none; planned:
    the canary's of the whole ramp, median.
    """

    world: str
    harm: str
    rule: str
    splits: int
    rolled_back: int
    requests: float
    planned: float
    gated: bool = True

    @property
    def share(self) -> float:
        """Part of the splits that is rolled back."""
        return self.rolled_back / self.splits

    @property
    def limits(self) -> tuple[float, float]:
        """95 % Wilson limits of that part."""
        low, high = wilson_interval(self.rolled_back, self.splits)
        return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Some splits under one rule, each shape (R,): whether rolled back, canary requests by then."""

    back: npt.NDArray[np.bool_]
    requests: IntArray
    planned: IntArray


def watched() -> Design:
    """The default guardrails that the traces have: all but quality, whose error goes unused."""
    found = unpromoted(default())
    return replace(found, guardrails=tuple(g for g in found.guardrails if g.name != QUALITY))


def run(world: World, size: Size) -> list[Tally]:
    """Every rule's tallies under every harm."""
    courses: dict[tuple[str, str], list[Course]] = {}
    for part, start in enumerate(range(0, size.harmless, AT_ONCE)):
        drawn = draw(world, part, min(AT_ONCE, size.harmless - start))
        harms = HARMS if start < size.harmful else {HARMLESS: Harm()}
        judge = Judge(points=start < size.points)
        for (name, harm), sums in zip(harms.items(), drawn.sums(list(harms.values())), strict=True):
            for rule, window in judge.windows(harm, sums).items():
                courses.setdefault((name, rule), []).append(_course(sums, window))
    return [_tally(world, name, rule, parts) for (name, rule), parts in courses.items()]


def draw(world: World, part: int, rollouts: int) -> Splits:
    """Some splits of a day; its slow-request threshold and forecast come from the day before."""
    numbers = chance(f"traces {world.name}", part)
    before, day = world.traffic.pair(part)
    slow_ms = threshold(world.serving.served(before, numbers))
    return split(
        day,
        world.serving.served(day, numbers),
        ramp_a(before.volume, hold_hours=0),
        rollouts=rollouts,
        slow_ms=slow_ms,
        failure_rate=world.serving.failures.failure_rate,
        numbers=numbers,
    )


class Judge:
    """All rules on the same splits. What a harm leaves as it was is not asked again."""

    def __init__(self, *, points: bool = False) -> None:
        self._points = points
        self._kept: dict[tuple[str, Harm], IntArray] = {}

    def windows(self, harm: Harm, sums: Sums) -> dict[str, IntArray]:
        """The window at which each rule rolls each split back; beyond all for never."""
        found = {OURS: self._ours(sums, harm)}
        if harm == Harm(cost=harm.cost):
            costly = {**sums.buckets, COST: sums.buckets[COST] * OTHER_UNITS}
            found[SCALED] = self._ours(replace(sums, buckets=costly), harm, units=OTHER_UNITS)
        if harm == Harm(failures=harm.failures):
            seen = evidence(sums)
            found |= {rule: first(RULES[rule](seen), sums.plan) for rule in RIVALS}
            if self._points:
                # A point is meant to last a minute; here it lasts a window.
                found[KAYENTA] = judged(sums, 1)
        return found

    def _ours(self, sums: Sums, harm: Harm, *, units: float = 1.0) -> IntArray:
        design = watched()
        found = []
        for each in design.guardrails:
            key = f"{each.name} x{units:g}" if each.name == COST else each.name
            felt = _felt(each.name, harm)
            if (key, felt) not in self._kept:
                self._kept[key, felt] = hourly_rollbacks(sums, Design(guardrails=(each,)))
            found.append(self._kept[key, felt])
        guard = GUARD, _felt(FAILURE, harm)
        if guard not in self._kept:
            self._kept[guard] = guard_rollbacks(sums, design.monitors)
        return np.asarray(np.minimum.reduce([*found, self._kept[guard]]))


def _felt(guardrail: str, harm: Harm) -> Harm:
    """The part of a harm that changes what a guardrail sees."""
    if guardrail == COST:
        return Harm(cost=harm.cost)
    if guardrail == SLOW:
        return Harm(failures=harm.failures, latency=harm.latency)
    return Harm(failures=harm.failures)


def _course(sums: Sums, window: IntArray) -> Course:
    back = window < sums.n.shape[1]
    return Course(
        back=back,
        requests=sums.served(np.where(back, window, -1)),
        planned=sums.served(np.full(window.size, -1)),
    )


def _tally(world: World, harm: str, rule: str, parts: Sequence[Course]) -> Tally:
    back, requests, planned = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("back", "requests", "planned")
    )
    return Tally(
        world=world.name,
        harm=harm,
        rule=rule,
        splits=back.size,
        rolled_back=int(back.sum()),
        requests=float(np.median(requests[back])) if back.any() else float("nan"),
        planned=float(np.median(planned)),
        gated=world.gated,
    )
