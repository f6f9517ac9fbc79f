"""Decide: gather the scene, let the pure middle think, and write down what it intends."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from optimizer.cycle import (
    STARTS,
    Discoveries,
    Fate,
    Plan,
    Ruling,
    events_for,
    facts_of,
    recalled,
    together,
)
from optimizer.cycle import decide as arbitrate
from optimizer.decision import Decision
from optimizer.evidence import (
    Considered,
    DecisionId,
    Insight,
    Proposal,
    ProposalId,
    Scene,
    Settled,
    Strategy,
)
from optimizer.loop.equipment import Acting, Equipment
from optimizer.metrics import DAY_S, HOUR_S, floor_s
from optimizer.statistics import arms

LONGEST_MEMORY = timedelta(days=400)
TRACK_MEMORY = timedelta(days=180)
"""How long what a promotion did counts for or against its strategy; no decision is read longer."""
HISTORY_DAYS = 35
"""Five weeks: four whole ones at any hour, and every month since its first day."""
HISTORY_ROWS = 2_000_000
"""Rows of a history at most: beyond, fewer weeks are read, and analyzers say how many they had."""
ALL = "*"

Telling = Callable[[Scene, Sequence[Insight]], Sequence[Considered]]
"""The method ``tell`` of a strategy that has something for people beside its proposals."""


def gather(equipment: Equipment, *, as_of: datetime, only: Sequence[str] = ()) -> Scene:
    """All that this hour reads; ``only`` limits it to those targets, empty = all.

    Only windows that are closed at ``as_of`` are in it, and no decision of this very hour, so that
    a retried run sees the same scene.
    """
    ledger = equipment.ledger
    names = [name for name in equipment.targets if not only or name in only]
    end_s = floor_s(as_of, HOUR_S)
    hours = arms.coded(
        ledger.aggregates.load(HOUR_S, start_s=end_s - equipment.baseline_days * DAY_S, end_s=end_s)
    )
    decisions = ledger.decisions.find(since=as_of - TRACK_MEMORY)
    pauses = ledger.effects.paused()
    return Scene(
        now=as_of,
        targets={name: equipment.targets[name] for name in names},
        policies={name: equipment.policies[name] for name in names},
        baselines=equipment.baseline_arms(),
        hours=hours,
        in_flight={
            d.target: d.id for d in decisions if not d.state.is_final and d.created_at != as_of
        },
        past=tuple(ledger.decisions.past(since=as_of - LONGEST_MEMORY)),
        anchors=ledger.decisions.anchors(),
        changes=_changes(decisions, as_of),
        paused=frozenset(names) if ALL in pauses else frozenset(pauses),
        exploration_spent_usd=exploration_spent(decisions, hours, as_of),
        settled=settled(decisions, as_of),
        history=_history(equipment, hours, end_s),
    )


def _history(equipment: Equipment, hours: pd.DataFrame, end_s: int) -> pd.DataFrame | None:
    """Sums of the weeks before, as many as are bearable; None where they reach no further back."""
    per_day = max(len(hours) / equipment.baseline_days, 1.0)
    days = min(HISTORY_DAYS, int(HISTORY_ROWS / per_day))
    if days <= equipment.baseline_days:
        return None
    return equipment.ledger.aggregates.history(HOUR_S, start_s=end_s - days * DAY_S, end_s=end_s)


def _changes(decisions: Sequence[Decision], as_of: datetime) -> Mapping[str, list[datetime]]:
    """When rollouts of each target began, in the last day."""
    starts: dict[str, list[datetime]] = defaultdict(list)
    for decision in decisions:
        if as_of - timedelta(days=1) < decision.created_at < as_of:
            starts[decision.target].append(decision.created_at)
    return starts


def settled(decisions: Sequence[Decision], as_of: datetime) -> tuple[Settled, ...]:
    """What the measured promotions of the last months promised and did, oldest first."""
    found = [
        Settled(
            strategy=decision.strategy,
            target=decision.target,
            expected=decision.expected,
            actual=decision.actual,
            ended_at=decision.ended_at,
        )
        for decision in decisions
        if decision.actual is not None
        and decision.ended_at is not None
        and as_of - TRACK_MEMORY < decision.ended_at <= as_of
    ]
    return tuple(sorted(found, key=lambda each: (each.ended_at, each.target)))


def exploration_spent(
    decisions: Sequence[Decision], hours: pd.DataFrame, as_of: datetime
) -> Mapping[str, float]:
    """What canaries of untried arms have cost since midnight UTC, USD per target."""
    midnight = floor_s(as_of, DAY_S)
    tried = {(d.target, d.candidate) for d in decisions if d.exploratory}
    today = hours[(hours["window_start_s"] >= midnight) & (hours["slice"] == "canary")]
    spent: dict[str, float] = defaultdict(float)
    sums = today.groupby(["target", "arm"], observed=True)["cost_nusd"].sum()
    for key, cost_nusd in sums.items():
        if key in tried:
            spent[str(key[0])] += float(cost_nusd) * 1e-9
    return spent


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What one hour decided: the plan, and which of its decisions are new in the ledger."""

    plan: Plan
    created: tuple[DecisionId, ...]


def settle_proposals(
    equipment: Equipment,
    scene: Scene,
    proposals: Sequence[Proposal],
    *,
    acting: Acting,
    dry_run: bool = False,
) -> Decided:
    """Arbitrate, validate and store; the same hour twice stores nothing twice.

    A run that died in between is repeated: a proposal whose decision it had stored was accepted,
    whatever is in flight now. What the hour tested is stored before it is acted on, and a repeated
    hour begins with what the hours before it had stored.
    """
    before = _discoveries(equipment, scene)
    plan = arbitrate(
        scene,
        proposals,
        config_hash=equipment.config_hash,
        actor=acting.actor,
        rulings=_rulings(equipment, scene, proposals),
        discoveries=before,
    )
    if dry_run:
        return Decided(plan=plan, created=())
    if plan.discoveries is not None and plan.discoveries != before:
        equipment.ledger.decisions.keep_discoveries(scene.now, plan.discoveries.snapshot())
    created = tuple(
        decision.id
        for decision in plan.decisions
        if equipment.ledger.decisions.create(decision, events_for(decision, run_id=acting.run_id))
    )
    outcomes = _known(equipment, scene, plan)
    equipment.ledger.decisions.add_proposals(scene.now, outcomes)
    return Decided(plan=plan, created=created)


def _rulings(
    equipment: Equipment, scene: Scene, proposals: Sequence[Proposal]
) -> Mapping[ProposalId, Ruling] | None:
    """What the policy points say of each proposal that may start; None where there are none.

    All are asked at once: the hour waits for the slowest, not for each in turn.
    """
    points = equipment.policy_points
    if not points:
        return None
    asked = facts_of(scene, proposals)
    with ThreadPoolExecutor(max_workers=len(points)) as pool:
        return together(asked, list(pool.map(lambda point: point.rule(asked), points)))


def _discoveries(equipment: Equipment, scene: Scene) -> Discoveries | None:
    """What the hour begins with; None where false discoveries are not counted."""
    alpha = equipment.false_discovery_rate
    if alpha is None:
        return None
    kept = equipment.ledger.decisions.discoveries(before=scene.now)
    return recalled(kept, alpha=alpha, now=scene.now)


def _known(equipment: Equipment, scene: Scene, plan: Plan) -> Sequence[tuple[Proposal, str, str]]:
    """What became of each proposal, with what an earlier try of this hour made of it."""
    made = {
        decision.proposal_id: decision
        for decision in equipment.ledger.decisions.find(since=scene.now)
        if decision.created_at == scene.now
    }
    return [_outcome(made.get(proposal.id), proposal, *rest) for proposal, *rest in plan.outcomes]


def _outcome(
    made: Decision | None, proposal: Proposal, fate: str, reason: str
) -> tuple[Proposal, str, str]:
    if made is None or Fate(fate) in STARTS:
        return proposal, fate, reason
    asked = made.approval_asked_at is not None
    return proposal, (Fate.AWAITING_APPROVAL if asked else Fate.ACCEPTED).value, made.reason


def propose(strategy: Strategy, scene: Scene, insights: Sequence[Insight]) -> Sequence[Considered]:
    """What a strategy proposes, and what it tells people where it can.

    The others are not asked for more than their proposals: of many targets that would take long.
    """
    telling: Telling | None = getattr(strategy, "tell", None)
    if telling is not None:
        return telling(scene, insights)
    return [
        Considered(strategy=each.strategy, target=each.target, proposal=each)
        for each in strategy(scene, insights)
    ]


def keep_insights(equipment: Equipment, as_of: datetime, insights: Sequence[Insight]) -> None:
    """Store what the analyzers claim."""
    equipment.ledger.runs.add_insights(as_of, insights)
