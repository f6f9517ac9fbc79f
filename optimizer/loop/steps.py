"""Steps: carry out what the planner asks for, one step of one decision, under its lease."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from types import MappingProxyType

from optimizer.allocation import Allocation
from optimizer.decision import Decision, State, amend, move
from optimizer.errors import DataError, UnavailableError
from optimizer.evidence import DecisionId
from optimizer.loop.act import begin_and_finish, event, open_intent, resume, take_lease
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.evaluate import Assessment, assess, record_looks
from optimizer.loop.publishing import next_generation, seen_generation
from optimizer.loop.settle import settle
from optimizer.loop.snapshots import intact_snapshot, restored, take_snapshot
from optimizer.loop.tell import stuck_of, tell
from optimizer.ports import Intent, Lease
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

    An effect that a dead run left open is finished first; while a pause withholds it, nothing but a
    roll-back is taken. A hold changes nothing.

    Raises:
        KeyError: no such decision.
        ConflictError: another run is acting on the target.
        DataError: its snapshot is missing or damaged; nothing was moved.
        UnavailableError: the gateway did not answer; the next tick goes on from here.
    """
    ledger = equipment.ledger
    target = ledger.decisions.get(decision_id).target
    lease = take_lease(equipment, target, acting)
    try:
        with _telling_if_stuck(equipment, decision_id, acting, lease):
            done, withheld = _resume_own(equipment, target, decision_id, acting, lease)
            decision = ledger.decisions.get(decision_id)
            found = assess(
                equipment,
                acting=acting,
                as_of=as_of,
                guard_only=guard_only or withheld,
                decisions=[decision],
            )
            record_looks(equipment, found, acting=acting)
            if not found or not found[0].is_due:
                return found[0] if found else _ended(decision, done)
            after = carry_out(equipment, found[0], acting=acting, as_of=as_of, lease=lease)
            return replace(found[0], decision=after)
    finally:
        ledger.effects.release(lease)


def _resume_own(
    equipment: Equipment, target: str, decision_id: DecisionId, acting: Acting, lease: Lease
) -> tuple[Intent | None, bool]:
    """Finish the decision's open intent: the one that was, and whether it must stay open."""
    effects = equipment.ledger.effects
    done = None
    for intent in effects.open_intents(target):
        if intent.decision_id == decision_id:
            resume(equipment, intent, acting=acting, lease=lease)
            done = intent
    return done, any(i.decision_id == decision_id for i in effects.open_intents(target))


@contextmanager
def _telling_if_stuck(
    equipment: Equipment, decision_id: DecisionId, acting: Acting, lease: Lease
) -> Iterator[None]:
    """Tell people when a roll-back could not be done; once, as long as it is the same one.

    That it was told is kept as the decision's ``hold_reason``.
    """
    try:
        yield
    except (UnavailableError, DataError) as error:
        decision = equipment.ledger.decisions.get(decision_id)
        due = isinstance(error, DataError) and decision.state.holds_traffic
        if due or decision.state is State.ROLLING_BACK:
            _note_stuck(equipment, decision, str(error), acting, lease)
        raise


def _note_stuck(
    equipment: Equipment, decision: Decision, why: str, acting: Acting, lease: Lease
) -> None:
    if decision.hold_reason.startswith(_STUCK):
        return
    after = amend(decision, hold_reason=f"{_STUCK}{why}")
    entry = event(decision, after, "note", acting, reason=after.hold_reason)
    equipment.ledger.decisions.update(after, [entry], lease=lease)
    tell(equipment, stuck_of(after, why))


_STUCK = "roll-back not done: "


def _ended(decision: Decision, done: Intent | None) -> Assessment:
    """What is said of a decision that is final: the step that just ended it, if one did."""
    if done is None:
        return Assessment(
            decision=decision,
            verdict=None,
            step=Step(
                move=Move.HOLD,
                to=decision.state,
                stage=decision.stage,
                reason="nothing is due any more",
            ),
        )
    step = Step(move=Move(done.move), to=decision.state, stage=decision.stage, reason=done.reason)
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

    One that is final stays as it is. A step that was begun and not finished is not carried on: the
    roll-back takes its place under a newer generation. It works while paused, and for a target or
    arm that left the configuration.

    Raises:
        KeyError: no such decision.
        ConflictError, DataError, UnavailableError: as :func:`tick`.
    """
    ledger = equipment.ledger
    lease = take_lease(equipment, ledger.decisions.get(decision_id).target, acting)
    try:
        with _telling_if_stuck(equipment, decision_id, acting, lease):
            decision = ledger.decisions.get(decision_id)
            if decision.state is State.ROLLING_BACK:
                _resume_own(equipment, decision.target, decision_id, acting, lease)
                decision = ledger.decisions.get(decision_id)
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
    before = settle(equipment, assessment.decision, acting=acting, as_of=as_of)
    return _advance(equipment, replace(assessment, decision=before), acting, as_of, lease)


def _roll_back(
    equipment: Equipment, assessment: Assessment, acting: Acting, _as_of: datetime, lease: Lease
) -> Decision:
    """Restore the snapshot's split under a new generation, and prove it by reading back."""
    before, step = assessment.decision, assessment.step
    snapshot = intact_snapshot(equipment, before.id)
    # The last attempt was not proven: somebody may have raised the generation by hand.
    again = before.state is State.ROLLING_BACK
    seen = seen_generation(equipment, before.target) if again else 0
    generation = next_generation(equipment, before.target, above=seen)
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


def _wanted(equipment: Equipment, decision: Decision, step: Step, generation: int) -> Allocation:
    wanted = split(decision, equipment.policies[decision.target], step, generation=generation)
    if wanted is None:
        msg = f"step {step.move.value} of {decision.id} names no allocation"
        raise DataError(msg)
    return wanted


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
