"""Arbitrate: which proposals are validated, in which order, and what starts."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from optimizer.cycle.autonomy import track_records
from optimizer.cycle.blast_radius import in_flight, limited_together, risk_of, total
from optimizer.cycle.case import AT_REST, STARTS, Case, Fate, Risk, Ruling
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
    ranked = sorted(proposals, key=_rank)
    barred = {each.id: why for each in ranked if (why := gate(scene, each)) is not None}
    named = {proposal.target for proposal in proposals}
    together = limited_together(policy.blast_radius for policy in scene.policies.values())
    hours = known_hours(scene, named | set(scene.in_flight) if together else named)
    rates = arms.requests_per_hour(hours, now_s=int(scene.now.timestamp()))
    flying = in_flight(scene, hours, rates) if together else AT_REST
    cases = _cases(
        scene, [each for each in ranked if each.id not in barred], hours, rates, flying, rulings
    )
    if discoveries is not None:
        undiscovered, discoveries = discoveries.test(scene, _to_be_tested(cases))
        cases = {
            name: replace(case, undiscovered=undiscovered.get(name)) for name, case in cases.items()
        }
    measured = measured_shares(scene, hours)
    decisions: dict[str, Decision] = {}
    outcomes: list[tuple[Proposal, str, str]] = []
    for proposal in ranked:
        taken = decisions.get(proposal.target)
        if taken is not None:
            fate = Fate.OUTRANKED
            reason = f"decision {taken.id} for {taken.candidate} was taken first"
        elif proposal.id in barred:
            fate, reason = barred[proposal.id]
        else:
            fate, reason = validate(replace(cases[proposal.id], risk_in_flight=flying))
        if fate in STARTS:
            decision = replace(
                start(scene, proposal, config_hash=config_hash, actor=actor),
                plan=ramp_plan(scene, proposal, rates, measured),
                reason=reason,
            )
            flying = total((flying, cases[proposal.id].risk))
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
    thresholds = latency_thresholds_ms(scene, hours[hours["target"].isin(decisions)])
    return Plan(
        decisions=tuple(
            replace(decision, latency_threshold_ms=thresholds.get(name))
            for name, decision in sorted(decisions.items())
        ),
        outcomes=tuple(outcomes),
        discoveries=discoveries,
    )


def _cases(  # noqa: PLR0917 - a case rests on this many things
    scene: Scene,
    proposals: Sequence[Proposal],
    hours: pd.DataFrame,
    rates: Mapping[str, float],
    flying: Risk,
    rulings: Mapping[ProposalId, Ruling] | None,
) -> dict[ProposalId, Case]:
    """What validation reads of each proposal when the hour begins, in their order."""
    records = track_records(scene.settled)
    limited = _rate_limited(scene, {proposal.target for proposal in proposals})
    busiest = peaks(hours[hours["target"].isin(limited)])
    found: dict[ProposalId, Case] = {}
    for proposal in proposals:
        name, target = proposal.target, scene.targets[proposal.target]
        rate = rates.get(name)
        found[proposal.id] = Case(
            proposal=proposal,
            policy=scene.policies[name],
            now=scene.now,
            requests_per_hour=rate,
            changes=scene.changes.get(name, ()),
            spent_usd=scene.exploration_spent_usd.get(name, 0.0),
            predicted={e.metric: (e.canary, e.control) for e in proposal.estimates},
            record=records.get(proposal.strategy),
            needs=target.needs,
            offers=target.arm(proposal.candidate).offers,
            peak=busiest.get(name),
            risk=risk_of(scene, proposal, rate),
            risk_in_flight=flying,
            ruling=Ruling() if rulings is None else rulings.get(proposal.id, NOBODY),
            logged=logged(scene, proposal),
        )
    return found


def _to_be_tested(cases: Mapping[ProposalId, Case]) -> list[Proposal]:
    """Proposals that rest on a test and that nothing else is against, when the hour begins."""
    asked: list[Proposal] = []
    taken: set[str] = set()
    for case in cases.values():
        proposal = case.proposal
        if proposal.target in taken or validate(case)[0] not in STARTS:
            continue
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
