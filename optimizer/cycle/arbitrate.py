"""Arbitrate: which proposals are validated, in which order, and what starts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from optimizer.cycle.case import Case, Fate
from optimizer.cycle.planned import latency_thresholds_ms, measured_shares, ramp_plan
from optimizer.cycle.start import start
from optimizer.cycle.validate import validate
from optimizer.decision import Decision, State, move
from optimizer.evidence import Proposal, Scene
from optimizer.metrics import DAY_S
from optimizer.statistics import arms

KNOWN_DAYS = 7
"""Days of traffic that arbitration looks back on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that one hour intends: new decisions, and for each proposal (it, fate, reason).

    Decisions are ordered by target, outcomes as they were arbitrated: most urgent first.
    """

    decisions: tuple[Decision, ...] = ()
    outcomes: tuple[tuple[Proposal, str, str], ...] = ()


def decide(scene: Scene, proposals: Sequence[Proposal], *, config_hash: str, actor: str) -> Plan:
    """The decisions this hour starts, and what became of every proposal.

    Urgent proposals come first, then larger priority, then larger expected daily saving, then the
    smaller id. A decision is VALIDATING, or AWAITING_APPROVAL where a person must agree.

    Args:
        scene: what the proposals were made from; ``now`` becomes the decisions' creation time.
        proposals: of all strategies, in any order.
        config_hash: of the configuration in force; part of the decisions' ids.
        actor: who runs the cycle, for the log.
    """
    named = {proposal.target for proposal in proposals}
    hours = _known(scene, named)
    rates = arms.requests_per_hour(hours, now_s=int(scene.now.timestamp()))
    thresholds, measured = latency_thresholds_ms(scene, hours), measured_shares(scene, hours)
    decisions: dict[str, Decision] = {}
    outcomes: list[tuple[Proposal, str, str]] = []
    for proposal in sorted(proposals, key=_rank):
        taken = decisions.get(proposal.target)
        fate, reason = (
            (Fate.OUTRANKED, f"decision {taken.id} for {taken.candidate} was taken first")
            if taken is not None
            else _gate(scene, proposal) or validate(_case(scene, proposal, rates))
        )
        if fate in {Fate.ACCEPTED, Fate.AWAITING_APPROVAL}:
            decision = replace(
                start(scene, proposal, config_hash=config_hash, actor=actor),
                latency_threshold_ms=thresholds.get(proposal.target),
                plan=ramp_plan(scene, proposal, rates, measured),
            )
            if fate is Fate.AWAITING_APPROVAL:
                decision = move(
                    decision,
                    State.AWAITING_APPROVAL,
                    scene.now,
                    approval_asked_at=scene.now,
                    reason=reason,
                )
            decisions[proposal.target] = decision
        outcomes.append((proposal, fate.value, reason))
    return Plan(
        decisions=tuple(decision for _, decision in sorted(decisions.items())),
        outcomes=tuple(outcomes),
    )


def _rank(proposal: Proposal) -> tuple[bool, int, float, str]:
    saving = proposal.expected.daily_saving_usd
    size = saving if saving is not None and math.isfinite(saving) else 0.0
    return (not proposal.urgent, -proposal.priority, -size, proposal.id)


def _known(scene: Scene, names: set[str]) -> pd.DataFrame:
    now_s = int(scene.now.timestamp())
    rows = arms.within(scene.hours, start_s=now_s - KNOWN_DAYS * DAY_S, end_s=now_s)
    return rows[rows["target"].isin(names)]


def _gate(scene: Scene, proposal: Proposal) -> tuple[Fate, str] | None:
    """Why the proposal cannot even be validated."""
    name, candidate = proposal.target, proposal.candidate
    target = scene.targets.get(name)
    if target is None or name not in scene.policies:
        return Fate.INVALID, f"target {name} is not configured"
    arm = next((arm for arm in target.arms if arm.name == candidate), None)
    if arm is None or not arm.enabled:
        return Fate.INVALID, f"arm {candidate} of {name} is unknown or disabled"
    if candidate == scene.baselines.get(name, target.baseline):
        return Fate.INVALID, f"arm {candidate} already is the baseline of {name}"
    if name in scene.in_flight:
        return Fate.TARGET_IN_FLIGHT, f"decision {scene.in_flight[name]} is in flight"
    if name in scene.paused:
        return Fate.PAUSED, f"target {name} is paused"
    return None


def _case(scene: Scene, proposal: Proposal, rates: Mapping[str, float]) -> Case:
    return Case(
        proposal=proposal,
        policy=scene.policies[proposal.target],
        now=scene.now,
        requests_per_hour=rates.get(proposal.target),
        changes=scene.changes.get(proposal.target, ()),
        spent_usd=scene.exploration_spent_usd.get(proposal.target, 0.0),
        predicted={e.metric: (e.canary, e.control) for e in proposal.estimates},
    )
