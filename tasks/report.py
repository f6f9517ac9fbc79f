"""What a run leaves in the Prefect UI: a table of the cycle, a page per decision, custom events."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Protocol

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events import emit_event

from optimizer.decision import Decision
from optimizer.evidence import DecisionId
from optimizer.loop.equipment import Equipment
from optimizer.loop.evaluate import Assessment
from optimizer.loop.tell import message_of, tell
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


def publish_step(equipment: Equipment, found: Assessment, when: When) -> None:
    """Tell people and Prefect about the step that was taken."""
    _publish(equipment, found.decision, found, when)


def publish_end(equipment: Equipment, decision: Decision, when: When) -> None:
    """Tell people and Prefect about an answer or a rollback by hand."""
    _publish(equipment, decision, None, when)


def _publish(
    equipment: Equipment, decision: Decision, found: Assessment | None, when: When
) -> None:
    step = None if found is None else found.step
    verdict = None if found is None else found.verdict
    tell(equipment, message_of(decision, step, verdict))
    emit(decision, "step" if step is None else step.move.value, when)
    publish_decision(opaque(equipment), decision.id)


@task(name="evidence_page", task_run_name="evidence_page-{decision_id}", **PURE)
def publish_decision(equipment: Equipment, decision_id: DecisionId) -> None:
    """The evidence page of one decision."""
    decisions = equipment.ledger.decisions
    decision = decisions.get(decision_id)
    create_markdown_artifact(
        key=f"decision-{decision_id}".lower(),
        markdown=pages.decision_page(
            decision, decisions.events(decision_id), decisions.looks(decision_id)
        ),
        description=f"{decision.target}: {decision.state.value}",
    )


def emit(decision: Decision, move: str, when: When) -> None:
    """A custom event, so that automations can page or roll back."""
    emit_event(
        event=f"llmopt.decision.{decision.state.value}",
        resource={
            "prefect.resource.id": f"llmopt.decision.{decision.id}",
            "prefect.resource.name": decision.target,
        },
        payload={
            "decision_id": decision.id,
            "target": decision.target,
            "baseline": decision.baseline,
            "candidate": decision.candidate,
            "state": decision.state.value,
            "move": move,
            "reason": decision.reason,
            "run_id": when.run_id,
        },
    )
