"""The cells of the benchmark: a world, a ramp, what is watched, and how many rollouts."""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from bench.rollouts import design
from bench.rollouts.design import Design
from bench.rollouts.plan import Plan, ramp_a, ramp_b
from bench.rollouts.world import Blip, Units, World

WATCHED_HOURS: Final = 24
"""Hours a harmless rollout is held after its ramp, so that the guard looks over two days."""
FEW: Final = 1_000
MANY: Final = 2_000
ENOUGH: Final = 5_000
AT_MARGIN: Final = 10_000
MARGINS: Final = (0.01, 0.005)
EFFECTS: Final = (1.0, 1.25, 1.5, 2.0, 3.0)
HEAVY: Final = (0.8, 1.2, 1.8)
TINY: Final = (1e-5, 1e-6)


OBSERVED: Final = {
    "scores an hour late": World(means=True, label_delay_hours=1.0, maturity_hours=1),
    "bursts, 162 clients": World(means=True, units=Units.BURST),
    "bursts, 43 clients": World(means=True, units=Units.BURST, clients=43, top_ten=0.93),
}
"""Scores that come late or never, and traffic as published traces have it."""


class Group(Enum):
    """What a cell is for; its table's heading."""

    HARMLESS = "No harm: whole rollouts with the default split, watched for two days"
    ONE = "One guardrail with the whole error, no guard"
    SPLIT = "Failures with their part of the default split, and the guard"
    TROUBLE = "Delays, blips, lost and late hours, a broken split"
    SEVERAL = "Several guardrails"
    SCALE = "Higher cost, on scales far apart"
    PROMOTION = "Promotion: failures, margin absolute"
    CHEAPER = "Promotion of a harmless, cheaper arm on all metrics"
    NO_DATA = "Nothing, or too little, to promote on"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One cell. ``draw`` names its random numbers: cells that share it share them.

    rivals: whether the rules to beat run on the same rollouts; points: rollouts of the judge that
    wants one point a minute; quick: whether a quick run has it.
    """

    name: str
    group: Group
    world: World
    plan: Plan
    design: Design
    rollouts: int = MANY
    draw: str = ""
    rivals: bool = False
    points: int = 0
    quick: bool = False

    @property
    def seed_name(self) -> str:
        """What the seeds are made of."""
        return self.draw or f"{self.group.name} {self.name}"


def cells() -> list[Cell]:
    """Every cell, in the order of the tables."""
    found = [
        *_harmless(),
        *_one(),
        *_split(),
        *_trouble(),
        *_several(),
        *_scale(),
        *_promotion(),
        *_cheaper(),
        *_no_data(),
    ]
    names = [(cell.group, cell.name) for cell in found]
    assert len(set(names)) == len(names), "two cells share a name"
    return found


def quick(found: list[Cell]) -> list[Cell]:
    """A few minutes' worth: some cells, fewer rollouts."""
    return [
        replace(
            cell,
            rollouts=min(cell.rollouts, 120 if cell.world.by_rows else 400),
            points=min(cell.points, 4),
        )
        for cell in found
        if cell.quick
    ]


def _harmless() -> list[Cell]:
    worlds = {
        "independent": (World(means=True), design.default()),
        "shared drift": (World(means=True, drift_sd=0.5), design.default()),
        "sessions within a minute": (World(means=True, units=Units.MINUTE), design.default()),
        "sessions over hours": (World(means=True, units=Units.SPAN), design.default()),
        **{
            f"tails of log sd {sigma:g}": (World(means=True, sigma=sigma), design.skewed())
            for sigma in HEAVY
        },
        **{
            f"cost of {usd:g} USD": (World(means=True, cost_usd=usd), design.default())
            for usd in TINY
        },
        **{name: (world, design.default()) for name, world in OBSERVED.items()},
    }
    found = [
        Cell(
            name=f"{name}, {volume:,.0f}/h",
            group=Group.HARMLESS,
            world=world,
            plan=ramp_a(volume, hold_hours=WATCHED_HOURS),
            design=design.unpromoted(watched),
            quick=volume == 200 or name in {"independent", "sessions over hours"},
        )
        for volume in (2_000.0, 200.0)
        for name, (world, watched) in worlds.items()
    ]
    return found + [
        Cell(
            name=f"independent, failures and guard alone, {volume:,.0f}/h",
            group=Group.HARMLESS,
            world=World(),
            plan=ramp_a(volume, hold_hours=WATCHED_HOURS),
            design=design.failures_alone(),
            rollouts=rollouts,
        )
        for volume, rollouts in ((50.0, MANY), (20_000.0, MANY))
    ]


def _one() -> list[Cell]:
    independent = [
        Cell(
            name=f"{name}, independent, {volume:,.0f}/h, x{effect:g}",
            group=Group.ONE,
            world=World(effect=effect),
            plan=ramp(volume, hold_hours=0),
            design=design.one(),
            rollouts=ENOUGH if effect in {1.0, 2.0} else MANY,
            rivals=name == "Ramp A",
            points=60 if name == "Ramp A" and effect != 1.5 else 0,
            quick=volume == 2_000.0 or effect == 2.0,
        )
        for ramp, name in ((ramp_a, "Ramp A"), (ramp_b, "Ramp B"))
        for volume in (2_000.0, 200.0)
        for effect in EFFECTS
    ]
    volumes = [
        Cell(
            name=f"Ramp A, independent, {volume:,.0f}/h, x{effect:g}",
            group=Group.ONE,
            world=World(effect=effect),
            plan=ramp_a(volume, hold_hours=0),
            design=design.one(),
            rivals=True,
        )
        for volume, effect in ((50.0, 2.0), (50.0, 3.0), (20_000.0, 1.25), (20_000.0, 2.0))
    ]
    others = {
        "shared drift": World(drift_sd=0.5),
        "sessions within a minute": World(units=Units.MINUTE),
        "sessions over hours": World(units=Units.SPAN),
    }
    correlated = [
        Cell(
            name=f"Ramp A, {name}, {volume:,.0f}/h, x{effect:g}",
            group=Group.ONE,
            world=replace(world, effect=effect),
            plan=ramp_a(volume, hold_hours=0),
            design=design.one(),
            rivals=True,
            points=60 if effect == 1.0 and volume == 2_000.0 else 0,
            quick=name == "sessions over hours" and volume == 2_000.0,
        )
        for name, world in others.items()
        for volume in (2_000.0, 200.0)
        for effect in (1.0, 1.25, 2.0)
    ]
    return [*independent, *volumes, *correlated]


def _split() -> list[Cell]:
    return [
        Cell(
            name=f"{name}, {how}, 2,000/h, x{effect:g}",
            group=Group.SPLIT,
            world=World(effect=effect, drift_sd=drift),
            plan=ramp(2_000.0, hold_hours=0),
            design=design.failures_alone(),
            rollouts=ENOUGH if effect == 2.0 else MANY,
            quick=effect == 2.0,
        )
        for ramp, name in ((ramp_a, "Ramp A"), (ramp_b, "Ramp B"))
        for how, drift in (("independent", 0.0), ("shared drift", 0.5))
        for effect in EFFECTS
    ]


def _trouble() -> list[Cell]:
    worlds = {
        "harm from hour 10, x2": World(effect=2.0, harm_from_hour=10),
        "one hour x5, both arms": World(blip=Blip.BOTH),
        "one hour x5, canary": World(blip=Blip.CANARY),
        "5 % of hours lost, x1": World(missing=0.05),
        "20 % of hours lost, x1": World(missing=0.20),
        "20 % of hours lost, x2": World(missing=0.20, effect=2.0),
        "two hours late, x1": World(lag_hours=2),
        "two hours late, x2": World(lag_hours=2, effect=2.0),
    }
    found = [
        Cell(
            name=name,
            group=Group.TROUBLE,
            world=world,
            plan=ramp_a(2_000.0),
            design=design.failures_alone(),
            quick=world.missing > 0,
        )
        for name, world in worlds.items()
    ]
    return [
        *found,
        *_observed(),
        *(
            Cell(
                name=f"split {split:.0%} : {1 - split:.0%}, harmless, promotion asked",
                group=Group.TROUBLE,
                world=World(),
                plan=ramp_a(2_000.0, split=split),
                design=design.one(margin=0.01),
            )
            for split in (0.48, 0.50)
        ),
    ]


def _observed() -> list[Cell]:
    found = []
    for name, world in OBSERVED.items():
        harms = {"x2": replace(world, effect=2.0)}
        if world.label_delay_hours > 0:
            harms["quality 0.04 lower"] = replace(world, quality_loss=0.04)
        found += [
            Cell(
                name=f"{name}, {volume:,.0f}/h, {harm}",
                group=Group.TROUBLE,
                world=harmed,
                plan=ramp_a(volume),
                design=design.unpromoted(design.default()),
                rollouts=FEW,
                quick=harm == "x2" and volume == 2_000.0,
            )
            for volume in (2_000.0, 200.0)
            for harm, harmed in harms.items()
        ]
    return found


def _several() -> list[Cell]:
    return [
        Cell(
            name=f"{count} guardrails, {volume:,.0f}/h, x{effect:g}",
            group=Group.SEVERAL,
            world=World(guardrails=count, effect=effect),
            plan=ramp_a(volume, hold_hours=0),
            design=design.several(count),
            rollouts=4_000 if effect == 1.0 else FEW,
            quick=count == 10 and volume == 2_000.0,
        )
        for count in (1, 3, 10)
        for volume in (2_000.0, 200.0)
        for effect in (1.0, 2.0)
    ]


def _scale() -> list[Cell]:
    return [
        Cell(
            name=f"cost of {usd:g} USD, {100 * (effect - 1.0):.0f} % higher, {volume:,.0f}/h",
            group=Group.SCALE,
            world=World(means=True, cost_usd=usd, cost_effect=effect),
            plan=ramp_a(volume, hold_hours=0),
            design=design.cost_alone(),
            rollouts=FEW,
            # The same random numbers: a decision that differs is the scale's doing.
            draw=f"scale {effect} {volume}",
            quick=volume == 200.0,
        )
        for volume, effect in ((2_000.0, 1.5), (200.0, 1.5), (200.0, 1.1))
        for usd in (1.0, *TINY)
    ]


def _promotion() -> list[Cell]:
    found = []
    for margin in MARGINS:
        for volume in (2_000.0, 200.0):
            for name, harm in (("0", 0.0), ("m/2", margin / 2), ("m", margin)):
                found.append(
                    Cell(
                        name=f"m {margin:g}, {volume:,.0f}/h, true harm {name}",
                        group=Group.PROMOTION,
                        world=World(effect=1.0 + harm / World().rate),
                        plan=ramp_a(volume),
                        design=design.one(margin=margin),
                        rollouts=AT_MARGIN if name == "m" else MANY,
                        quick=True,
                    )
                )
    for units, volume in ((Units.SPAN, 2_000.0), (Units.SPAN, 200.0), (Units.MINUTE, 2_000.0)):
        found.append(
            Cell(
                name=f"m 0.01, {volume:,.0f}/h, true harm m, {_SESSIONS[units]}",
                group=Group.PROMOTION,
                world=World(effect=1.0 + 0.01 / World().rate, units=units),
                plan=ramp_a(volume),
                design=design.one(margin=0.01),
                rollouts=ENOUGH,
            )
        )
    return found


_SESSIONS: Final = {Units.SPAN: "sessions over hours", Units.MINUTE: "sessions within a minute"}


def _cheaper() -> list[Cell]:
    return [
        Cell(
            name=f"30 % cheaper, {name}, {volume:,.0f}/h",
            group=Group.CHEAPER,
            world=World(means=True, cost_effect=0.7, units=units),
            plan=ramp_a(volume),
            design=design.default(cost_is_the_goal=True),
            rollouts=FEW,
            quick=volume == 2_000.0 and units is Units.SINGLE,
        )
        for units, name in ((Units.SINGLE, "independent"), (Units.SPAN, "sessions over hours"))
        for volume in (6_000.0, 2_000.0, 200.0)
        if units is Units.SPAN or volume < 6_000.0
    ]


def _no_data() -> list[Cell]:
    worlds = {
        "no canary traffic": World(means=True, canary=False),
        "no hour arrives": World(means=True, missing=1.0),
        "no labels": World(means=True, labelled=0.0),
        "few labels": World(means=True, labelled=0.005),
        "no sessions of the canary": World(means=True, canary=False, units=Units.SPAN),
        "hardly any traffic": World(means=True),
    }
    return [
        Cell(
            name=name,
            group=Group.NO_DATA,
            world=world,
            plan=ramp_a(20.0 if name == "hardly any traffic" else 200.0),
            design=design.default(),
            rollouts=FEW if world.canary else 300,
            quick=True,
        )
        for name, world in worlds.items()
    ]
