"""What a run leaves in the Prefect UI: a table of the cycle, a page per decision, custom events."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol
from uuid import NAMESPACE_OID, uuid5

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events import emit_event

from optimizer.decision import Decision, Event
from optimizer.errors import DataError, OptimizerError
from optimizer.evidence import DecisionId
from optimizer.loop.equipment import Equipment
from optimizer.loop.evaluate import Assessment
from optimizer.loop.tell import Message, message_of, tell
from optimizer.report.tails import read_tails
from tasks import pages
from tasks.options import PURE, opaque


class When(Protocol):
    """The part of an occasion a report needs."""

    @property
    def run_id(self) -> str:
        """The flow run."""
        ...

    @property
    def as_of(self) -> datetime:
        """The moment the run looks from."""
        ...

    @property
    def now(self) -> datetime:
        """When effects are recorded."""
        ...


Record = Callable[..., dict[str, Any]]


@contextmanager
def recorded(equipment: Equipment, flow: str, when: When) -> Iterator[Record]:
    """Note in the ledger that the run began and how it ended; the yielded function reports it."""
    runs = equipment.ledger.runs
    runs.start_run(
        when.run_id, flow, as_of=when.as_of, at=when.now, config_hash=equipment.config_hash
    )
    summary: dict[str, Any] = {}

    def record(**parts: object) -> dict[str, Any]:
        summary.update(pages.summary(flow, parts))
        publish_cycle(flow, opaque(parts), summary)
        return summary

    try:
        yield record
    except BaseException as error:
        runs.end_run(
            when.run_id, at=when.now, status="failed", summary={**summary, "error": str(error)}
        )
        raise
    runs.end_run(when.run_id, at=when.now, status="completed", summary=summary)


@task(name="report", **PURE)
def publish_cycle(flow: str, parts: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
    """The table of the cycle, and what was held and why."""
    rows = pages.in_flight_rows(parts.get("assessed", ()))
    if rows:
        create_table_artifact(
            key=f"{flow}-in-flight", table=rows, description=pages.headline(summary)
        )
    if flow == "optimize":
        create_markdown_artifact(
            key="optimize-cycle",
            markdown=pages.cycle_page(parts, summary),
            description=pages.headline(summary),
        )


def publish_new(equipment: Equipment, created: Sequence[DecisionId], when: When) -> None:
    """Tell Prefect about decisions this run began."""
    for decision_id in created:
        _emit(equipment.ledger.decisions.get(decision_id), _written(equipment, decision_id, when))


def publish_step(equipment: Equipment, found: Assessment, when: When) -> None:
    """Tell people and Prefect about the step that was taken, or one of a dead run it finished."""
    step = found.step if found.is_due else None
    _publish(equipment, found.decision, message_of(found.decision, step, found.verdict), when)


def publish_end(equipment: Equipment, decision: Decision, when: When) -> None:
    """Tell people and Prefect about an answer, a rollback by hand, or a step finished later."""
    _publish(equipment, decision, message_of(decision, None, None), when)


def publish_held(equipment: Equipment, decision: Decision, error: OptimizerError) -> None:
    """Tell people about evidence that contradicts itself; that another run acts is no news.

    Where the candidate holds traffic, the loop has told already that it cannot be rolled back.
    """
    if isinstance(error, DataError) and not decision.state.holds_traffic:
        tell(
            equipment,
            Message(
                title=f"{decision.target}: held as {decision.state.value}",
                body=f"{error}. The traffic stays as it is; see `llmopt evidence show "
                f"{decision.id}`.",
                severity="error",
                decision_id=decision.id,
            ),
        )


def _publish(equipment: Equipment, decision: Decision, message: Message | None, when: When) -> None:
    """Nothing is told twice: a run that wrote nothing into the decision's log has no news."""
    written = _written(equipment, decision.id, when)
    if written:
        tell(equipment, message)
        _emit(decision, written)
        publish_decision(opaque(equipment), decision.id)


def _written(equipment: Equipment, decision_id: DecisionId, when: When) -> list[Event]:
    """What this run wrote into the decision's log."""
    log = equipment.ledger.decisions.events(decision_id)
    return [entry for entry in log if entry.run_id == when.run_id]


@task(name="evidence_page", task_run_name="evidence_page-{decision_id}", **PURE)
def publish_decision(equipment: Equipment, decision_id: DecisionId) -> None:
    """The evidence page of one decision."""
    decisions = equipment.ledger.decisions
    decision, looks = decisions.get(decision_id), decisions.looks(decision_id)
    tails = read_tails(equipment.ledger, decision, looks)
    create_markdown_artifact(
        key=f"decision-{decision_id}".lower(),
        markdown=pages.decision_page(decision, decisions.events(decision_id), looks, tails),
        description=f"{decision.target}: {decision.state.value}",
    )


def _emit(decision: Decision, written: Sequence[Event]) -> None:
    """A custom event for each entry, so that automations can page or roll back.

    An entry's event has an id of its own, so that a retried run emits nothing twice.
    """
    for entry in written:
        emit_event(
            event=f"llmopt.decision.{entry.to_state.value}",
            resource={
                "prefect.resource.id": f"llmopt.decision.{decision.id}",
                "prefect.resource.name": decision.target,
            },
            payload={
                "decision_id": decision.id,
                "target": decision.target,
                "baseline": decision.baseline,
                "candidate": decision.candidate,
                "kind": entry.kind,
                "from": entry.from_state.value,
                "state": entry.to_state.value,
                "at": entry.at.isoformat(),
                "actor": entry.actor,
                "reason": entry.reason,
                "run_id": entry.run_id,
                "hash": entry.hash,
            },
            id=uuid5(NAMESPACE_OID, entry.hash),
        )
