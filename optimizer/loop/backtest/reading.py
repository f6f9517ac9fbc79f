"""Reading: everything the sources hold, from an empty cursor, into files of the backtest alone."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from optimizer.engine import Engine, Ingested, Spool
from optimizer.engine.past import Past, keep_past
from optimizer.engine.spool import CALLS, FEEDBACK, QUARANTINE
from optimizer.errors import ConfigError, DataError
from optimizer.loop.decide import HISTORY_DAYS
from optimizer.loop.equipment import Equipment
from optimizer.metrics import DAY_S, HOUR_S, at, ceil_s, floor_s
from optimizer.ports import Source, SpoolFile

LONGEST: Final = timedelta(days=28)
"""How much of the end of a log is run again unless more is asked for."""

Progress = Callable[[str, int, int | None], None]
"""Told what is being done, how much of it is done, and of how much; None = nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """Whole hours ``[start, end)``, aware UTC, that are decided and valued anew.

    Raises:
        ConfigError: an end is not a whole hour, or there is no hour between them.
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        """Check order and grid."""
        for name, moment in (("from", self.start), ("to", self.end)):
            if moment.tzinfo is None or moment.timestamp() % HOUR_S:
                msg = f"{name} = {moment.isoformat()} is no whole hour, UTC"
                raise ConfigError(msg)
        if self.start >= self.end:
            msg = f"from = {self.start.isoformat()} is not before to = {self.end.isoformat()}"
            raise ConfigError(msg)

    @property
    def start_s(self) -> int:
        """Start, Unix seconds."""
        return int(self.start.timestamp())

    @property
    def end_s(self) -> int:
        """End, Unix seconds."""
        return int(self.end.timestamp())

    @property
    def hours(self) -> int:
        """How many hours there are."""
        return (self.end_s - self.start_s) // HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What the sources held.

    targets: those that are run again; n_rows = kept, n_duplicates and by_reason's rows together;
    history_s: Unix seconds from which on rows before the period are there.
    """

    past: Past
    targets: tuple[str, ...]
    period: Period
    history_s: int
    n_rows: int
    n_duplicates: int
    by_reason: Mapping[str, int]


@dataclass(slots=True)
class _Gathered:
    """Files so far, and counts."""

    files: dict[str, list[SpoolFile]] = field(
        default_factory=lambda: {CALLS: [], FEEDBACK: [], QUARANTINE: []}
    )
    n_rows: int = 0
    n_duplicates: int = 0
    by_reason: Counter[str] = field(default_factory=Counter)

    def add(self, found: Ingested) -> None:
        for file in found.files:
            self.files[file.dataset].append(file)
        self.n_rows += found.n_rows
        self.n_duplicates += found.n_duplicates
        self.by_reason.update(found.by_reason)


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
        DataError: the log holds no call of a configured target.
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
    gathered = _Gathered()
    for source in equipment.sources:
        _read_source(equipment, engine, source, gathered, now=now, progress=progress)
    calls = gathered.files[CALLS]
    if not calls:
        raise DataError(
            f"none of {gathered.n_rows} rows is a call of a configured target and arm; set aside: "
            f"{dict(gathered.by_reason)}"
        )
    period = _period(calls, start, end)
    history_s = period.start_s - max(equipment.baseline_days, HISTORY_DAYS) * DAY_S
    chosen = tuple(name for name in equipment.targets if not targets or name in targets)
    progress("sorting the log", 0, None)
    past = keep_past(
        engine,
        _within(calls, history_s, period.end_s),
        gathered.files[FEEDBACK],
        targets=chosen,
        start_s=history_s,
        end_s=period.end_s,
        folder=apart,
    )
    engine.spool.discard([file.name for files in gathered.files.values() for file in files])
    return Read(
        past=past,
        targets=chosen,
        period=period,
        history_s=history_s,
        n_rows=gathered.n_rows,
        n_duplicates=gathered.n_duplicates,
        by_reason=MappingProxyType(dict(sorted(gathered.by_reason.items()))),
    )


def _read_source(
    equipment: Equipment,
    engine: Engine,
    source: Source,
    gathered: _Gathered,
    *,
    now: datetime,
    progress: Progress,
) -> None:
    prices = equipment.book_prices(now)
    batches = source.pull({}, until=now)
    try:
        for batch in batches:
            found = engine.ingest(
                batch,
                targets=equipment.targets,
                received_at=now,
                prices=prices,
                known_calls=gathered.files[CALLS] if batch.kind.value == CALLS else (),
                known_feedback=gathered.files[FEEDBACK],
                known_quarantine=(),
            )
            gathered.add(found)
            progress(f"reading {source.name}", gathered.n_rows, None)
    finally:
        # A source that holds files open lets go of them, also when a batch could not be kept.
        close: Callable[[], None] | None = getattr(batches, "close", None)
        if close is not None:
            close()


def _period(calls: Sequence[SpoolFile], start: datetime | None, end: datetime | None) -> Period:
    newest = at(max(file.max_s for file in calls) + 1)
    oldest = at(floor_s(at(min(file.min_s for file in calls)), HOUR_S))
    until = at(ceil_s(newest, HOUR_S)) if end is None else end
    return Period(start=max(oldest, until - LONGEST) if start is None else start, end=until)


def _within(files: Sequence[SpoolFile], start_s: int, end_s: int) -> list[SpoolFile]:
    return [file for file in files if file.max_s >= start_s and file.min_s < end_s]
