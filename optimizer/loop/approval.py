"""Approval: a person's answer to a decision that waits, and what follows from it at once."""

from datetime import datetime

from optimizer.decision import Decision, State, amend, move
from optimizer.errors import ConfigError
from optimizer.evidence import DecisionId
from optimizer.loop.act import event, take_lease
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.steps import tick


def answer(
    equipment: Equipment,
    decision_id: DecisionId,
    *,
    agreed: bool,
    reason: str,
    acting: Acting,
    as_of: datetime,
) -> Decision:
    """The decision after the answer: rolling out, or cancelled.

    Raises:
        KeyError: no such decision.
        ConfigError: it waits for nobody, was approved already, the question expired, or a rejection
            gives no reason.
        ConflictError: another run is acting on the target.
    """
    if not agreed and not reason.strip():
        msg = f"rejecting {decision_id} needs a reason"
        raise ConfigError(msg)
    ledger = equipment.ledger
    lease = take_lease(equipment, ledger.decisions.get(decision_id).target, acting)
    try:
        before = ledger.decisions.get(decision_id)
        if before.state is not State.AWAITING_APPROVAL:
            msg = f"decision {decision_id} is {before.state.value}; it does not wait for approval"
            raise ConfigError(msg)
        if agreed:
            _check_open(equipment, before, acting)
        else:
            after = move(before, State.CANCELLED, acting.now, reason=f"rejected: {reason}")
            entry = event(before, after, "transition", acting, reason=f"rejected: {reason}")
            ledger.decisions.update(after, [entry], lease=lease)
            return after
        after = amend(before, approved_by=acting.actor)
        text = f"approved by {acting.actor}" + (f": {reason}" if reason else "")
        ledger.decisions.update(
            after, [event(before, after, "approval", acting, reason=text)], lease=lease
        )
    finally:
        ledger.effects.release(lease)
    return tick(equipment, decision_id, acting=acting, as_of=as_of).decision


def _check_open(equipment: Equipment, decision: Decision, acting: Acting) -> None:
    """Refuse a second approval, and one that comes too late.

    Raises:
        ConfigError: naming who approved, or since when the question is closed.
    """
    if decision.approved_by is not None:
        msg = (
            f"decision {decision.id} was approved by {decision.approved_by} already; "
            "it starts with the next run that may start it"
        )
        raise ConfigError(msg)
    policy, asked = equipment.policies.get(decision.target), decision.approval_asked_at
    if policy is None or asked is None:
        return
    until = asked + policy.approval.expires_after
    if acting.now > until:
        msg = f"the question whether to start {decision.id} was open until {until.isoformat()}"
        raise ConfigError(msg)
