"""Tell people: one message per change that matters, with what, why, how sure and how to undo it."""

import logging
from dataclasses import dataclass

from optimizer.decision import Decision, State
from optimizer.errors import UnavailableError
from optimizer.evidence import Verdict
from optimizer.loop.equipment import Equipment
from optimizer.rollout import Move, Step

_LOG = logging.getLogger(__name__)

_WORTH_TELLING = {
    State.DEPLOYING: "info",
    State.DEPLOYED: "info",
    State.COMPLETED: "info",
    State.AWAITING_APPROVAL: "warning",
    State.CANCELLED: "warning",
    State.ROLLED_BACK: "error",
    State.ROLLING_BACK: "critical",
    State.DEPLOYMENT_FAILED: "critical",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a notifier is given."""

    title: str
    body: str
    severity: str
    decision_id: str | None


def message_of(decision: Decision, step: Step | None, verdict: Verdict | None) -> Message | None:
    """The message a step deserves; None for holds and for stages in between."""
    quiet = {Move.HOLD, Move.ADVANCE, Move.WATCH, Move.VALIDATE}
    page = verdict is not None and verdict.page
    if step is not None and step.move in quiet and not page:
        return None
    severity = "critical" if page else _WORTH_TELLING.get(decision.state, "info")
    why = decision.reason or (step.reason if step is not None else "")
    sure = "" if verdict is None else f" Evidence: {verdict.sentence}."
    undo = (
        f" Undo: llmopt rollback {decision.id} --reason …" if decision.state.holds_traffic else ""
    )
    title = (
        f"{decision.target}: {decision.state.value} ({decision.baseline} -> {decision.candidate})"
    )
    if page:
        title = f"{decision.target}: the control itself is sick, nothing is moved"
    return Message(
        title=title, body=f"{why}.{sure}{undo}", severity=severity, decision_id=decision.id
    )


def tell(equipment: Equipment, message: Message | None) -> None:
    """Send to every notifier; one that does not answer is logged and never stops the loop."""
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
        except UnavailableError as error:
            _LOG.warning("a notifier did not take %r: %s", message.title, error)
