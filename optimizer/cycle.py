"""Arbitrate and validate: proposals and the scene they were made in become decisions.

The law kept here: every proposal ends in exactly one outcome with its reason, a target starts at
most one decision, and no target's proposals touch another target's. A proposal that fails
validation leaves its outcome and no decision row: a decision is something that may come to hold
traffic, and a refusal that repeats every hour would bury those. It is kept with the proposal, whose
id carries the hour, so that every refusal can be listed and counted all the same.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum

import pandas as pd

from optimizer.decision import Decision, Event, State, move
from optimizer.evidence import DecisionId, Proposal, RampPlan, Scene
from optimizer.metrics import DAY_S, HOUR_S
from optimizer.policy import Policy, SafetyLimits
from optimizer.statistics import arms, ramp

DAY = timedelta(days=1)
LATENCY_DAYS = 7


class Fate(Enum):
    """What became of a proposal."""

    ACCEPTED = "accepted"
    AWAITING_APPROVAL = "awaiting_approval"
    TARGET_IN_FLIGHT = "target_in_flight"
    OUTRANKED = "outranked"
    PAUSED = "paused"
    INVALID = "invalid"
    SAFETY = "safety"
    BUDGET = "budget"
    OPERATIONAL = "operational"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that one hour intends: new decisions, and for each proposal (it, fate, reason).

    Decisions are ordered by target, outcomes as they were arbitrated: most urgent first.
    """

    decisions: tuple[Decision, ...] = ()
    outcomes: tuple[tuple[Proposal, str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """One proposal with all that its validation reads.

    ``predicted`` maps a metric to (candidate, baseline); requests_per_hour None = no traffic seen.
    """

    proposal: Proposal
    policy: Policy
    now: datetime
    requests_per_hour: float | None
    changes: Sequence[datetime] = ()
    spent_usd: float = 0.0
    predicted: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)


Rule = Callable[[_Case], str | None]


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
    thresholds, measured = _p95_ms(scene, hours), _measured(scene, hours)
    decisions: dict[str, Decision] = {}
    outcomes: list[tuple[Proposal, str, str]] = []
    for proposal in sorted(proposals, key=_rank):
        taken = decisions.get(proposal.target)
        fate, reason = (
            (Fate.OUTRANKED, f"decision {taken.id} for {taken.candidate} was taken first")
            if taken is not None
            else _gate(scene, proposal) or _validate(_case(scene, proposal, rates))
        )
        if fate in {Fate.ACCEPTED, Fate.AWAITING_APPROVAL}:
            decision = replace(
                _start(scene, proposal, config_hash=config_hash, actor=actor),
                latency_threshold_ms=thresholds.get(proposal.target),
                plan=_plan(scene, proposal, rates, measured),
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


def decision_id(target: str, candidate: str, as_of: datetime, config_hash: str) -> DecisionId:
    """The id of the decision for a candidate at one hour under one configuration.

    Examples:
        >>> from datetime import UTC
        >>> decision_id("support", "small", datetime(2026, 1, 1, tzinfo=UTC), "c0ffee")
        'd-...'
    """
    return DecisionId("d-" + _digest(target, candidate, as_of.isoformat(), config_hash))


def events_for(decision: Decision, *, run_id: str = "") -> tuple[Event, ...]:
    """The log of a decision that was just started: one event for each transition so far.

    ``seq`` counts from 0 and hashes are empty: the ledger chains them.
    """
    path = [State.PENDING, State.VALIDATING]
    if decision.state is State.AWAITING_APPROVAL:
        path.append(State.AWAITING_APPROVAL)
    reasons = (decision.rationale, decision.reason)
    evidence = {
        "proposal": decision.proposal_id,
        "strategy": decision.strategy,
        "baseline": decision.baseline,
        "candidate": decision.candidate,
        "config_hash": decision.config_hash,
        "daily_saving_usd": decision.expected.daily_saving_usd,
        "cost_reduction_pct": decision.expected.cost_reduction_pct,
    }
    return tuple(
        Event(
            decision_id=decision.id,
            seq=seq,
            at=decision.created_at,
            kind="transition",
            from_state=path[seq],
            to_state=path[seq + 1],
            actor=decision.created_by,
            reason=reasons[seq],
            run_id=run_id,
            evidence=evidence if seq == 0 else {},
        )
        for seq in range(len(path) - 1)
    )


def _rank(proposal: Proposal) -> tuple[bool, int, float, str]:
    saving = proposal.expected.daily_saving_usd
    size = saving if saving is not None and math.isfinite(saving) else 0.0
    return (not proposal.urgent, -proposal.priority, -size, proposal.id)


def _known(scene: Scene, names: set[str]) -> pd.DataFrame:
    now_s = int(scene.now.timestamp())
    rows = arms.within(scene.hours, start_s=now_s - LATENCY_DAYS * DAY_S, end_s=now_s)
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


def _case(scene: Scene, proposal: Proposal, rates: Mapping[str, float]) -> _Case:
    return _Case(
        proposal=proposal,
        policy=scene.policies[proposal.target],
        now=scene.now,
        requests_per_hour=rates.get(proposal.target),
        changes=scene.changes.get(proposal.target, ()),
        spent_usd=scene.exploration_spent_usd.get(proposal.target, 0.0),
        predicted={e.metric: (e.canary, e.control) for e in proposal.estimates},
    )


def _validate(case: _Case) -> tuple[Fate, str]:
    """The first level that is violated decides."""
    for fate, rules in LEVELS:
        for rule in rules:
            reason = rule(case)
            if reason is not None:
                return fate, reason
    ask = case.policy.approval_reason(case.proposal.expected.daily_saving_usd)
    return (Fate.ACCEPTED, "") if ask is None else (Fate.AWAITING_APPROVAL, ask)


def _worse_than(
    case: _Case, metric: str, limit: float | None, *, sign: int = 1, factor: float = 1.0
) -> str | None:
    """A sentence if the candidate is predicted beyond a limit that it does not bring nearer."""
    candidate, baseline = case.predicted.get(metric, (None, None))
    if limit is None or candidate is None or sign * (candidate * factor - limit) <= 0:
        return None
    if baseline is not None and sign * (baseline * factor - limit) > 0 > sign * (
        candidate - baseline
    ):
        return None
    side = "above" if sign > 0 else "below"
    return (
        f"{metric} of {case.proposal.candidate} predicted {candidate * factor:g} {side} {limit:g}"
    )


def _safety(case: _Case) -> str | None:
    limits: SafetyLimits = case.policy.safety
    return (
        _worse_than(case, "failure_rate", limits.failure_rate_max)
        or _worse_than(case, "latency_p95_ms", limits.latency_p95_ms_max)
        or _worse_than(case, "quality", limits.quality_min, sign=-1)
    )


def _spending(case: _Case) -> str | None:
    budget, rate = case.policy.budget, case.requests_per_hour
    limited = (budget.daily_usd, budget.hourly_usd, budget.per_request_usd) != (None, None, None)
    if not limited:
        return None
    if case.predicted.get("cost_usd", (None, None))[0] is None:
        # A way out of an unsafe arm is not closed by a price nobody knows.
        return None if case.proposal.urgent else "cost unknown, and the policy sets a budget"
    per_request = _worse_than(case, "cost_usd", budget.per_request_usd)
    if per_request is not None or rate is None:
        return per_request
    for name, limit, factor in (
        ("hour", budget.hourly_usd, rate),
        ("day", budget.daily_usd, 24 * rate),
    ):
        reason = _worse_than(case, "cost_usd", limit, factor=factor)
        if reason is not None:
            return f"{reason} USD a {name} at {rate:.0f} requests an hour"
    return None


def _exploration(case: _Case) -> str | None:
    limit = case.policy.budget.exploration_daily_usd
    if limit is None or not case.proposal.exploratory or case.proposal.urgent:
        return None
    candidate, _ = case.predicted.get("cost_usd", (None, None))
    if candidate is None or case.requests_per_hour is None:
        return "the cost of exploring is unknown, and the policy sets an exploration budget"
    stage = case.policy.stages[0]
    share = min(stage.share, case.policy.exploration_share)
    served = max(
        case.requests_per_hour * share * stage.bake_time.total_seconds() / HOUR_S,
        stage.min_requests,
    )
    extra = served * candidate
    if case.spent_usd >= limit or case.spent_usd + extra > limit:
        return (
            f"exploration spent {case.spent_usd:.4g} USD today, the first stage adds {extra:.4g}, "
            f"limit {limit:g}"
        )
    return None


def _frozen(case: _Case) -> str | None:
    freeze = case.policy.frozen_at(case.now)
    if freeze is None:
        return None
    return f"frozen until {freeze.end.isoformat()} {freeze.reason}".rstrip()


def _pace(case: _Case) -> str | None:
    recent = [at for at in case.changes if case.now - DAY < at <= case.now]
    if len(recent) >= case.policy.max_changes_per_day:
        return f"{len(recent)} changes in a day, limit {case.policy.max_changes_per_day}"
    if recent and case.now - max(recent) < case.policy.cooldown:
        return f"last change at {max(recent).isoformat()}, cooldown {case.policy.cooldown}"
    return None


def _exploring(case: _Case) -> str | None:
    if case.proposal.exploratory and case.policy.exploration_share == 0:
        return "exploration_share is 0: no arm without traffic of its own is tried"
    return None


LEVELS: tuple[tuple[Fate, tuple[Rule, ...]], ...] = (
    (Fate.SAFETY, (_safety,)),
    (Fate.BUDGET, (_spending, _exploration)),
    (Fate.OPERATIONAL, (_frozen, _pace, _exploring)),
)


def _digest(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def _start(scene: Scene, proposal: Proposal, *, config_hash: str, actor: str) -> Decision:
    target = scene.targets[proposal.target]
    identity = decision_id(proposal.target, proposal.candidate, scene.now, config_hash)
    pending = Decision(
        id=identity,
        proposal_id=proposal.id,
        target=proposal.target,
        strategy=proposal.strategy,
        baseline=scene.baselines.get(proposal.target, target.baseline),
        candidate=proposal.candidate,
        rationale=proposal.rationale,
        expected=proposal.expected,
        created_at=scene.now,
        created_by=actor,
        config_hash=config_hash,
        exploratory=proposal.exploratory,
        urgent=proposal.urgent,
        salt=_digest("salt", identity),
    )
    return move(pending, State.VALIDATING, scene.now)


def _p95_ms(scene: Scene, hours: pd.DataFrame) -> Mapping[str, float]:
    """Upper histogram edge of each baseline's p95 of the last days, ms, where one is known."""
    pool = arms.pooled(_of_baselines(scene, hours), ("target",))
    edges = arms.quantile_edges(pool, 0.95)
    return {
        str(name): float(edge)
        for name, edge in zip(pool.frame["target"], edges, strict=True)
        if math.isfinite(edge)
    }


def _of_baselines(scene: Scene, hours: pd.DataFrame) -> pd.DataFrame:
    in_force = {
        name: scene.baselines.get(name, target.baseline) for name, target in scene.targets.items()
    }
    return hours[hours["arm"] == hours["target"].map(in_force)]


def _measured(scene: Scene, hours: pd.DataFrame) -> Mapping[str, Mapping[str, float]]:
    """The share of each baseline's requests in which a metric is known, from mature hours."""
    now_s = int(scene.now.timestamp())
    cut = {
        name: now_s - int(policy.label_maturity.total_seconds())
        for name, policy in scene.policies.items()
    }
    return arms.measured_shares(arms.mature(_of_baselines(scene, hours), cut))


def _plan(
    scene: Scene,
    proposal: Proposal,
    rates: Mapping[str, float],
    measured: Mapping[str, Mapping[str, float]],
) -> RampPlan | None:
    """What the rollout's looks are spread over; None where no plan check was made."""
    rate, policy = rates.get(proposal.target), scene.policies[proposal.target]
    if rate is None or proposal.planned_hours is None:
        return None
    shares = [stage.share for stage in policy.stages]
    if proposal.exploratory:
        shares[0] = min(shares[0], policy.exploration_share)
    return ramp.ramp_plan(
        requests_per_hour=rate,
        shares=shares,
        bake_hours=[stage.bake_time.total_seconds() / HOUR_S for stage in policy.stages],
        min_requests=[stage.min_requests for stage in policy.stages],
        planned_hours=proposal.planned_hours,
        longest_stage_hours=policy.hold_expires_after.total_seconds() / HOUR_S,
        measured=measured.get(proposal.target, {}),
    )
