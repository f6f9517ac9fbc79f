"""Doctor: look at everything a run needs, and say what to do about what is wrong.

Sources are asked for their first batch and gateways are read: no cursor and no traffic moves.
Opening the database migrates it where ``database.auto_migrate`` says so, as every command does.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import click

from optimizer.cli.failures import FOUND
from optimizer.cli.invocation import Invocation, current, now, options
from optimizer.errors import ConfigError, DataError, OptimizerError, UnavailableError
from optimizer.loop.equipment import Equipment
from optimizer.ports import Source

_CLOCK_SLACK = timedelta(minutes=2)
OK, WARNING, BAD = "ok", "warning", "problem"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was looked at, how it is, and the remedy."""

    about: str
    status: str
    detail: str
    remedy: str = ""


@click.command()
@options
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """Look at everything a run needs, and say what to do; exit code 1 if something is wrong."""
    calling = current(ctx)
    loaded = calling.loaded()
    findings = [Finding(about="configuration", status=OK, detail=str(loaded.path))]
    findings += _examine(calling)
    rows = [
        {"about": f.about, "status": f.status, "detail": f.detail, "remedy": f.remedy}
        for f in findings
    ]
    calling.output.table("examined", rows)
    if any(finding.status == BAD for finding in findings):
        ctx.exit(FOUND)


def _examine(calling: Invocation) -> Iterator[Finding]:
    try:
        equipment = calling.equipment()
    except UnavailableError as error:
        yield Finding(
            about="database",
            status=BAD,
            detail=str(error),
            remedy="start the database, or correct database.connection_string",
        )
        return
    except ConfigError as error:
        yield Finding(
            about="database",
            status=BAD,
            detail=str(error),
            remedy="correct the setting, or migrate with database.auto_migrate: true",
        )
        return
    moment = now()
    yield Finding(about="database", status=OK, detail="reachable, schema up to date")
    yield _spool(calling.loaded().settings.database.spool_directory)
    yield _clock(equipment, moment)
    if not equipment.targets:
        yield Finding(
            about="targets",
            status=WARNING,
            detail="none is configured",
            remedy="name your call sites under targets",
        )
    for source in equipment.sources:
        yield _source(equipment, source, moment)
    yield from _intents(equipment)
    for target in equipment.targets:
        yield _gateway(equipment, target)


def _spool(directory: Path) -> Finding:
    place = directory
    while not place.exists():
        place = place.parent
    if _writable(place):
        return Finding(about="spool", status=OK, detail=str(directory))
    return Finding(
        about="spool",
        status=BAD,
        detail=f"{place} cannot be written",
        remedy="give this user the right to write there, or set database.spool_directory",
    )


def _writable(directory: Path) -> bool:
    return directory.is_dir() and os.access(directory, os.W_OK | os.X_OK)


def _clock(equipment: Equipment, moment: datetime) -> Finding:
    """Compare the clock with what the ledger has seen: it must not run behind it."""
    runs = equipment.ledger.runs.runs(limit=1)
    newest = datetime.fromisoformat(runs[0]["started_at"]) if runs else None
    if newest is not None and newest - moment > _CLOCK_SLACK:
        return Finding(
            about="clock",
            status=BAD,
            detail=f"the newest run began at {newest}, which is after now, {moment}",
            remedy="set this machine's clock (NTP); leases and freshness depend on it",
        )
    return Finding(about="clock", status=OK, detail=f"{moment:%Y-%m-%d %H:%M:%S} UTC")


def _source(equipment: Equipment, source: Source, moment: datetime) -> Finding:
    about = f"source {source.name}"
    state = equipment.ledger.intake.cursor(source.name)
    pulled = "never pulled" if state.pulled_at is None else f"last pulled {state.pulled_at:%F %T}"
    try:
        batches = source.pull(state.cursor, until=moment)
        try:
            batch = next(batches, None)
        finally:
            getattr(batches, "close", lambda: None)()
    except OptimizerError as error:
        return Finding(
            about=about,
            status=BAD,
            detail=str(error),
            remedy="make it reachable, or correct it under integrations.sources",
        )
    if batch is None:
        return Finding(
            about=about,
            status=OK if state.pulled_at else WARNING,
            detail=f"readable, nothing new; {pulled}",
            remedy="" if state.pulled_at else "check its paths or table: it has not delivered yet",
        )
    return Finding(about=about, status=OK, detail=f"readable, new rows wait; {pulled}")


def _intents(equipment: Equipment) -> Iterator[Finding]:
    for intent in equipment.ledger.effects.open_intents():
        yield Finding(
            about=f"target {intent.target}",
            status=WARNING,
            detail=f"{intent.move} of {intent.created_at:%F %T} was begun and not finished",
            remedy="the next run finishes it; `llmopt guard` does so now",
        )


def _gateway(equipment: Equipment, target: str) -> Finding:
    about = f"gateway of {target}"
    wanted = equipment.ledger.effects.desired(target)
    repair = "the next run repairs it; `llmopt guard` does so now"
    try:
        held = equipment.gateway(target).read(target)
    except DataError as error:
        return Finding(about=about, status=BAD, detail=str(error), remedy=repair)
    except OptimizerError as error:
        return Finding(
            about=about,
            status=BAD,
            detail=str(error),
            remedy="make it reachable, or correct it under integrations.gateways",
        )
    if wanted is None:
        return Finding(
            about=about,
            status=WARNING,
            detail="nothing was published yet",
            remedy="`llmopt run` publishes the baseline",
        )
    if held is None or not held.same_split(wanted):
        return Finding(
            about=about, status=BAD, detail="it does not hold what the ledger wants", remedy=repair
        )
    return Finding(about=about, status=OK, detail=f"holds generation {held.generation}")
