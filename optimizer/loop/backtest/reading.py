"""Reading: everything the sources hold, from an empty cursor, into files of the backtest alone."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from optimizer.engine import Engine, Spool
from optimizer.engine.past import SOURCE, keep_past
from optimizer.engine.spool import CALLS, DATASETS, FEEDBACK
from optimizer.engine.walked import Read
from optimizer.errors import ConfigError, DataError
from optimizer.loop.decide import HISTORY_DAYS
from optimizer.loop.equipment import Equipment
from optimizer.loop.observe import PullReport
from optimizer.metrics import DAY_S, HOUR_S, Window, at, ceil_s, floor_s
from optimizer.ports import Source, SpoolFile

LONGEST: Final = timedelta(days=28)
"""How much of the end of a log is run again unless more is asked for."""

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it is done, and of how much; None = nobody knows."""


def read(
    equipment: Equipment,
    *,
    now: datetime,
    start: datetime | None = None,
    end: datetime | None = None,
    targets: Sequence[str] = (),
    progress: Progress = lambda *_: None,
) -> Read:
    """Read all sources from their beginning; no cursor is looked at and none moves.

    Args:
        equipment: of a rehearsal; what is read lies beside its spool.
        now: the present; later rows are set aside.
        start: first hour to be decided; None = so that the period is four weeks at most.
        end: end of the last one; None = the end of the log.
        targets: to be run again; empty = all.
        progress: told of every batch.

    Raises:
        ConfigError: no source or no such target is configured, or the period is no whole hours.
        DataError: the log holds no call of such a target, or none in the period.
        UnavailableError: a source does not answer, or the disk or the memory did not suffice.
    """
    if not equipment.sources:
        raise ConfigError("no source is configured: there is no log to run again")
    strange = sorted(set(targets) - set(equipment.targets))
    if strange or not equipment.targets:
        known = ", ".join(sorted(equipment.targets)) or "none is configured"
        raise ConfigError(f"there is no target {', '.join(strange)}; targets: {known}")
    apart = equipment.engine.spool.root.parent / "log"
    engine = Engine(Spool(apart / "spool"), equipment.engine.limits)
    files: dict[str, list[SpoolFile]] = {name: [] for name in DATASETS}
    report = PullReport(source=SOURCE)
    for source in equipment.sources:
        report = _read_source(
            equipment, engine, source, files, report=report, now=now, progress=progress
        )
    calls = files[CALLS]
    if not calls:
        raise DataError(
            f"none of {report.n_rows} rows is a call of a configured target and arm; set aside: "
            f"{dict(report.by_reason)}"
        )
    reach = Window(
        start=at(min(file.min_s for file in calls)), end=at(max(file.max_s for file in calls) + 1)
    )
    period = _period(reach, start, end)
    history_s = period.start_s - max(equipment.baseline_days, HISTORY_DAYS) * DAY_S
    chosen = tuple(name for name in equipment.targets if not targets or name in targets)
    progress("sorting the log", 0, None)
    past = keep_past(
        engine,
        _within(calls, history_s, period.end_s),
        files[FEEDBACK],
        targets=chosen,
        start_s=history_s,
        end_s=period.end_s,
        folder=apart,
    )
    engine.spool.discard([file.name for each in files.values() for file in each])
    if not past.served(start_s=period.start_s, end_s=period.end_s):
        raise DataError(
            f"the log holds no call of {', '.join(chosen)} from {period.start.isoformat()} to "
            f"{period.end.isoformat()}; it reaches from {reach.start.isoformat()} to "
            f"{reach.end.isoformat()}"
        )
    return Read(
        past=past,
        targets=chosen,
        period=period,
        history_s=history_s,
        n_rows=report.n_rows,
        n_duplicates=report.n_duplicates,
        by_reason=report.by_reason,
    )


def _read_source(
    equipment: Equipment,
    engine: Engine,
    source: Source,
    files: Mapping[str, list[SpoolFile]],
    *,
    report: PullReport,
    now: datetime,
    progress: Progress,
) -> PullReport:
    """The report after one more source, whose rows are in the files."""
    prices = equipment.book_prices(now)
    batches = source.pull({}, until=now)
    try:
        for batch in batches:
            found = engine.ingest(
                batch,
                targets=equipment.targets,
                received_at=now,
                prices=prices,
                known_calls=files[CALLS] if batch.kind.value == CALLS else (),
                known_feedback=files[FEEDBACK],
                known_quarantine=(),
            )
            report = report.plus(found)
            for file in found.files:
                files[file.dataset].append(file)
            progress(f"reading {source.name}", report.n_rows, None)
    finally:
        # A source that holds files open lets go of them, also when a batch could not be kept.
        close: Callable[[], None] | None = getattr(batches, "close", None)
        if close is not None:
            close()
    return report


def _period(reach: Window, start: datetime | None, end: datetime | None) -> Window:
    """The whole hours that are asked for; of the last four weeks of the log if none are."""
    until = at(ceil_s(reach.end, HOUR_S)) if end is None else end
    oldest = at(floor_s(reach.start, HOUR_S))
    since = max(oldest, until - LONGEST) if start is None else start
    for name, moment in (("from", since), ("to", until)):
        if moment.tzinfo is None or moment.timestamp() % HOUR_S:
            raise ConfigError(f"{name} = {moment.isoformat()} is no whole hour, UTC")
    if since >= until:
        raise ConfigError(f"from = {since.isoformat()} is not before to = {until.isoformat()}")
    return Window(start=since, end=until)


def _within(files: Sequence[SpoolFile], start_s: int, end_s: int) -> list[SpoolFile]:
    return [file for file in files if file.max_s >= start_s and file.min_s < end_s]
