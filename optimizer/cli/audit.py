"""The record: whether it still is what was written, and who did what by hand."""

import click

from optimizer.cli.failures import FOUND
from optimizer.cli.invocation import current, options
from optimizer.cli.lazy import LazyGroup
from optimizer.loop.keep import broken_chains, broken_experiments


@click.group(cls=LazyGroup)
def audit() -> None:
    """Check and show the record."""


@audit.command()
@options
@click.pass_context
def verify(ctx: click.Context) -> None:
    """Hash every decision's and experiment's log again; exit code 1 if one is not as written."""
    calling = current(ctx)
    ledger = calling.ledger()
    checked = len(ledger.decisions.find()) + len(ledger.experiments.find())
    broken = [*broken_chains(calling.equipment()), *broken_experiments(calling.equipment())]
    told = "all hold" if not broken else f"broken: {', '.join(broken)}"
    calling.output.record({"checked": checked, "broken": broken}, f"{checked} logs checked, {told}")
    if broken:
        ctx.exit(FOUND)


@audit.command("list")
@options
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Newest.")
@click.pass_context
def list_(ctx: click.Context, limit: int) -> None:
    """Acts of operators and repairs of gateways, newest first."""
    rows = current(ctx).ledger().runs.audit_log(limit=limit)
    current(ctx).output.table("audit log", rows)
