"""Steps: carry out what the planner asks for, one step of one decision, under its lease."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from datetime import datetime
from types import MappingProxyType

from optimizer.allocation import Allocation
from optimizer.decision import Decision, State, amend, move
from optimizer.errors import ConflictError, DataError
from optimizer.evidence import Anchor, DecisionId, Verdict
from optimizer.judge import Case, charges, realised
from optimizer.loop.act import (
    begin_and_finish,
    event,
    next_generation,
    open_intent,
    resume,
    take_lease,
)
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.evaluate import Assessment, assess, data_until, grains_for
from optimizer.ports import Lease, Snapshot
from optimizer.rollout import Move, Step, roll_back, split


def tick(
    equipment: Equipment,
    decision_id: DecisionId,
    *,
    acting: Acting,
    as_of: datetime,
    guard_only: bool = False,
) -> Assessment:
    """Take the due step of one decision; returns what was assessed, with the decision as it stands.

    An effect that a dead run left open is finished first. A hold changes nothing.

    Raises:
        KeyError: no such decision.
        ConflictError: another run is acting on the target.
        UnavailableError: the gateway did not answer; the next tick goes on from here.
    """
    ledger = equipment.ledger
    target = ledger.decisions.get(decision_id).target
    lease = take_lease(equipment, target, acting)
    try:
        for intent in ledger.effects.open_intents(target):
            if intent.decision_id == decision_id:
                resume(equipment, intent, acting=acting, lease=lease)
        decision = ledger.decisions.get(decision_id)
        found = assess(
            equipment, acting=acting, as_of=as_of, guard_only=guard_only, decisions=[decision]
        )
        if not found or not found[0].is_due:
            return found[0] if found else _ended(decision)
        after = carry_out(equipment, found[0], acting=acting, as_of=as_of, lease=lease)
        return replace(found[0], decision=after)
    finally:
        ledger.effects.release(lease)


def _ended(decision: Decision) -> Assessment:
    step = Step(
        move=Move.HOLD, to=decision.state, stage=decision.stage, reason="nothing is due any more"
    )
    return Assessment(decision=decision, verdict=None, step=step)


def end_now(
    equipment: Equipment,
    decision_id: DecisionId,
    reason: str,
    *,
    acting: Acting,
    cancel: bool = False,
) -> Decision:
    """Roll a decision back, or cancel it where it holds no traffic; without analysis.

    Raises:
        KeyError: no such decision.
        ValueError: it is final already.
        ConflictError, UnavailableError: as :func:`tick`.
    """
    ledger = equipment.ledger
    lease = take_lease(equipment, ledger.decisions.get(decision_id).target, acting)
    try:
        decision = ledger.decisions.get(decision_id)
        for intent in ledger.effects.open_intents(decision.target):
            if intent.decision_id == decision_id:
                decision = resume(equipment, intent, acting=acting, lease=lease)
        if decision.state.is_final:
            return decision
        abort_to = State.CANCELLED if cancel else State.ROLLED_BACK
        step = roll_back(decision, reason, abort_to=abort_to)
        assessment = Assessment(decision=decision, verdict=None, step=step)
        return carry_out(equipment, assessment, acting=acting, as_of=acting.now, lease=lease)
    finally:
        ledger.effects.release(lease)


def carry_out(
    equipment: Equipment, assessment: Assessment, *, acting: Acting, as_of: datetime, lease: Lease
) -> Decision:
    """Do the step and return the decision as it then stands.

    Raises:
        ConflictError: somebody else moved first; nothing was applied.
        UnavailableError: the gateway did not answer; the intent stays open.
    """
    return _CARRY[assessment.step.move](equipment, assessment, acting, as_of, lease)


Carry = Callable[[Equipment, Assessment, Acting, datetime, Lease], Decision]


def _note(
    equipment: Equipment, assessment: Assessment, acting: Acting, _as_of: datetime, lease: Lease
) -> Decision:
    """A transition that moves no traffic."""
    before, step = assessment.decision, assessment.step
    extra: dict[str, object] = {"reason": step.reason} if step.to.is_final else {}
    if step.to is State.AWAITING_APPROVAL:
        extra = {"approval_asked_at": acting.now}
    after = move(before, step.to, acting.now, **extra)
    entry = event(
        before, after, "transition", acting, reason=step.reason, evidence=_evidence(assessment)
    )
    equipment.ledger.decisions.update(after, [entry], lease=lease)
    return after


def _hold(
    _equipment: Equipment, assessment: Assessment, _acting: Acting, _as_of: datetime, _lease: Lease
) -> Decision:
    return assessment.decision


def _start(
    equipment: Equipment, assessment: Assessment, acting: Acting, _as_of: datetime, lease: Lease
) -> Decision:
    before, step = assessment.decision, assessment.step
    snapshot = take_snapshot(equipment, before, acting)
    equipment.ledger.effects.save_snapshot(snapshot)
    generation = next_generation(equipment, before.target)
    entered = (
        amend(before, generation=generation)
        if before.state is State.DEPLOYING
        else move(before, State.DEPLOYING, acting.now, generation=generation)
    )
    return begin_and_finish(
        equipment,
        before,
        entered,
        open_intent(
            before,
            _wanted(equipment, before, step, generation),
            step="start",
            then_state=None,
            then_stage=0,
            reason=step.reason,
            at=acting.now,
        ),
        acting=acting,
        lease=lease,
        begin_kind="note" if before.state is State.DEPLOYING else "transition",
        evidence={"snapshot": snapshot.id, "sha256": snapshot.sha256},
    )


def _advance(
    equipment: Equipment, assessment: Assessment, acting: Acting, _as_of: datetime, lease: Lease
) -> Decision:
    before, step = assessment.decision, assessment.step
    generation = next_generation(equipment, before.target)
    return begin_and_finish(
        equipment,
        before,
        amend(before, generation=generation),
        open_intent(
            before,
            _wanted(equipment, before, step, generation),
            step=step.move.value,
            then_state=None if step.move is Move.ADVANCE else step.to,
            then_stage=step.stage,
            reason=step.reason,
            at=acting.now,
        ),
        acting=acting,
        lease=lease,
        begin_kind=None,
        evidence=_evidence(assessment),
    )


def _settle(
    equipment: Equipment, assessment: Assessment, acting: Acting, as_of: datetime, lease: Lease
) -> Decision:
    """Settle expected against realised, charge the anchors, release the holdback."""
    before = assessment.decision
    until = data_until(equipment, as_of)
    grains = grains_for(equipment, [before], until)
    case = Case(
        decision=before,
        policy=equipment.policies[before.target],
        anchors=equipment.ledger.decisions.anchors(),
    )
    actual = realised(case, grains, now=acting.now, data_until=until)
    measured = charges(case, grains, now=acting.now, data_until=until)
    promoted = _promotion_verdict(equipment, before)
    for metric, charge in measured.items():
        charged = charge or _charge_at_promotion(before, metric, promoted)
        if charged is not None:
            equipment.ledger.decisions.charge_anchor(
                before.id, charged, at=acting.now, settled=charge is not None
            )
    settled = replace(assessment, decision=replace(before, actual=actual))
    return _advance(equipment, settled, acting, as_of, lease)


def _promotion_verdict(equipment: Equipment, decision: Decision) -> Verdict | None:
    looks = equipment.ledger.decisions.looks(decision.id)
    return next((look.verdict for look in reversed(looks) if look.move == Move.PROMOTE.value), None)


def _charge_at_promotion(decision: Decision, metric: str, verdict: Verdict | None) -> Anchor | None:
    """The judge's own estimate at promotion, where the holdback was too small to tell."""
    if verdict is None:
        return None
    for check in verdict.checks:
        if check.metric == metric and check.harm is not None and check.variance is not None:
            return Anchor(
                target=decision.target,
                metric=metric,
                reference_arm=decision.baseline,
                harm=check.harm,
                variance=check.variance,
                promotions=1,
            )
    return None


def _roll_back(
    equipment: Equipment, assessment: Assessment, acting: Acting, _as_of: datetime, lease: Lease
) -> Decision:
    """Restore the snapshot's split under a new generation, and prove it by reading back."""
    before, step = assessment.decision, assessment.step
    snapshot = equipment.ledger.effects.snapshot(before.id)
    if snapshot is None:
        msg = f"decision {before.id} holds traffic of {before.target} but has no snapshot"
        raise DataError(msg)
    generation = next_generation(equipment, before.target)
    abort_to = step.abort_to or before.abort_to or State.ROLLED_BACK
    entered = (
        amend(before, generation=generation)
        if before.state is State.ROLLING_BACK
        else move(
            before,
            State.ROLLING_BACK,
            acting.now,
            generation=generation,
            reason=step.reason,
            abort_to=abort_to,
        )
    )
    return begin_and_finish(
        equipment,
        before,
        entered,
        open_intent(
            before,
            restored(snapshot.allocation, generation),
            step="roll_back",
            then_state=abort_to,
            then_stage=None,
            reason=step.reason,
            at=acting.now,
        ),
        acting=acting,
        lease=lease,
        begin_kind=None if before.state is State.ROLLING_BACK else "transition",
        evidence={**_evidence(assessment), "snapshot": snapshot.id, "sha256": snapshot.sha256},
    )


def restored(allocation: Allocation, generation: int) -> Allocation:
    """The snapshot's split as a newer generation."""
    return replace(allocation, generation=generation)


def _wanted(equipment: Equipment, decision: Decision, step: Step, generation: int) -> Allocation:
    wanted = split(decision, equipment.policies[decision.target], step, generation=generation)
    if wanted is None:
        msg = f"step {step.move.value} of {decision.id} names no allocation"
        raise DataError(msg)
    return wanted


def take_snapshot(equipment: Equipment, decision: Decision, acting: Acting) -> Snapshot:
    """The target's exact configuration before its first change, with its checksum.

    Raises:
        ConflictError: the gateway does not hold what the ledger wants; reconcile first.
    """
    held = equipment.gateway(decision.target).read(decision.target)
    desired = equipment.ledger.effects.desired(decision.target)
    if held is None or desired is None or not held.same_split(desired):
        msg = f"gateway and ledger disagree on {decision.target}; nothing starts before they agree"
        raise ConflictError(msg)
    arms = equipment.arms_of(decision.target)
    content = {"allocation": asdict(held), "arms": arms}
    text = json.dumps(content, sort_keys=True, default=str)
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Snapshot(
        id=f"s-{decision.id.removeprefix('d-')}",
        target=decision.target,
        decision_id=decision.id,
        allocation=held,
        arms=arms,
        taken_at=acting.now,
        sha256=sha256,
    )


def _evidence(assessment: Assessment) -> dict[str, object]:
    """What the step rests on, JSON-able."""
    verdict = assessment.verdict
    if verdict is None:
        return {}
    return {
        "outcome": verdict.outcome.value,
        "reason": verdict.reason.value,
        "sentence": verdict.sentence,
        "n_canary": verdict.n_canary,
        "n_control": verdict.n_control,
        "checks": {
            check.metric: {
                "outcome": check.outcome.value,
                "harm": check.harm,
                "lower": check.harm_lower,
                "upper": check.harm_upper,
                "margin": check.margin,
            }
            for check in verdict.checks
        },
    }


_CARRY: Mapping[Move, Carry] = MappingProxyType(
    {
        Move.HOLD: _hold,
        Move.VALIDATE: _note,
        Move.ASK_APPROVAL: _note,
        Move.CANCEL: _note,
        Move.WATCH: _note,
        Move.START: _start,
        Move.ADVANCE: _advance,
        Move.PROMOTE: _advance,
        Move.SETTLE: _settle,
        Move.ROLL_BACK: _roll_back,
        Move.FINISH_ROLLBACK: _roll_back,
    }
)
