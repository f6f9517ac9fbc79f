"""Effects: written down, applied, read back, recorded.

::

    begin(intent, generation g+1) -> gateway.apply -> gateway.read -> finish(applied | failed)

A run that dies between any two steps leaves an open intent. :func:`resume` takes it from there to
the same end, because every step after ``begin`` is idempotent and depends on the intent alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from optimizer.allocation import Allocation
from optimizer.decision import Decision, Event, State, amend, move
from optimizer.errors import ConflictError, DataError, UnavailableError
from optimizer.loop.equipment import Acting, Equipment
from optimizer.metrics import at as moment_at
from optimizer.metrics import ceil_s
from optimizer.ports import Intent, Json, Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Readback:
    """What the gateway holds after an apply, and whether it is what was wanted."""

    found: Allocation | None
    proven: bool
    detail: str = ""

    def as_json(self) -> dict[str, Json]:
        """The read-back as it is stored beside the intent."""
        return {"proven": self.proven, "detail": self.detail, "found": split_of(self.found)}


def split_of(allocation: Allocation | None) -> dict[str, Json] | None:
    """The allocation as a small JSON-able table, for events and people."""
    if allocation is None:
        return None
    return {
        "generation": allocation.generation,
        "salt": allocation.salt,
        "slices": [
            {"slice": part.name.value, "arm": part.arm, "low": part.low, "high": part.high}
            for part in allocation.slices
        ],
    }


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
        now=acting.now,
        ttl_s=int(equipment.lease_ttl.total_seconds()),
    )
    if lease is None:
        msg = f"another run is acting on {target}; this one leaves it alone"
        raise ConflictError(msg)
    return lease


def publish(equipment: Equipment, wanted: Allocation) -> Readback:
    """Apply the allocation and read it back.

    Raises:
        UnavailableError: the gateway did not answer; the intent stays open.
    """
    gateway = equipment.gateway(wanted.target)
    try:
        gateway.apply(wanted, arms=equipment.arms_of(wanted.target))
        found = gateway.read(wanted.target)
    except ConflictError as error:
        return Readback(
            found=_read_or_none(equipment, wanted.target), proven=False, detail=str(error)
        )
    except DataError as error:
        return Readback(found=None, proven=False, detail=str(error))
    if found is None:
        return Readback(found=None, proven=False, detail="the gateway holds nothing")
    same = found.same_split(wanted) and found.generation == wanted.generation
    return Readback(
        found=found, proven=same, detail="" if same else "the gateway holds another split"
    )


def _read_or_none(equipment: Equipment, target: str) -> Allocation | None:
    try:
        return equipment.gateway(target).read(target)
    except DataError:
        return None


def next_generation(equipment: Equipment, target: str) -> int:
    """One above the newest generation written for the target."""
    desired = equipment.ledger.effects.desired(target)
    return 1 if desired is None else desired.generation + 1


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
    return resume(equipment, stored, acting=acting, lease=lease, evidence=evidence)


def resume(
    equipment: Equipment,
    intent: Intent,
    *,
    acting: Acting,
    lease: Lease,
    evidence: Mapping[str, object] | None = None,
) -> Decision:
    """Carry an open intent of a decision to its end; returns the decision as it then stands.

    Raises:
        UnavailableError: the gateway did not answer; the intent stays open.
    """
    decision_id = intent.decision_id
    if decision_id is None:
        msg = f"intent {intent.key} belongs to no decision"
        raise DataError(msg)
    readback = publish(equipment, intent.allocation)
    before = equipment.ledger.decisions.get(decision_id)
    if readback.proven:
        after, kind = _proven(before, intent, acting)
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
        at=acting.now,
        lease=lease,
    )


def _proven(before: Decision, intent: Intent, acting: Acting) -> tuple[Decision, str]:
    """The decision once the gateway was seen to hold what the intent wanted."""
    generation = intent.allocation.generation
    to = intent.then_state
    if to is None or to is before.state:
        first_window = moment_at(ceil_s(acting.now))
        return (
            amend(
                before,
                stage=before.stage if intent.then_stage is None else intent.then_stage,
                stage_entered_at=acting.now,
                evidence_from=before.evidence_from or first_window,
                generation=generation,
                hold_reason="",
            ),
            "stage",
        )
    changes: dict[str, object] = {"generation": generation, "hold_reason": ""}
    if to is State.DEPLOYED:
        changes |= {"deployed_at": acting.now, "stage_entered_at": acting.now}
    if to is State.COMPLETED:
        changes |= {"reason": intent.reason}
    return move(before, to, acting.now, **changes), "transition"


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
        after, kind = amend(before, hold_reason=reason), "note"
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
