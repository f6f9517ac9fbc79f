"""Effects: written down, applied, read back, recorded.

::

    begin(intent, generation g+1) -> gateway.apply -> gateway.read -> finish(applied | failed)

A run that dies between any two steps leaves an open intent. :func:`resume` takes it from there to
the same end, because every step after ``begin`` is idempotent and depends on the intent alone.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from optimizer.allocation import Allocation
from optimizer.decision import Decision, Event, State, amend, move
from optimizer.errors import ConflictError, DataError, UnavailableError
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.evaluate import assess
from optimizer.loop.publishing import Readback, holds, publish, read_or_none, split_of
from optimizer.metrics import at as moment_at
from optimizer.metrics import ceil_s
from optimizer.ports import Intent, Lease
from optimizer.rollout import Move


def event(
    before: Decision,
    after: Decision,
    kind: str,
    acting: Acting,
    *,
    reason: str,
    evidence: Mapping[str, object] | None = None,
) -> Event:
    """The log entry of one change; the ledger numbers and chains it."""
    return Event(
        decision_id=after.id,
        seq=-1,
        at=acting.now,
        kind=kind,
        from_state=before.state,
        to_state=after.state,
        actor=acting.actor,
        reason=reason,
        run_id=acting.run_id,
        evidence=dict(evidence or {}),
    )


def take_lease(equipment: Equipment, target: str, acting: Acting) -> Lease:
    """The right to act on the target.

    Raises:
        ConflictError: another run holds it; the next run tries again.
    """
    lease = equipment.ledger.effects.acquire(
        target,
        acting.holder,
        now=equipment.present(acting),
        ttl_s=int(equipment.lease_ttl.total_seconds()),
    )
    if lease is None:
        msg = f"another run is acting on {target}; this one leaves it alone"
        raise ConflictError(msg)
    return lease


def begin_and_finish(
    equipment: Equipment,
    decision: Decision,
    entered: Decision,
    intent: Intent,
    *,
    acting: Acting,
    lease: Lease,
    begin_kind: str | None,
    evidence: Mapping[str, object] | None = None,
) -> Decision:
    """Write the intent with the decision's new version, then carry the effect to its end.

    ``entered`` is the decision once the intent is written; ``begin_kind`` None = no event yet.

    Raises:
        ConflictError: somebody else moved first; nothing was applied.
        UnavailableError: the gateway did not answer; the intent stays open.
    """
    events = (
        []
        if begin_kind is None
        else [event(decision, entered, begin_kind, acting, reason=intent.reason, evidence=evidence)]
    )
    stored = equipment.ledger.effects.begin(intent, entered, events, lease=lease)
    new = stored.created_at == intent.created_at
    return resume(equipment, stored, acting=acting, lease=lease, evidence=evidence, fresh=new)


def resume(
    equipment: Equipment,
    intent: Intent,
    *,
    acting: Acting,
    lease: Lease,
    evidence: Mapping[str, object] | None = None,
    fresh: bool = False,
) -> Decision:
    """Carry an open intent of a decision to its end; returns the decision as it then stands.

    An intent that a newer one of its decision took the place of is closed and changes nothing; one
    that may not be carried on now (:func:`withheld`) stays open. ``fresh``: it was written a moment
    ago, on a verdict of this very run.

    Raises:
        ConflictError: another run carried it on meanwhile.
        UnavailableError: the gateway did not answer; the intent stays open.
    """
    decision_id = intent.decision_id
    if decision_id is None:
        msg = f"intent {intent.key} belongs to no decision"
        raise DataError(msg)
    # Read before anything is published: the end is stored by compare-and-set on this version.
    before = equipment.ledger.decisions.get(decision_id)
    if before.generation != intent.allocation.generation or before.state.is_final:
        drop(equipment, intent, "a newer step took its place", acting=acting, lease=lease)
        return before
    if not fresh and withheld(equipment, before, intent, acting):
        return before
    readback = publish(equipment, intent.allocation, decision_id)
    now = equipment.present(acting)
    if readback.proven:
        after, kind = _proven(before, intent, now)
        baseline = (after.target, after.candidate) if after.state is State.COMPLETED else None
        _finish(
            equipment,
            intent,
            before,
            after,
            readback,
            acting=acting,
            lease=lease,
            kind=kind,
            baseline=baseline,
            evidence=evidence,
        )
        return after
    return _unproven(equipment, before, intent, readback, acting=acting, lease=lease)


def withheld(equipment: Equipment, decision: Decision, intent: Intent, acting: Acting) -> str:
    """Why the open intent must not be carried on now; empty = it may.

    Time has passed since a run died or a gateway stayed away, so the decision is judged again as it
    stands. Proven harm, a departed arm or an expiry leave the intent open for the roll-back that
    takes its place. What the gateway already holds is recorded; anything else is carried on only if
    the planner would take this very step now. A roll-back is never stopped.
    """
    if decision.state is State.ROLLING_BACK:
        return ""
    (found,) = assess(equipment, acting=acting, as_of=acting.now, decisions=[decision])
    if found.step.move is Move.ROLL_BACK:
        return found.step.reason
    if holds(read_or_none(equipment, intent.target), intent.allocation):
        return ""
    return "" if found.step.move.value == intent.move else found.step.reason


def drop(
    equipment: Equipment, intent: Intent, detail: str, *, acting: Acting, lease: Lease
) -> None:
    """Close an intent that is not to be carried on; nothing else changes."""
    equipment.ledger.effects.finish(
        intent.key,
        status="failed",
        read_back=Readback(found=None, proven=False, detail=detail).as_json(),
        decision=None,
        events=[],
        baseline=None,
        at=equipment.present(acting),
        lease=lease,
    )


def _finish(  # noqa: PLR0913 - one transaction closes all of these
    equipment: Equipment,
    intent: Intent,
    before: Decision,
    after: Decision,
    readback: Readback,
    *,
    acting: Acting,
    lease: Lease,
    kind: str,
    baseline: tuple[str, str] | None = None,
    evidence: Mapping[str, object] | None = None,
) -> None:
    proof = {"wanted": split_of(intent.allocation), "read_back": readback.as_json()}
    equipment.ledger.effects.finish(
        intent.key,
        status="applied" if readback.proven else "failed",
        read_back=readback.as_json(),
        decision=after,
        events=[
            event(
                before,
                after,
                kind,
                acting,
                reason=intent.reason,
                evidence={**proof, **dict(evidence or {})},
            )
        ],
        baseline=baseline,
        at=equipment.present(acting),
        lease=lease,
    )


def _proven(before: Decision, intent: Intent, now: datetime) -> tuple[Decision, str]:
    """The decision once the gateway was seen, at ``now``, to hold what the intent wanted."""
    generation = intent.allocation.generation
    to = intent.then_state
    if to is None or to is before.state:
        first_window = moment_at(ceil_s(now))
        return (
            amend(
                before,
                stage=before.stage if intent.then_stage is None else intent.then_stage,
                stage_entered_at=now,
                evidence_from=before.evidence_from or first_window,
                generation=generation,
                hold_reason="",
            ),
            "stage",
        )
    changes: dict[str, object] = {"generation": generation, "hold_reason": ""}
    if to is State.DEPLOYED:
        changes |= {"deployed_at": now, "stage_entered_at": now}
    if to is State.COMPLETED:
        changes |= {"reason": intent.reason}
    return move(before, to, now, **changes), "transition"


def _unproven(
    equipment: Equipment,
    before: Decision,
    intent: Intent,
    readback: Readback,
    *,
    acting: Acting,
    lease: Lease,
) -> Decision:
    """Record that the gateway does not hold what was wanted, and what follows from it.

    A first stage that never took hold, on a gateway that still holds the snapshot, has failed to
    deploy. Anything else that was applied in part must be rolled back; a rollback that is not
    proven is tried again by the next run.
    """
    reason = f"{intent.move} not proven: {readback.detail}"
    if before.state is State.ROLLING_BACK:
        after, kind = amend(before, hold_reason=before.hold_reason or reason), "note"
    elif intent.move == "start" and _holds_snapshot(equipment, before, readback):
        after = move(before, State.DEPLOYMENT_FAILED, acting.now, reason=reason)
        kind = "transition"
    else:
        after = move(
            before, State.ROLLING_BACK, acting.now, reason=reason, abort_to=State.ROLLED_BACK
        )
        kind = "transition"
    _finish(
        equipment,
        replace(intent, reason=reason),
        before,
        after,
        readback,
        acting=acting,
        lease=lease,
        kind=kind,
    )
    if before.state is State.ROLLING_BACK:
        msg = f"rollback of {before.id} on {before.target} is not proven: {readback.detail}"
        raise UnavailableError(msg)
    return after


def _holds_snapshot(equipment: Equipment, decision: Decision, readback: Readback) -> bool:
    snapshot = equipment.ledger.effects.snapshot(decision.id)
    return (
        snapshot is not None
        and readback.found is not None
        and readback.found.same_split(snapshot.allocation)
    )


def open_intent(
    decision: Decision,
    allocation: Allocation,
    *,
    step: str,
    then_state: State | None,
    then_stage: int | None,
    reason: str,
    at: datetime,
) -> Intent:
    """The intent of one step; its key is unique because generations only grow."""
    return Intent(
        key=f"{decision.id}:{step}:{allocation.generation}",
        decision_id=decision.id,
        target=decision.target,
        move=step,
        allocation=allocation,
        then_state=then_state,
        then_stage=then_stage,
        reason=reason,
        created_at=at,
    )
