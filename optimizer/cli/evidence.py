"""The evidence behind a decision: every look, and what each check said."""

import click

from optimizer.cli.decisions import find
from optimizer.cli.invocation import current, options
from optimizer.cli.lazy import LazyGroup
from optimizer.cli.output import Json
from optimizer.evidence import Check
from optimizer.ports import Look


@click.group(cls=LazyGroup)
def evidence() -> None:
    """Show what was judged."""


@evidence.command()
@options
@click.argument("decision_id")
@click.pass_context
def show(ctx: click.Context, decision_id: str) -> None:
    """The looks at a decision: verdict, move and reason of each, and the newest look's checks."""
    calling = current(ctx)
    decision = find(calling, decision_id)
    looks = calling.ledger().decisions.looks(decision.id)
    if calling.as_json:
        calling.output.record(looks, "")
        return
    calling.output.table(
        f"looks at {decision.id} ({decision.target}: {decision.baseline} -> {decision.candidate})",
        [_look_row(look) for look in looks],
        empty="nobody has looked yet",
    )
    if looks:
        calling.output.table(
            "checks of the newest look", [_check_row(c) for c in looks[-1].verdict.checks]
        )


def _look_row(look: Look) -> dict[str, Json]:
    return {
        "at": look.at,
        "verdict": look.verdict.outcome,
        "stage": look.verdict.stage_outcome,
        "move": look.move,
        "n_canary": look.verdict.n_canary,
        "n_control": look.verdict.n_control,
        "why": look.verdict.sentence,
    }


def _check_row(check: Check) -> dict[str, Json]:
    return {
        "metric": check.metric,
        "role": check.role,
        "outcome": check.outcome,
        "harm": check.harm,
        "lower": check.harm_lower,
        "upper": check.harm_upper,
        "margin": check.margin,
        "reason": check.reason,
        "detail": check.detail,
    }
