"""How often an arm that is truly worse than the margin is promoted all the same.

Every rollout is forced: a strategy proposes the arm whatever its prior says, so that all that
stands between harm and full traffic is arbitration, the judge and the planner.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from bench.replay_savings import policy
from bench.world.coderouter import BASELINE, Benchmark
from bench.world.loop import World, opened, run
from bench.world.outcomes import Outcomes
from bench.world.outcomes import mixed as mixture
from bench.world.traffic import Traffic, streams
from optimizer.decision import State
from optimizer.evidence import Impact, Insight, Outcome, Past, Proposal, Scene, proposal_id
from optimizer.metrics import HOUR_S
from optimizer.statistics.planning import wilson_interval
from optimizer.targets import Arm, ModelConfig, Target

REQUESTS_PER_HOUR: Final = 4_000.0
HOLD: Final = timedelta(hours=12)
"""Longest stay in one stage: some 25,000 requests an arm, in half as many looks as by default."""
PLANNED_HOURS: Final = 12.0
"""Planned length of a forced ramp: the last stage then has time for its extension."""
CANDIDATE: Final = "candidate"
MEASURED: Final = "measured arm, harm > margin"
AT_MARGIN: Final = "harm = margin"
TIED: Final = 1e-9
"""Difference of harms, relative, that is rounding."""


def try_everything(scene: Scene, _insights: Sequence[Insight]) -> tuple[Proposal, ...]:
    """For each idle target its first arm never tried there, without asking how good it is."""
    tried: set[tuple[str, str]] = {_key(past) for past in scene.past}
    found = []
    for name, target in scene.targets.items():
        base = scene.baselines.get(name, target.baseline)
        known = {base, target.baseline}
        untried = [
            arm.name
            for arm in target.arms
            if arm.name not in known and (name, arm.name) not in tried
        ]
        if untried and name not in scene.in_flight:
            found.append(
                Proposal(
                    id=proposal_id("everything", name, untried[0], scene.now),
                    strategy="everything",
                    target=name,
                    candidate=untried[0],
                    rationale="every arm is tried once",
                    expected=Impact(),
                    planned_hours=PLANNED_HOURS,
                )
            )
    return tuple(found)


def _key(past: Past) -> tuple[str, str]:
    return past.target, past.arm


@dataclass(frozen=True, slots=True, kw_only=True)
class Harmful:
    """One forced rollout to be: a candidate of known harm, in margins, on a target."""

    name: str
    cell: str
    harm_in_margins: float
    margin: float
    outcomes: Outcomes
    baseline: Outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Rollouts of one margin and kind: how many, and how they ended."""

    margin: float
    kind: str
    rollouts: int
    promoted: int
    rolled_back: int
    reverted: int

    @property
    def wilson_upper(self) -> float:
        """Upper 95 % Wilson limit of the share that was promoted."""
        return float(wilson_interval(self.promoted, self.rollouts)[1])


def cases(
    bench: Benchmark, *, margin: float, mixed: Mapping[float, int], real_each: int
) -> list[Harmful]:
    """Arms worse than the margin and not dearer: measured ones, and mixtures of exact harm.

    mixed: harm in margins -> rollouts of mixtures, spread over targets and arms; real_each:
    rollouts of each measured arm.
    """
    worse = [
        (target, arm)
        for target in bench.targets
        for arm in bench.models
        if bench.lost(target, arm) > max(mixed) * margin and bench.saved(target, arm) > 0
    ]
    found = [
        _case(bench, target, arm, margin, MEASURED, None, copy)
        for target, arm in worse
        for copy in range(real_each)
    ]
    for factor, rollouts in mixed.items():
        kind = AT_MARGIN if factor == 1.0 else f"harm = {factor:g} margin"
        for number in range(rollouts):
            target, arm = worse[number % len(worse)]
            found.append(_case(bench, target, arm, margin, kind, factor, number))
    return found


def _case(  # noqa: PLR0917 - a case is this many things
    bench: Benchmark,
    target: str,
    arm: str,
    margin: float,
    kind: str,
    factor: float | None,
    copy: int,
) -> Harmful:
    base, other, lost = (
        bench.outcomes[target, BASELINE],
        bench.outcomes[target, arm],
        bench.lost(target, arm),
    )
    outcomes = other if factor is None else mixture(base, other, factor * margin / lost)
    harm = (base.quality - outcomes.quality) / margin
    assert harm >= 1.0 - TIED, f"{arm} on {target} is not worse than the margin"
    return Harmful(
        name=f"{target}/{arm}/{0.0 if factor is None else factor:g}/{copy}",
        cell=kind,
        harm_in_margins=harm,
        margin=margin,
        outcomes=outcomes,
        baseline=base,
    )


def forced(chosen: Sequence[Harmful]) -> Counter[tuple[float, str, str]]:
    """How many rollouts of each margin and kind ended how: each case is tried once to its end."""
    targets = {f"{case.name}/{case.margin:g}": case for case in chosen}
    chance = streams(0, list(targets))
    limits = {
        name: replace(policy(case.margin), hold_expires_after=HOLD)
        for name, case in targets.items()
    }
    world = opened(
        {name: _target(name) for name in targets},
        limits,
        {
            name: Traffic(
                arms={BASELINE: case.baseline, CANDIDATE: case.outcomes},
                requests_per_hour=REQUESTS_PER_HOUR,
                chance=chance[name],
            )
            for name, case in targets.items()
        },
        {"everything": try_everything},
    )
    stages = max(len(each.stages) for each in limits.values())
    longest = (stages + 1) * HOLD.total_seconds() / HOUR_S
    run(world, hours=int(longest), done=_decided)
    return _counted(world, targets)


def _target(name: str) -> Target:
    arms = tuple(Arm(name=arm, config=ModelConfig(model=arm)) for arm in (BASELINE, CANDIDATE))
    return Target(name=name, arms=arms, baseline=BASELINE)


def _decided(world: World) -> bool:
    """Whether every rollout has ended or was promoted."""
    canaries = {State.PENDING, State.VALIDATING, State.DEPLOYING, State.ROLLING_BACK}
    decisions = world.ledger.decisions.find()
    return bool(decisions) and all(each.state not in canaries for each in decisions)


def _counted(world: World, targets: Mapping[str, Harmful]) -> Counter[tuple[float, str, str]]:
    found: Counter[tuple[float, str, str]] = Counter()
    for each in world.ledger.decisions.find():
        case = targets[each.target]
        ending = "rolled_back"
        if each.deployed_at is not None:
            ending = "promoted"
        elif world.ledger.decisions.looks(each.id)[-1].verdict.outcome is not Outcome.FAIL:
            ending = "reverted"
        found[case.margin, case.cell, ending] += 1
    return found


def cells(counts: Counter[tuple[float, str, str]]) -> list[Cell]:
    """The table of cells, by margin and kind."""
    keys = sorted({(margin, kind) for margin, kind, _ in counts})
    return [
        Cell(
            margin=margin,
            kind=kind,
            rollouts=sum(
                counts[margin, kind, end] for end in ("promoted", "rolled_back", "reverted")
            ),
            promoted=counts[margin, kind, "promoted"],
            rolled_back=counts[margin, kind, "rolled_back"],
            reverted=counts[margin, kind, "reverted"],
        )
        for margin, kind in keys
    ]


def pooled(found: Sequence[Cell], *, exact: bool) -> Cell:
    """All cells whose harm is exactly the margin, or all whose harm is above it, as one."""
    chosen = [cell for cell in found if (cell.kind == AT_MARGIN) is exact]
    return Cell(
        margin=float("nan"),
        kind="harm = margin, all" if exact else "harm > margin, all",
        rollouts=sum(cell.rollouts for cell in chosen),
        promoted=sum(cell.promoted for cell in chosen),
        rolled_back=sum(cell.rolled_back for cell in chosen),
        reverted=sum(cell.reverted for cell in chosen),
    )
