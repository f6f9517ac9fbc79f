"""Tasks that act: reconcile, judge what is in flight, take the step that is due."""

from collections.abc import Mapping
from datetime import datetime

from prefect import task

from optimizer.decision import Decision
from optimizer.evidence import DecisionId
from optimizer.loop import evaluate, restarts, steps
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.reconcile import Finding
from optimizer.loop.reconcile import reconcile as align
from tasks.options import EFFECT


@task(name="reconcile", timeout_seconds=600, **EFFECT)
def reconcile(equipment: Equipment, acting: Acting) -> tuple[Finding, ...]:
    """Make every gateway hold what the ledger wants, and finish what a dead run left open."""
    return align(equipment, acting=acting)


@task(name="restart_evidence", timeout_seconds=300, **EFFECT)
def restart_evidence(
    equipment: Equipment, changed: Mapping[tuple[str, str], datetime], acting: Acting
) -> tuple[DecisionId, ...]:
    """Begin the evidence of canaries anew whose model changed behind its name."""
    return restarts.restart_evidence(equipment, changed, acting=acting)


@task(name="judge_in_flight", timeout_seconds=600, **EFFECT)
def judge_in_flight(
    equipment: Equipment,
    acting: Acting,
    as_of: datetime,
    *,
    guard_only: bool,
    dry_run: bool = False,
) -> tuple[evaluate.Assessment, ...]:
    """Judge every decision in flight, plan its step, and record the look.

    A dry run records none: nobody acts on it, so it spends no error.
    """
    found = evaluate.assess(equipment, acting=acting, as_of=as_of, guard_only=guard_only)
    if not dry_run:
        evaluate.record_looks(equipment, found, acting=acting)
    return found


@task(name="take_step", task_run_name="take_step-{decision_id}", timeout_seconds=300, **EFFECT)
def take_step(
    equipment: Equipment,
    decision_id: DecisionId,
    acting: Acting,
    as_of: datetime,
    *,
    guard_only: bool,
) -> evaluate.Assessment:
    """Take the due step of one decision: write down, apply, read back, record."""
    return steps.tick(equipment, decision_id, acting=acting, as_of=as_of, guard_only=guard_only)


@task(name="roll_back", task_run_name="roll_back-{decision_id}", timeout_seconds=300, **EFFECT)
def roll_back(
    equipment: Equipment, decision_id: DecisionId, reason: str, acting: Acting
) -> Decision:
    """Return the target's traffic to its snapshot and prove it."""
    return steps.end_now(equipment, decision_id, reason, acting=acting)
