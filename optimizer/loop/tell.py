"""Tell people: one message per change that matters, with what, why, how sure and how to undo it."""

import logging
from dataclasses import dataclass

from optimizer.decision import Decision, State
from optimizer.evidence import Reason, Verdict
from optimizer.loop.equipment import Equipment
from optimizer.rollout import Move, Step

_LOG = logging.getLogger(__name__)

_WORTH_TELLING = {
    State.DEPLOYING: "info",
    State.DEPLOYED: "info",
    State.COMPLETED: "info",
    State.AWAITING_APPROVAL: "warning",
    State.CANCELLED: "warning",
    State.VALIDATION_FAILED: "warning",
    State.ROLLED_BACK: "error",
    State.ROLLING_BACK: "critical",
    State.DEPLOYMENT_FAILED: "critical",
}
_QUIET = frozenset({Move.HOLD, Move.ADVANCE, Move.WATCH, Move.VALIDATE})
_WENT_WRONG = frozenset({State.ROLLING_BACK, State.DEPLOYMENT_FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a notifier is given."""

    title: str
    body: str
    severity: str
    decision_id: str | None


def message_of(decision: Decision, step: Step | None, verdict: Verdict | None) -> Message | None:
    """The message a step deserves; None for holds and for stages in between.

    A step in between that ended in a roll-back is told, whatever it was meant to be.
    """
    quiet = step is not None and step.move in _QUIET
    if quiet and verdict is not None and verdict.page and decision.state not in _WENT_WRONG:
        return page_of(decision, verdict)
    if quiet and decision.state not in _WENT_WRONG:
        return None
    why = decision.reason or (step.reason if step is not None else "") or decision.rationale
    sure = "" if verdict is None else f" Evidence: {verdict.sentence}."
    return Message(
        title=f"{decision.target}: {decision.state.value} "
        f"({decision.baseline} -> {decision.candidate})",
        body=f"{why}.{sure}{_undo(decision)}",
        severity=_WORTH_TELLING.get(decision.state, "info"),
        decision_id=decision.id,
    )


def page_of(decision: Decision, verdict: Verdict) -> Message:
    """What a person must see to, because nothing may be moved on such data."""
    what = (
        "the control itself is sick, nothing is moved"
        if verdict.reason is Reason.CONTROL_SICK
        else "the evidence cannot be used, a person must look"
    )
    return Message(
        title=f"{decision.target}: {what}",
        body=f"{verdict.sentence}.{_undo(decision)}",
        severity="critical",
        decision_id=decision.id,
    )


def stuck_of(decision: Decision, why: str) -> Message:
    """A roll-back that did not succeed: traffic may still be where it must not be."""
    return Message(
        title=f"{decision.target}: the roll-back of {decision.candidate} is not done",
        body=f"{why}. The next run tries again; `llmopt doctor` compares ledger and gateway.",
        severity="critical",
        decision_id=decision.id,
    )


def _undo(decision: Decision) -> str:
    if decision.state is State.AWAITING_APPROVAL:
        return f" Answer: llmopt decisions approve {decision.id}, or reject it with a reason."
    if decision.state is State.ROLLED_BACK:
        return f" All traffic is back on {decision.baseline}; nothing is left to undo."
    if not decision.state.holds_traffic:
        return ""
    return f" Undo: llmopt rollback {decision.id} --reason …"


def tell(equipment: Equipment, message: Message | None) -> None:
    """Send to every notifier; one that fails is logged and never stops the loop."""
    if message is None:
        return
    for notifier in equipment.notifiers:
        try:
            notifier.notify(
                title=message.title,
                body=message.body,
                severity=message.severity,
                decision_id=message.decision_id,
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, traffic matters more
            _LOG.warning("a notifier did not take %r: %s", message.title, error)
