"""Run cells: draw rollouts in parts of a fixed size, ask every rule, and add up."""

import hashlib

import numpy as np

from bench.rollouts.cells import Cell
from bench.rollouts.design import Guardrail
from bench.rollouts.independent import counted
from bench.rollouts.kayenta_rule import POINTS, judged
from bench.rollouts.ours import verdicts
from bench.rollouts.plan import Plan
from bench.rollouts.requests import (
    SCORE_SD,
    SESSION_REQUESTS,
    SLOW_SHARE,
    summed,
)
from bench.rollouts.rules import RULES, evidence, first
from bench.rollouts.tally import Course, Tally, of_ours, of_rule, tallied
from bench.rollouts.world import COST, FAILURE, SLOW, Sums, Units, World
from optimizer.statistics.planning import units_needed

OURS = "this project"
ROWS_AT_ONCE = 3_000_000
BUCKETED_AT_ONCE = 60
COUNTED_AT_ONCE = 2_000
MINUTES_AN_HOUR = 60


def chance(name: str, part: int) -> np.random.Generator:
    """The random numbers of one part of a cell: the same on every machine and in any order."""
    digest = hashlib.sha256(f"{name}|{part}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:8], "big")))


def drawn(world: World, plan: Plan, rollouts: int, numbers: np.random.Generator) -> Sums:
    """The window sums of some rollouts."""
    make = summed if world.by_rows else counted
    return make(world, plan, rollouts, numbers)


def part_size(cell: Cell) -> int:
    """Rollouts drawn at once: depends on the cell alone, so that results do not on the machine."""
    if not cell.world.by_rows:
        return max(50, int(COUNTED_AT_ONCE * min(1.0, 4_000.0 / cell.plan.volume)))
    rows = cell.plan.volume * float(cell.plan.hourly_shares().sum())
    return int(np.clip(ROWS_AT_ONCE / rows, 5, BUCKETED_AT_ONCE))


def run(cell: Cell) -> list[Tally]:
    """What comes out of a cell: ours first, then the rules to beat."""
    courses: dict[str, list[Course]] = {OURS: []}
    size = part_size(cell)
    for part, start in enumerate(range(0, cell.rollouts, size)):
        numbers = chance(cell.seed_name, part)
        sums = drawn(cell.world, cell.plan, min(size, cell.rollouts - start), numbers)
        courses[OURS].append(of_ours(sums, verdicts(sums, cell.design)))
        if cell.rivals:
            seen = evidence(sums)
            for name, rule in RULES.items():
                course = of_rule(sums, first(rule(seen), cell.plan))
                courses.setdefault(name, []).append(course)
    if cell.points:
        courses |= _points(cell)
    return [
        tallied(
            parts,
            cell=cell.name,
            group=cell.group.name,
            rule=rule,
            plan_check=plan_check(cell) if rule == OURS else None,
        )
        for rule, parts in courses.items()
    ]


def _points(cell: Cell) -> dict[str, list[Course]]:
    """The judge of time series, on rollouts of its own drawn minute by minute."""
    found: dict[str, list[Course]] = {}
    plan = Plan(
        volume=cell.plan.volume,
        shares=cell.plan.shares,
        control_ratio=cell.plan.control_ratio,
        hold_hours=0,
        windows_an_hour=MINUTES_AN_HOUR,
    )
    part = 10 if cell.world.by_rows else cell.points
    for number, start in enumerate(range(0, cell.points, part)):
        numbers = chance(f"{cell.seed_name} by minute", number)
        sums = drawn(cell.world, plan, min(part, cell.points - start), numbers)
        for minutes in POINTS:
            course = of_rule(sums, judged(sums, minutes))
            found.setdefault(f"Kayenta, points of {minutes} min", []).append(course)
    return found


def plan_check(cell: Cell) -> bool | None:
    """Whether the ramp promises an answer on every required metric; None if none is required."""
    if not cell.design.required:
        return None
    return all(_needed(cell, each) <= _planned(cell, each) for each in cell.design.required)


def _planned(cell: Cell, guardrail: Guardrail) -> float:
    return cell.plan.planned_canary * guardrail.measured


def _needed(cell: Cell, guardrail: Guardrail) -> float:
    """Canary units that show harm below the margin, when there is none.

    References:
        The design effect of requests in units: ``1 + icc (E[m^2] / E[m] - 1)``, m requests a unit;
        Kish (1965), Survey Sampling.
    """
    world = cell.world
    margin = guardrail.margin or 0.0
    slow = world.rate + (1.0 - world.rate) * SLOW_SHARE
    variance = {
        FAILURE: world.rate * (1.0 - world.rate),
        SLOW: slow * (1.0 - slow),
        COST: world.cost_usd**2 * float(np.expm1(world.sigma**2)),
    }.get(guardrail.name, SCORE_SD**2)
    if guardrail.name == COST:
        margin += world.cost_usd * (1.0 - world.cost_effect)
    like = {
        Units.SINGLE: 1.0,
        Units.MINUTE: float(SESSION_REQUESTS),
        Units.SPAN: 2.0 * SESSION_REQUESTS - 1.0,
        Units.BURST: float(SESSION_REQUESTS),
    }[world.units]
    return float(units_needed(variance, margin, design_effect=1.0 + world.icc * (like - 1.0)))
