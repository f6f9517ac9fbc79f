"""Commands about rows that were set aside: list them, and try them again."""

import click

from optimizer import wiring
from optimizer.cli.failures import not_found
from optimizer.cli.invocation import Invocation, acts, current, options
from optimizer.cli.lazy import LazyGroup
from optimizer.loop.quarantine import list_groups, list_rows, replay, reread
from optimizer.observations import QuarantineReason
from optimizer.settings.model import FileSourceSettings

_REASONS = click.Choice([reason.value for reason in QuarantineReason])


@click.group(cls=LazyGroup)
def quarantine() -> None:
    """List rows that were set aside, and try them again."""


@quarantine.command("list")
@options
@click.option("--rows", is_flag=True, help="Single rows, newest first, instead of groups.")
@click.option("--source", default=None, help="Only rows of this source (with --rows).")
@click.option("--reason", type=_REASONS, default=None, help="Only this reason (with --rows).")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Rows.")
@click.pass_context
def list_(
    ctx: click.Context, *, rows: bool, source: str | None, reason: str | None, limit: int
) -> None:
    """What was set aside, by source and reason; with --rows, the rows themselves."""
    calling = current(ctx)
    equipment = calling.equipment()
    if not rows:
        if source or reason:
            msg = "--source and --reason need --rows"
            raise click.UsageError(msg, ctx)
        groups = list_groups(equipment.ledger, equipment.engine)
        table = [
            {
                "source": group.source,
                "reason": group.reason,
                "rows": group.n_rows,
                "newest": group.newest,
                "example": group.example,
            }
            for group in groups
        ]
        calling.output.table("quarantine", table, empty="empty")
        return
    found = list_rows(equipment.ledger, equipment.engine, source=source, reason=reason, limit=limit)
    calling.output.table(
        "quarantined rows",
        [
            {
                "source": row.source,
                "origin": row.origin,
                "line": row.line,
                "reason": row.reason,
                "detail": row.detail,
                "received": row.received_at,
                "raw": row.raw,
            }
            for row in found
        ],
        empty="none",
    )


@quarantine.command("replay")
@options
@acts
@click.option("--source", "sources", multiple=True, help="Only rows of this; may be repeated.")
@click.option(
    "--reason", "reasons", multiple=True, type=_REASONS, help="Only this; may be repeated."
)
@click.pass_context
def replay_(ctx: click.Context, *, sources: tuple[str, ...], reasons: tuple[str, ...]) -> None:
    """Check the rows again, by the configuration as it is now; those that pass are taken in.

    The next run aggregates them.
    """
    calling = current(ctx)
    loaded = calling.loaded()
    for name in sources:
        _known(calling, name)
    equipment = calling.equipment()
    acting = calling.acting()
    report = replay(
        equipment.ledger,
        equipment.engine,
        targets=equipment.targets,
        prices=equipment.book_prices(acting.now),
        now=acting.now,
        mapped=wiring.mappings(loaded.settings),
        sources=sources or None,
        reasons=reasons or None,
    )
    equipment.ledger.runs.audit(
        at=acting.now,
        actor=acting.actor,
        operation="replay_quarantine",
        detail={"sources": list(sources), "reasons": list(reasons), "passed": report.n_passed},
    )
    calling.output.record(
        report,
        f"{report.n_tried} tried: {report.n_passed} taken in, {report.n_duplicates} were there "
        f"already, {report.n_failed} stay",
    )


@quarantine.command("reread")
@options
@acts
@click.argument("source")
@click.argument("origin")
@click.pass_context
def reread_(ctx: click.Context, source: str, origin: str) -> None:
    """Have the file ORIGIN of SOURCE read again from its start by the next run.

    For files that could not be read, or whose lines could not be parsed, once they are mended.
    """
    calling = current(ctx)
    if not isinstance(_known(calling, source), FileSourceSettings):
        msg = f"source {source} reads no files; its rows are tried again by `quarantine replay`"
        raise click.UsageError(msg, ctx)
    equipment = calling.equipment()
    acting = calling.acting()
    reread(
        equipment.ledger,
        equipment.engine,
        source=source,
        origin=origin,
        forget=wiring.forget_file,
        now=acting.now,
    )
    equipment.ledger.runs.audit(
        at=acting.now,
        actor=acting.actor,
        operation="reread_file",
        detail={"source": source, "origin": origin},
    )
    calling.output.record(
        {"source": source, "origin": origin}, f"{source}: the next run reads {origin} again"
    )


def _known(calling: Invocation, name: str) -> object:
    """The configured source of that name.

    Raises:
        Refused: there is none.
    """
    for item in calling.loaded().settings.integrations.sources:
        if item.name == name:
            return item
    raise not_found("source", name, "`llmopt config show integrations.sources` shows them")
