"""What must hold on the replayed traces.

A full run is held to the figures themselves; a quick run, of fewer splits, to what its Wilson
limits can tell apart from them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.rollouts.gates import LIMIT, UPPER, Gate
from bench.rollouts.running import OURS
from bench.traced.covering import Covered
from bench.traced.running import (
    CAREFUL,
    COSTLY,
    HARMLESS,
    PEEKING,
    SCALED,
    SLOWER,
    THRICE,
    TWICE,
    Tally,
)
from bench.traced.worlds import CHAT, DAY, LARGE, LARGE_SELDOM, SMALL, SMALL_KEPT

CAUGHT: Final = 0.95
REQUESTS: Final = 1_400.0
"""Canary requests by which half of the rollouts with twice the failures are rolled back."""
COVERS: Final = 0.95
BROKEN: Final = 0.10
"""False roll-backs beyond which a rule is seen to break its promise of 5 %."""
OFTEN: Final = (SMALL, LARGE, CHAT)
"""Worlds whose ramp has thousands of canary requests that fail independently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything a run found."""

    tallies: tuple[Tally, ...]
    covered: Covered
    quick: bool = False

    def of(self, rule: str, harm: str, worlds: Sequence[str] | None = None) -> list[Tally]:
        """The tallies of a rule and harm, in the order of the worlds; None for all worlds."""
        return [
            t
            for t in self.tallies
            if t.rule == rule and t.harm == harm and (worlds is None or t.world in worlds)
        ]


def false_rollbacks(results: Results) -> list[Gate]:
    """A harmless canary is rolled back in at most 5 %, upper limit 6.5 %."""
    found = []
    for tally in results.of(OURS, HARMLESS):
        low, high = tally.limits
        holds = low <= LIMIT if results.quick else tally.share <= LIMIT and high <= UPPER
        if tally.gated:
            found.append(
                Gate(
                    id="T1",
                    text=f"{tally.world}, no harm: rolled back {_limits(tally)}, at most "
                    f"{LIMIT:.1%} and {UPPER:.1%}",
                    holds=holds,
                )
            )
    return found


def caught(results: Results) -> list[Gate]:
    """Injected harm is caught."""
    asked = [
        *results.of(OURS, TWICE, OFTEN),
        *results.of(OURS, THRICE, (*OFTEN, SMALL_KEPT, LARGE_SELDOM, DAY)),
        *results.of(OURS, SLOWER, OFTEN),
        *(tally for tally in results.of(OURS, COSTLY) if tally.gated),
    ]
    return [
        Gate(
            id="T2",
            text=f"{tally.world}, {tally.harm}: caught {_limits(tally)}, at least {CAUGHT:.0%}",
            holds=(tally.limits[1] if results.quick else tally.share) >= CAUGHT,
        )
        for tally in asked
    ]


def soon(results: Results) -> list[Gate]:
    """Twice the failures are caught soon."""
    # A median of a few dozen is known to a fifth or so.
    allowed = REQUESTS * (1.25 if results.quick else 1.0)
    return [
        Gate(
            id="T3",
            text=f"{tally.world}, {tally.harm}: rolled back after a median of "
            f"{tally.requests:,.0f} canary requests, at most {REQUESTS:,.0f}",
            holds=tally.requests <= allowed,
        )
        for tally in results.of(OURS, TWICE, OFTEN)
    ]


def scale(results: Results) -> list[Gate]:
    """The unit of cost changes no decision."""
    found = []
    for harm in (HARMLESS, COSTLY):
        pairs = list(zip(results.of(OURS, harm), results.of(SCALED, harm), strict=True))
        alike = [
            (a.rolled_back, a.requests) == (b.rolled_back, b.requests)
            or (a.rolled_back == b.rolled_back == 0)
            for a, b in pairs
        ]
        found.append(
            Gate(
                id="T4",
                text=f"harm {harm}: the same roll-backs with cost in other units in "
                f"{sum(alike)} of {len(alike)} worlds",
                holds=all(alike) and bool(alike),
            )
        )
    return found


def coverage(results: Results) -> list[Gate]:
    """95 % limits of the p95 latency hold the truth at all looks together in 95 %."""
    return [
        Gate(
            id="T5",
            text=f"{each.name}: {each.share:.1%} of the limits hold the truth at all looks "
            f"together, at least {COVERS:.0%}",
            holds=(each.limits[1] if results.quick else each.share) >= COVERS,
        )
        for each in results.covered.promised
    ]


def worlds_are_hard(results: Results) -> list[Gate]:
    """Rules that are known to break their promise are seen to break it here."""
    broken = [
        *(t for t in results.of(PEEKING, HARMLESS) if t.gated),
        *results.of(CAREFUL, HARMLESS, (SMALL_KEPT,)),
    ]
    return [
        *(
            Gate(
                id="T6",
                text=f"{tally.world}, {tally.rule}: rolled back {_limits(tally)} without harm, a "
                f"broken rule is seen to exceed {BROKEN:.0%}",
                holds=(tally.limits[1] if results.quick else tally.share) > BROKEN,
            )
            for tally in broken
        ),
        _one_look(results),
    ]


def _one_look(results: Results) -> Gate:
    """In one set at least; where a bucket holds much of the tail, its width hides the error."""
    worst = min(results.covered.contrast, key=lambda each: each.share)
    return Gate(
        id="T6",
        text=f"{worst.name}: limits for one look hold the truth at all looks in "
        f"{worst.share:.1%}, seen to be below {COVERS:.0%}",
        holds=(worst.limits[0] if results.quick else worst.share) < COVERS,
    )


PROMISES: Final[tuple[Callable[[Results], list[Gate]], ...]] = (
    false_rollbacks,
    caught,
    soon,
    scale,
    coverage,
    worlds_are_hard,
)


def checked(results: Results) -> list[Gate]:
    """All gates."""
    return [gate for make in PROMISES for gate in make(results)]


def _limits(tally: Tally) -> str:
    low, high = tally.limits
    return f"{tally.share:.1%} [{low:.1%}, {high:.1%}]"
