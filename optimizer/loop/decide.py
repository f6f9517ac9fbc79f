"""Decide: gather the scene, let the pure middle think, and write down what it intends."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd

from optimizer.cycle import Fate, Plan, events_for
from optimizer.cycle import decide as arbitrate
from optimizer.decision import Decision
from optimizer.evidence import DecisionId, Insight, Proposal, Scene
from optimizer.loop.equipment import Acting, Equipment
from optimizer.metrics import DAY_S, HOUR_S, floor_s

LONGEST_MEMORY = timedelta(days=400)
ALL = "*"


def gather(equipment: Equipment, *, as_of: datetime, only: Sequence[str] = ()) -> Scene:
    """All that this hour reads; ``only`` limits it to those targets, empty = all.

    Only windows that are closed at ``as_of`` are in it, so that a retried run sees the same scene.
    """
    ledger = equipment.ledger
    names = [name for name in equipment.targets if not only or name in only]
    end_s = floor_s(as_of, HOUR_S)
    hours = ledger.aggregates.load(
        HOUR_S, start_s=end_s - equipment.baseline_days * DAY_S, end_s=end_s
    )
    decisions = ledger.decisions.find()
    pauses = ledger.effects.paused()
    return Scene(
        now=as_of,
        targets={name: equipment.targets[name] for name in names},
        policies={name: equipment.policies[name] for name in names},
        baselines=equipment.baseline_arms(),
        hours=hours,
        in_flight={d.target: d.id for d in decisions if not d.state.is_final},
        past=tuple(ledger.decisions.past(since=as_of - LONGEST_MEMORY)),
        anchors=ledger.decisions.anchors(),
        changes=_changes(decisions, as_of),
        paused=frozenset(names) if ALL in pauses else frozenset(pauses),
        exploration_spent_usd=exploration_spent(decisions, hours, as_of),
    )


def _changes(decisions: Sequence[Decision], as_of: datetime) -> Mapping[str, list[datetime]]:
    """When rollouts of each target began, in the last day."""
    starts: dict[str, list[datetime]] = defaultdict(list)
    for decision in decisions:
        if as_of - timedelta(days=1) < decision.created_at <= as_of:
            starts[decision.target].append(decision.created_at)
    return starts


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
    whatever is in flight now.
    """
    plan = arbitrate(scene, proposals, config_hash=equipment.config_hash, actor=acting.actor)
    if dry_run:
        return Decided(plan=plan, created=())
    created = tuple(
        decision.id
        for decision in plan.decisions
        if equipment.ledger.decisions.create(decision, events_for(decision, run_id=acting.run_id))
    )
    outcomes = [_known(equipment, scene, *outcome) for outcome in plan.outcomes]
    equipment.ledger.decisions.add_proposals(scene.now, outcomes)
    return Decided(plan=plan, created=created)


def _known(
    equipment: Equipment, scene: Scene, proposal: Proposal, fate: str, reason: str
) -> tuple[Proposal, str, str]:
    """The proposal's outcome, with what an earlier try of this hour made of it."""
    if fate != Fate.TARGET_IN_FLIGHT.value:
        return proposal, fate, reason
    flying = equipment.ledger.decisions.get(scene.in_flight[proposal.target])
    if flying.proposal_id != proposal.id:
        return proposal, fate, reason
    asked = flying.approval_asked_at is not None
    return proposal, (Fate.AWAITING_APPROVAL if asked else Fate.ACCEPTED).value, flying.reason


def keep_insights(equipment: Equipment, as_of: datetime, insights: Sequence[Insight]) -> None:
    """Store what the analyzers claim."""
    equipment.ledger.runs.add_insights(as_of, insights)
