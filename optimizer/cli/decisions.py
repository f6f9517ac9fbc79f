"""Commands about decisions: list, show, approve, reject, cancel, and rollback."""

from collections.abc import Mapping

import click

from optimizer.cli.failures import Refused, not_found
from optimizer.cli.invocation import Invocation, acts, current, options
from optimizer.cli.lazy import LazyGroup
from optimizer.cli.output import Json
from optimizer.decision import Decision, State
from optimizer.evidence import DecisionId
from optimizer.loop.approval import answer
from optimizer.loop.evaluate import IN_FLIGHT
from optimizer.loop.steps import end_now
from optimizer.loop.tell import message_of, tell

_DISPATCH = click.option(
    "--dispatch", is_flag=True, help="Start a run at the Prefect server instead of acting here."
)
_REASON = click.option("--reason", required=True, help="Why; it is written into the log.")


@click.group(cls=LazyGroup)
def decisions() -> None:
    """List, show, approve, reject and cancel decisions."""


@decisions.command("list")
@options
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in State]),
    help="Only decisions in this state; may be repeated.",
)
@click.option("--in-flight", is_flag=True, help="Only decisions that are not final.")
@click.option("--target", default=None, help="Only decisions of this target.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Newest.")
@click.pass_context
def list_(
    ctx: click.Context, *, states: tuple[str, ...], in_flight: bool, target: str | None, limit: int
) -> None:
    """Decisions, newest first."""
    wanted = [State(value) for value in states] or (list(IN_FLIGHT) if in_flight else None)
    found = current(ctx).ledger().decisions.find(states=wanted, target=target)
    rows = [_row(decision) for decision in reversed(found)][:limit]
    current(ctx).output.table("decisions", rows)


def _row(decision: Decision) -> dict[str, Json]:
    return {
        "id": decision.id,
        "target": decision.target,
        "change": f"{decision.baseline} -> {decision.candidate}",
        "state": decision.state,
        "stage": decision.stage if decision.stage >= 0 else None,
        "created": decision.created_at,
        "why": decision.hold_reason or decision.reason or decision.rationale,
    }


@decisions.command()
@options
@click.argument("decision_id")
@click.pass_context
def show(ctx: click.Context, decision_id: str) -> None:
    """One decision and its whole log."""
    calling = current(ctx)
    decision = find(calling, decision_id)
    events = calling.ledger().decisions.events(decision.id)
    if calling.as_json:
        calling.output.record({"decision": decision, "events": events}, "")
        return
    calling.output.table(
        f"decision {decision.id}",
        [{"field": name, "value": value} for name, value in _facts(decision).items()],
    )
    calling.output.table(
        "log",
        [
            {
                "#": entry.seq,
                "at": entry.at,
                "event": f"{entry.kind}: {entry.from_state.value} -> {entry.to_state.value}",
                "by": entry.actor,
                "why": entry.reason,
                "hash": entry.hash[:12],
            }
            for entry in events
        ],
    )


def _facts(decision: Decision) -> Mapping[str, Json]:
    saved = decision.expected.cost_reduction_pct
    actual = None if decision.actual is None else decision.actual.cost_reduction_pct
    return {
        "target": decision.target,
        "change": f"{decision.baseline} -> {decision.candidate}",
        "state": decision.state,
        "stage": decision.stage if decision.stage >= 0 else None,
        "strategy": decision.strategy,
        "rationale": decision.rationale,
        "expected saving, %": saved,
        "realised saving, %": actual,
        "held because": decision.hold_reason,
        "ended because": decision.reason,
        "approved by": decision.approved_by,
        "created": decision.created_at,
        "deployed": decision.deployed_at,
        "ended": decision.ended_at,
    }


@decisions.command()
@options
@acts
@_DISPATCH
@click.argument("decision_id")
@click.option("--reason", default="", help="Why; it is written into the log.")
@click.pass_context
def approve(ctx: click.Context, *, decision_id: str, reason: str, dispatch: bool) -> None:
    """Agree to a decision that waits; its rollout starts."""
    _answer(current(ctx), decision_id, agreed=True, reason=reason, dispatch=dispatch)


@decisions.command()
@options
@acts
@_DISPATCH
@click.argument("decision_id")
@_REASON
@click.pass_context
def reject(ctx: click.Context, *, decision_id: str, reason: str, dispatch: bool) -> None:
    """Refuse a decision that waits; it is cancelled."""
    _answer(current(ctx), decision_id, agreed=False, reason=reason, dispatch=dispatch)


def _answer(
    calling: Invocation, decision_id: str, *, agreed: bool, reason: str, dispatch: bool
) -> None:
    before = find(calling, decision_id)
    acting = calling.acting()
    if dispatch:
        parameters = {
            "decision_id": before.id,
            "answer": "approve" if agreed else "reject",
            "actor": acting.actor,
            "reason": reason,
        }
        _start(calling, "approve/approve", before, parameters)
        return
    after = answer(
        calling.equipment(),
        before.id,
        agreed=agreed,
        reason=reason,
        acting=acting,
        as_of=acting.now,
    )
    tell(calling.equipment(), message_of(after, None, None))
    _say(calling, after)


@decisions.command()
@options
@acts
@click.argument("decision_id")
@_REASON
@click.pass_context
def cancel(ctx: click.Context, *, decision_id: str, reason: str) -> None:
    """End a decision; one that holds traffic is rolled back first."""
    _end(current(ctx), decision_id, reason, cancel=True)


@click.command()
@options
@acts
@_DISPATCH
@click.argument("decision_id", required=False)
@click.option("--target", default=None, help="Whatever is in flight on this target.")
@_REASON
@click.pass_context
def rollback(
    ctx: click.Context, *, decision_id: str | None, target: str | None, reason: str, dispatch: bool
) -> None:
    """Return a target's traffic to the snapshot taken before the change, and prove it."""
    calling = current(ctx)
    if (decision_id is None) == (target is None):
        msg = "name a decision, or --target with one in flight"
        raise click.UsageError(msg, ctx)
    decision = find(calling, decision_id) if decision_id else _in_flight(calling, target or "")
    if dispatch:
        parameters = {
            "decision_id": decision.id,
            "reason": reason,
            "actor": calling.acting().actor,
        }
        _start(calling, "rollback/rollback", decision, parameters)
        return
    _end(calling, decision.id, reason, cancel=False)


def _in_flight(calling: Invocation, target: str) -> Decision:
    found = calling.ledger().decisions.find(states=IN_FLIGHT, target=target)
    if not found:
        msg = f"nothing is in flight on {target}; a completed change is undone by a new one"
        raise Refused(msg)
    return found[-1]


def _end(calling: Invocation, decision_id: str, reason: str, *, cancel: bool) -> None:
    if not reason.strip():
        msg = "--reason must not be empty"
        raise click.UsageError(msg)
    before = find(calling, decision_id)
    if before.state.is_final:
        msg = (
            f"decision {before.id} is {before.state.value} since {before.ended_at}: nothing to end"
        )
        raise Refused(msg)
    after = end_now(calling.equipment(), before.id, reason, acting=calling.acting(), cancel=cancel)
    tell(calling.equipment(), message_of(after, None, None))
    _say(calling, after)


def _say(calling: Invocation, decision: Decision) -> None:
    why = f": {decision.reason}" if decision.reason else ""
    text = f"{decision.target}: decision {decision.id} is {decision.state.value}{why}"
    calling.output.record(decision, text)


def _start(
    calling: Invocation, deployment: str, decision: Decision, parameters: Mapping[str, Json]
) -> None:
    """Ask the Prefect server for a run; asked twice, it is the same run."""
    key = f"{deployment}:{decision.id}:{decision.version}"
    run = calling.dispatcher().start(deployment, {"parameters": dict(parameters)}, key)
    calling.output.record(
        {"run": run, "deployment": deployment}, f"started {deployment}: run {run}"
    )


def find(calling: Invocation, decision_id: str) -> Decision:
    """The decision of that id.

    Raises:
        Refused: there is none.
    """
    store = calling.ledger().decisions
    try:
        return store.get(DecisionId(decision_id))
    except KeyError:
        raise not_found("decision", decision_id, "`llmopt decisions list` shows them") from None
