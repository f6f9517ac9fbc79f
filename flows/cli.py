"""The console script ``llmopt``: the library's commands, and those that run flows.

Nothing here imports Prefect before a command that needs it runs.
"""

import asyncio
import importlib
import sys
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from flows import prefect_settings
from optimizer.cli import Entry, group
from optimizer.cli.failures import FOUND
from optimizer.cli.invocation import Invocation, current, options
from optimizer.cli.moments import MOMENT, in_utc

_AS_OF = click.option(
    "--as-of", type=MOMENT, default=None, help="Moment to look from, UTC.  [default: now]"
)
_DISPATCH = click.option(
    "--dispatch", is_flag=True, help="Start a run at the Prefect server instead of running here."
)

ENTRIES = (
    Entry(name="demo", where="flows.cli:demo", help="Show the whole loop on a simulated world."),
    Entry(
        name="serve", where="flows.cli:serve", help="Server, schedules and flows on one machine."
    ),
    Entry(name="run", where="flows.cli:run", help="Run one cycle, here and now."),
    Entry(
        name="guard", where="flows.cli:guard", help="Look at what is in flight; hold or roll back."
    ),
    Entry(name="maintain", where="flows.cli:maintain", help="Daily housekeeping."),
)


@click.command()
@options
@click.option("--host", default=None, help="Address to bind to.  [default: service.host]")
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="[default: service.port]")
@click.option(
    "--definitions",
    type=click.Path(path_type=Path),
    default=None,
    help="The deployments.  [default: the checkout's prefect.yaml]",
)
@click.pass_context
def serve(
    ctx: click.Context, *, host: str | None, port: int | None, definitions: Path | None
) -> None:
    """Start a Prefect server and serve every deployment, until Ctrl-C or SIGTERM."""
    from flows import serve as serving

    loaded = current(ctx).loaded()
    service = loaded.settings.service
    place = serving.Place(host=host or service.host, port=port or service.port)
    ctx.exit(serving.serve(loaded, place, definitions or serving.DEFINITIONS))


@click.command()
@options
@_AS_OF
@click.option("--dry-run", is_flag=True, help="Propose, but start nothing and move nothing.")
@click.option(
    "--target", "targets", multiple=True, help="Start rollouts only for this; may be repeated."
)
@_DISPATCH
@click.pass_context
def run(
    ctx: click.Context,
    *,
    as_of: datetime | None,
    dry_run: bool,
    targets: tuple[str, ...],
    dispatch: bool,
) -> None:
    """Run one cycle: pull, aggregate, analyze, decide, and take the steps that are due."""
    parameters = {"as_of": _text(as_of), "dry_run": dry_run, "targets": list(targets)}
    _run(ctx, "optimize", "manual", parameters, dispatch=dispatch)


@click.command()
@options
@_AS_OF
@_DISPATCH
@click.pass_context
def guard(ctx: click.Context, *, as_of: datetime | None, dispatch: bool) -> None:
    """Look at what is in flight; hold or roll back, never advance."""
    _run(ctx, "guard", "guard", {"as_of": _text(as_of)}, dispatch=dispatch)


@click.command()
@options
@_DISPATCH
@click.pass_context
def maintain(ctx: click.Context, *, dispatch: bool) -> None:
    """Roll up, delete what is past its keeping, merge files, check the record."""
    _run(ctx, "maintain", "maintain", {}, dispatch=dispatch)


def _text(moment: datetime | None) -> str | None:
    """The moment as a run's parameter: a server takes JSON."""
    given = in_utc(moment)
    return None if given is None else given.isoformat()


def _run(
    ctx: click.Context, flow: str, deployment: str, parameters: Mapping[str, Any], *, dispatch: bool
) -> None:
    """Run the flow in this process, or ask the server for a run of its deployment."""
    calling = current(ctx)
    given = {name: value for name, value in parameters.items() if value is not None}
    if dispatch:
        name = f"{flow}/{deployment}"
        run_id = calling.dispatcher().start(name, {"parameters": given}, calling.run_id)
        calling.output.record({"run": run_id, "deployment": name}, f"started {name}: run {run_id}")
        return
    result = _in_process(calling, flow, given)
    problems = _problems(result)
    calling.output.record(result, _told(flow, result, problems))
    if problems:
        ctx.exit(FOUND)


def _in_process(calling: Invocation, flow: str, given: Mapping[str, Any]) -> dict[str, Any]:
    loaded = calling.loaded()
    prefect_settings.prepare(
        prefect_settings.home_of(loaded.folder), observability=loaded.settings.observability
    )
    from flows import equipped

    module = importlib.import_module(f"flows.{flow}")
    parameters = importlib.import_module("flows.parameters")
    kind = getattr(parameters, f"{flow.capitalize()}Parameters")
    try:
        result: dict[str, Any] = asyncio.run(
            getattr(module, flow)(kind(config_file=loaded.path, **given))
        )
        return result
    finally:
        equipped.close_all()


def _problems(result: Mapping[str, Any]) -> list[str]:
    """What a run met that somebody should see to."""
    problems = [
        f"source {name} stayed away: {why}"
        for name, why in result.get("absent_sources", {}).items()
    ]
    failed = result.get("reconciled", {}).get("failed", 0)
    if failed:
        problems.append(f"{failed} targets could not be reconciled; `llmopt doctor` tells more")
    problems += [
        f"the log of decision {name} is broken" for name in result.get("broken_chains", [])
    ]
    return problems


def _told(flow: str, result: Mapping[str, Any], problems: list[str]) -> str:
    numbers = [
        f"{name.replace('_', ' ')} {value}"
        for name, value in result.items()
        if isinstance(value, int) and not isinstance(value, bool)
    ]
    lines = [f"{flow}: {', '.join(numbers) or 'done'}"]
    for name in ("moves", "started", "removed", "spool"):
        lines += [f"{name} {key}: {value}" for key, value in result.get(name, {}).items()]
    return "\n".join([*lines, *problems])


@click.command()
@click.option("--hours", type=click.IntRange(min=1), default=None, help="Simulated hours.")
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the world.")
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=Path("llmopt-demo"),
    show_default=True,
    help="Where the world, the ledger and the report are kept.",
)
@click.option("--open", "open_report", is_flag=True, help="Open the report in a browser.")
@click.pass_context
def demo(
    ctx: click.Context, *, hours: int | None, seed: int, directory: Path, open_report: bool
) -> None:
    """Show the whole loop on a simulated world: real flows, real ledger, real gateway files."""
    from flows.demo import HOURS
    from flows.demo import demo as run_demo

    ctx.exit(
        run_demo(hours=hours or HOURS, directory=directory, seed=seed, open_report=open_report)
    )


def main() -> None:
    """Run the command line."""
    group(ENTRIES).main(args=sys.argv[1:], prog_name="llmopt")


if __name__ == "__main__":
    main()
