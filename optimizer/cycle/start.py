"""A decision at its start: its id, its first states and their log."""

import hashlib
from datetime import datetime

from optimizer.decision import Decision, Event, State, move
from optimizer.evidence import DecisionId, Proposal, Scene


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


def start(scene: Scene, proposal: Proposal, *, config_hash: str, actor: str) -> Decision:
    """The decision a proposal becomes, VALIDATING."""
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


def _digest(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
