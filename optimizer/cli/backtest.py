"""Backtest: what would have been decided each hour on one's own logs, and saved. Acts on nothing.

Everything it writes lies in a temporary directory, but for the page that ``--html`` asks for.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from optimizer.cli.invocation import Invocation, current, now, options
from optimizer.cli.moments import MOMENT, in_utc
from optimizer.cli.output import Output

if TYPE_CHECKING:
    from optimizer.loop.backtest.reading import Progress
    from optimizer.report.backtest import Backtest


@click.command()
@options
@click.option(
    "--from", "start", type=MOMENT, default=None, help="First hour, UTC.  [default: four weeks]"
)
@click.option(
    "--to", "end", type=MOMENT, default=None, help="End, UTC.  [default: the end of the log]"
)
@click.option("--target", "targets", multiple=True, help="Only this target; may be repeated.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), default=None, help="Write a page."
)
@click.pass_context
def backtest(
    ctx: click.Context,
    *,
    start: datetime | None,
    end: datetime | None,
    targets: tuple[str, ...],
    html: Path | None,
) -> None:
    """Run the past again: what would have been decided each hour, and saved. Acts on nothing."""
    from optimizer.report.backtest import page

    calling = current(ctx)
    page.check_place(html)
    found = _conducted(calling, in_utc(start), in_utc(end), targets)
    if html is not None:
        page.write(found, html)
    _say(calling.output, found, html)


def _conducted(
    calling: Invocation, start: datetime | None, end: datetime | None, targets: tuple[str, ...]
) -> "Backtest":
    from optimizer import wiring
    from optimizer.loop.backtest import read, walk
    from optimizer.report.backtest import tell

    loaded = calling.loaded()
    with tempfile.TemporaryDirectory(prefix="llmopt-backtest-") as place, _shown() as progress:
        equipment = wiring.rehearse(loaded, Path(place))
        try:
            read_ = read(
                equipment, now=now(), start=start, end=end, targets=targets, progress=progress
            )
            walked = walk(equipment, read_, progress=progress)
            progress("summing up", 0, None)
            return tell(walked, equipment.ledger, equipment.policies)
        finally:
            wiring.close(equipment)


@contextmanager
def _shown() -> Iterator["Progress"]:
    """A bar on the terminal, beside the answer; nothing where nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:,.0f}"))
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("starting", total=None)

        def tell(what: str, done: int, of: int | None) -> None:
            bar.update(task, description=what, completed=done, total=of)

        yield tell


def _say(output: Output, found: "Backtest", html: Path | None) -> None:
    from optimizer.report.backtest import text

    if output.as_json:
        output.record(_json(found), "")
        return
    output.record(None, text.headline(found))
    output.table("what would have been saved", text.yardsticks(found))
    output.table("by target", text.by_target(found))
    output.table("decisions", text.decisions(found))
    if found.refused:
        output.table("refused proposals", text.refusals(found.refused))
    if found.left:
        output.table("arms that were left, and why for most hours", text.left(found))
    notes = [*found.notes, *(f"{name} failed: {why}" for name, why in found.failed.items())]
    output.record(None, "\n".join(f"- {note}" for note in (*notes, f"{text.read_rows(found)}.")))
    if html is not None:
        output.record(None, f"the page: {html}")


def _json(found: "Backtest") -> dict[str, object]:
    """Everything but the curves."""
    names = [name for name in found.__dataclass_fields__ if name != "curves"]
    return {name: getattr(found, name) for name in names}
