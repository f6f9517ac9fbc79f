"""What must hold. Each gate reads the results and says whether it holds, with its figure.

A full run is held to the figures themselves; a quick run, of fewer rollouts, to what its Wilson
limits can tell apart from them, and only in the cells it has.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.rollouts.cells import Group
from bench.rollouts.coverage import Coverage
from bench.rollouts.running import OURS
from bench.rollouts.tally import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A promise, its figure, and whether it holds."""

    id: str
    text: str
    holds: bool

    def __str__(self) -> str:
        """As printed."""
        return f"{'holds' if self.holds else 'broken'}: {self.id} {self.text}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything a run found; worlds: those that alone were run, none for all."""

    tallies: tuple[Tally, ...]
    coverage: tuple[Coverage, ...]
    quick: bool = False
    worlds: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether every cell must be there."""
        return not (self.quick or self.worlds)

    def of(self, group: Group, rule: str = OURS) -> list[Tally]:
        """The tallies of a group under a rule, in order."""
        return [t for t in self.tallies if t.group == group.name and t.rule == rule]

    def cell(self, group: Group, name: str, rule: str = OURS) -> Tally | None:
        """One tally; none in a run that leaves the cell out.

        Raises:
            KeyError: a full run lacks the cell.
        """
        found = [t for t in self.of(group, rule) if t.cell == name]
        if not found and self.whole:
            raise KeyError(f"no cell {name!r} with rule {rule!r} in {group.name}")
        return found[0] if found else None


GateMaker = Callable[[Results], list[Gate]]

LIMIT: Final = 0.05
UPPER: Final = 0.065
"""Largest upper Wilson limit of a share that may be 5 %."""
PROMOTED_UPPER: Final = 0.06


def false_rollbacks(results: Results) -> list[Gate]:
    """G1: a harmless rollout, all guardrails and guard, is rolled back in at most 5 %."""
    return [
        _at_most(results, "G1", f"{tally.cell}: false rollbacks", tally, tally.rolled_back)
        for tally in results.of(Group.HARMLESS)
    ]


def caught_in_time(results: Results) -> list[Gate]:
    """G2: twice the failures are caught within the promised canary requests."""
    split = Group.SPLIT
    return [
        *_caught(results, "G2", split, "Ramp B, independent, 2,000/h, x2", 0.95, within=1_500),
        *_caught(results, "G2", split, "Ramp B, shared drift, 2,000/h, x2", 0.90, within=1_500),
        *_caught(results, "G2", split, "Ramp A, independent, 2,000/h, x2", 0.95, within=3_000),
        *_median(results, "G2", split, "Ramp A, independent, 2,000/h, x2", 1_400.0),
    ]


def power(results: Results) -> list[Gate]:
    """What one guardrail with the whole error catches."""
    one = Group.ONE
    return [
        *_caught(results, "P1", one, "Ramp A, independent, 2,000/h, x2", 0.95, within=3_000),
        *_median(results, "P1", one, "Ramp A, independent, 2,000/h, x2", 1_250.0),
        *_caught(results, "P2", one, "Ramp A, independent, 2,000/h, x1.25", 0.60),
        *_caught(results, "P3", one, "Ramp B, independent, 2,000/h, x2", 0.95, within=1_500),
        *_caught(results, "P4", one, "Ramp A, independent, 200/h, x2", 0.72),
        *_caught(results, "P5", one, "Ramp A, sessions over hours, 2,000/h, x1.25", 0.28),
        *_caught(results, "P5", one, "Ramp A, sessions over hours, 2,000/h, x2", 0.90),
    ]


def evidence(results: Results) -> list[Gate]:
    """G3: nothing is promoted without an answer on every required metric; every hold ends."""
    ours = [t for t in results.tallies if t.rule == OURS]
    unfounded = sum(t.unfounded for t in ours)
    empty = results.of(Group.NO_DATA)
    shipped = sum(t.promoted + t.extended for t in empty)
    rollouts = sum(t.rollouts for t in empty)
    open_ = sum(t.rollouts - t.rolled_back - t.promoted - t.extended - t.reverted for t in ours)
    found = [
        Gate(
            id="G3",
            text=f"promoted without an answer in any cell: {unfounded}",
            holds=unfounded == 0,
        ),
        Gate(id="G3", text=f"rollouts that never end: {open_}", holds=open_ == 0),
    ]
    if empty or not results.worlds:
        nothing = Gate(
            id="G3",
            text=f"promoted where nothing can be known: {shipped} of {rollouts:,}",
            holds=shipped == 0 and rollouts > 0,
        )
        found.insert(1, nothing)
    return found


def wrong_promotions(results: Results) -> list[Gate]:
    """G4: harm of a whole margin is promoted in at most 5 %."""
    return [
        _at_most(
            results,
            "G4",
            f"{tally.cell}: promoted",
            tally,
            tally.promoted + tally.extended,
            upper=PROMOTED_UPPER,
        )
        for tally in results.of(Group.PROMOTION)
        if "true harm m" in tally.cell and "m/2" not in tally.cell
    ]


def coverage(results: Results) -> list[Gate]:
    """G8: 95 % limits at all looks hold the truth in 95 %, those at one look in 93 %."""
    found = []
    for each in results.coverage:
        least = 0.95 if each.always else 0.93
        reached = each.limits[1] if results.quick else each.share
        looks = "at all looks together" if each.always else "at the planned end"
        found.append(
            Gate(
                id="G8",
                text=f"{each.name}: {each.share:.1%} of the limits hold the truth {looks}, "
                f"at least {least:.0%}",
                holds=reached >= least,
            )
        )
    return found


def family(results: Results) -> list[Gate]:
    """G10: with ten guardrails still at most 5 %."""
    return [
        _at_most(results, "G10", f"{tally.cell}: false rollbacks", tally, tally.rolled_back)
        for tally in results.of(Group.SEVERAL)
        if tally.cell.endswith("x1")
    ]


def cheaper(results: Results) -> list[Gate]:
    """A harmless, cheaper arm is promoted in 70 % of the rollouts whose plan check passed."""
    found = results.of(Group.CHEAPER)
    if results.worlds and not found:
        return []
    passed = [t for t in found if t.plan_check]
    return [
        _at_least(results, "P6", f"{t.cell}: promoted", t, t.promoted + t.extended, 0.70)
        for t in passed
    ] or [Gate(id="P6", text="no cell's plan check passed", holds=False)]


def scale(results: Results) -> list[Gate]:
    """A cost change is caught alike, whatever the unit of cost."""
    alike: dict[str, list[Tally]] = {}
    for tally in results.of(Group.SCALE):
        alike.setdefault(tally.cell.partition(", ")[2], []).append(tally)
    return [
        Gate(
            id="P7",
            text=f"cost {what}: rolled back at "
            + ", ".join(
                f"{t.share(t.rolled_back):.1%} ({t.cell.partition(', ')[0]})" for t in tallies
            ),
            holds=len({(t.rolled_back, t.requests) for t in tallies}) == 1,
        )
        for what, tallies in alike.items()
    ]


def simulator(results: Results) -> list[Gate]:
    """Rules that are known to be broken are seen to be broken: the worlds are hard enough."""
    found = []
    for name, rule, least in (
        ("Ramp A, independent, 2,000/h, x1", "z test every hour", 0.20),
        ("Ramp A, sessions over hours, 2,000/h, x1", "Pocock, requests as units", 0.10),
    ):
        tally = results.cell(Group.ONE, name, rule)
        if tally is not None:
            share, high = tally.share(tally.rolled_back), tally.limits(tally.rolled_back)[1]
            found.append(
                Gate(
                    id="S1",
                    text=f"{rule}, {name}: rolled back {share:.1%}, a broken rule is seen to "
                    f"exceed {least:.0%}",
                    holds=(high if results.quick else share) > least,
                )
            )
    return found


GATES: Final[tuple[GateMaker, ...]] = (
    false_rollbacks,
    caught_in_time,
    power,
    evidence,
    wrong_promotions,
    coverage,
    family,
    cheaper,
    scale,
    simulator,
)
"""Further gates are added here."""


def checked(results: Results, makers: Sequence[GateMaker] = GATES) -> list[Gate]:
    """All gates."""
    return [gate for make in makers for gate in make(results)]


def _at_most(
    results: Results, gate: str, text: str, tally: Tally, count: int, *, upper: float = UPPER
) -> Gate:
    share, (low, high) = tally.share(count), tally.limits(count)
    holds = low <= LIMIT if results.quick else share <= LIMIT and high <= upper
    return Gate(
        id=gate,
        text=f"{text} {_limits(share, low, high)}, at most {LIMIT:.1%} and {upper:.1%}",
        holds=holds,
    )


def _at_least(  # noqa: PLR0917 - a gate is this many things
    results: Results, gate: str, text: str, tally: Tally, count: int, least: float
) -> Gate:
    share, (low, high) = tally.share(count), tally.limits(count)
    return Gate(
        id=gate,
        text=f"{text} {_limits(share, low, high)}, at least {least:.0%}",
        holds=(high if results.quick else share) >= least,
    )


def _caught(
    results: Results, gate: str, group: Group, name: str, least: float, *, within: int | None = None
) -> list[Gate]:
    tally = results.cell(group, name)
    if tally is None:
        return []
    counts = {None: tally.rolled_back, 1_500: tally.caught_1500, 3_000: tally.caught_3000}
    text = f"{name}: caught" + ("" if within is None else f" within {within:,} canary requests")
    return [_at_least(results, gate, text, tally, counts[within], least)]


def _median(results: Results, gate: str, group: Group, name: str, most: float) -> list[Gate]:
    tally = results.cell(group, name)
    if tally is None:
        return []
    # A median of a few hundred is known to some percent.
    allowed = most * (1.1 if results.quick else 1.0)
    return [
        Gate(
            id=gate,
            text=f"{name}: median of {tally.requests:,.0f} canary requests, at most {most:,.0f}",
            holds=tally.requests <= allowed,
        )
    ]


def _limits(share: float, low: float, high: float) -> str:
    return f"{share:.1%} [{low:.1%}, {high:.1%}]"
