"""Arbitrate: which proposals are validated, in which order, and what starts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from optimizer.cycle.autonomy import TrackRecord, track_records
from optimizer.cycle.blast_radius import in_flight, limited_together, risk_of, total
from optimizer.cycle.case import AT_REST, Case, Fate, Peak, Risk, Ruling
from optimizer.cycle.discoveries import Discoveries, is_tested
from optimizer.cycle.explored import logged
from optimizer.cycle.headroom import peaks
from optimizer.cycle.planned import latency_thresholds_ms, measured_shares, ramp_plan
from optimizer.cycle.policies import NOBODY
from optimizer.cycle.start import start
from optimizer.cycle.validate import validate
from optimizer.decision import Decision, State, move
from optimizer.evidence import Proposal, ProposalId, Scene
from optimizer.metrics import DAY_S
from optimizer.statistics import arms

KNOWN_DAYS = 7
"""Days of traffic that arbitration looks back on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that one hour intends: new decisions, and for each proposal (it, fate, reason).

    Decisions are ordered by target, outcomes as they were arbitrated: most urgent first;
    discoveries: what the next hour begins with, None = they are not counted.
    """

    decisions: tuple[Decision, ...] = ()
    outcomes: tuple[tuple[Proposal, str, str], ...] = ()
    discoveries: Discoveries | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """What all cases of the hour read."""

    rates: Mapping[str, float]
    records: Mapping[str, TrackRecord]
    peaks: Mapping[str, Peak]
    rulings: Mapping[ProposalId, Ruling] | None
    undiscovered: Mapping[ProposalId, str] = field(default_factory=dict)


def decide(
    scene: Scene,
    proposals: Sequence[Proposal],
    *,
    config_hash: str,
    actor: str,
    rulings: Mapping[ProposalId, Ruling] | None = None,
    discoveries: Discoveries | None = None,
) -> Plan:
    """The decisions this hour starts, and what became of every proposal.

    Urgent proposals come first, then larger priority, then larger expected daily saving, then the
    smaller id. A decision is VALIDATING, or AWAITING_APPROVAL where a person must agree.

    Args:
        scene: what the proposals were made from; ``now`` becomes the decisions' creation time.
        proposals: of all strategies, in any order.
        config_hash: of the configuration in force; part of the decisions' ids.
        actor: who runs the cycle, for the log.
        rulings: of the policy points, None = there are none; a proposal that is not in it is held.
        discoveries: what earlier hours have tested and found, None = they are not counted.
    """
    named = {proposal.target for proposal in proposals}
    others = limited_together(policy.blast_radius for policy in scene.policies.values())
    hours = known_hours(scene, named | set(scene.in_flight) if others else named)
    rates = arms.requests_per_hour(hours, now_s=int(scene.now.timestamp()))
    flying = in_flight(scene, hours, rates) if others else AT_REST
    known = _Known(
        rates=rates,
        records=track_records(scene.settled),
        peaks=peaks(hours[hours["target"].isin(_rate_limited(scene, named))]),
        rulings=rulings,
    )
    thresholds, measured = latency_thresholds_ms(scene, hours), measured_shares(scene, hours)
    ranked = sorted(proposals, key=_rank)
    if discoveries is not None:
        asked = _to_be_tested(scene, ranked, known, flying)
        undiscovered, discoveries = discoveries.test(scene, asked)
        known = replace(known, undiscovered=undiscovered)
    decisions: dict[str, Decision] = {}
    outcomes: list[tuple[Proposal, str, str]] = []
    for proposal in ranked:
        taken = decisions.get(proposal.target)
        fate, reason = (
            (Fate.OUTRANKED, f"decision {taken.id} for {taken.candidate} was taken first")
            if taken is not None
            else gate(scene, proposal) or validate(_case(scene, proposal, known, flying))
        )
        if fate in {Fate.ACCEPTED, Fate.AWAITING_APPROVAL}:
            decision = replace(
                start(scene, proposal, config_hash=config_hash, actor=actor),
                latency_threshold_ms=thresholds.get(proposal.target),
                plan=ramp_plan(scene, proposal, rates, measured),
                reason=reason,
            )
            flying = total((flying, risk_of(scene, proposal, rates.get(proposal.target))))
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
        discoveries=discoveries,
    )


def _to_be_tested(
    scene: Scene, ranked: Sequence[Proposal], known: _Known, flying: Risk
) -> list[Proposal]:
    """Proposals that rest on a test and that nothing else is against, when the hour begins."""
    asked: list[Proposal] = []
    taken: set[str] = set()
    for proposal in ranked:
        if proposal.target in taken or gate(scene, proposal) is not None:
            continue
        fate, _ = validate(_case(scene, proposal, known, flying))
        if fate in {Fate.ACCEPTED, Fate.AWAITING_APPROVAL}:
            if is_tested(proposal):
                asked.append(proposal)
            else:
                taken.add(proposal.target)
    return asked


def _rank(proposal: Proposal) -> tuple[bool, int, float, str]:
    saving = proposal.expected.daily_saving_usd
    size = saving if saving is not None and math.isfinite(saving) else 0.0
    return (not proposal.urgent, -proposal.priority, -size, proposal.id)


def known_hours(scene: Scene, names: set[str]) -> pd.DataFrame:
    """The hours of those targets that arbitration looks back on."""
    now_s = int(scene.now.timestamp())
    rows = arms.within(scene.hours, start_s=now_s - KNOWN_DAYS * DAY_S, end_s=now_s)
    return rows[rows["target"].isin(names)]


def _rate_limited(scene: Scene, names: set[str]) -> set[str]:
    """Targets with an arm whose provider limits the rate."""
    return {
        name
        for name in names & set(scene.targets)
        for arm in scene.targets[name].arms
        if arm.offers is not None
        and (arm.offers.requests_per_minute, arm.offers.tokens_per_minute) != (None, None)
    }


def gate(scene: Scene, proposal: Proposal) -> tuple[Fate, str] | None:
    """Why the proposal cannot even be validated."""
    name, invalid = proposal.target, _invalid(scene, proposal)
    if invalid is not None:
        return Fate.INVALID, invalid
    if name in scene.in_flight:
        return Fate.TARGET_IN_FLIGHT, f"decision {scene.in_flight[name]} is in flight"
    if name in scene.experiments:
        return Fate.TARGET_IN_FLIGHT, f"experiment {scene.experiments[name]} holds the target"
    if name in scene.paused:
        return Fate.PAUSED, f"target {name} is paused"
    return None


def _invalid(scene: Scene, proposal: Proposal) -> str | None:
    """What the proposal names that is not there, or is there already."""
    name, candidate = proposal.target, proposal.candidate
    target = scene.targets.get(name)
    if target is None or name not in scene.policies:
        return f"target {name} is not configured"
    arm = next((arm for arm in target.arms if arm.name == candidate), None)
    if arm is None or not arm.enabled:
        return f"arm {candidate} of {name} is unknown or disabled"
    if candidate == scene.baselines.get(name, target.baseline):
        return f"arm {candidate} already is the baseline of {name}"
    return None


def _case(
    scene: Scene,
    proposal: Proposal,
    known: _Known,
    flying: Risk,
) -> Case:
    name, target = proposal.target, scene.targets[proposal.target]
    rate = known.rates.get(name)
    return Case(
        proposal=proposal,
        policy=scene.policies[proposal.target],
        now=scene.now,
        requests_per_hour=rate,
        changes=scene.changes.get(proposal.target, ()),
        spent_usd=scene.exploration_spent_usd.get(proposal.target, 0.0),
        predicted={e.metric: (e.canary, e.control) for e in proposal.estimates},
        record=known.records.get(proposal.strategy),
        needs=target.needs,
        offers=target.arm(proposal.candidate).offers,
        peak=known.peaks.get(name),
        risk=risk_of(scene, proposal, rate),
        risk_in_flight=flying,
        ruling=Ruling() if known.rulings is None else known.rulings.get(proposal.id, NOBODY),
        logged=logged(scene, proposal),
        undiscovered=known.undiscovered.get(proposal.id),
    )
