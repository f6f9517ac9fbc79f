"""Observe: pull what the sources have, and aggregate the windows that became complete.

Every batch is one transaction of the ledger: cursor, files and the windows that wait. So a run that
dies anywhere is continued by the next one, and rows delivered twice count once. A window is always
aggregated anew from all its rows: late rows, late feedback and skipped hours end in the same bytes
as one pass over everything.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

import pandas as pd

from optimizer import aggregates as ag
from optimizer.engine import Engine, Ingested
from optimizer.engine.spool import CALLS, FEEDBACK, QUARANTINE
from optimizer.errors import ConflictError
from optimizer.metrics import DAY_S, GRAIN_S, HOUR_S, floor_s
from optimizer.ports import Batch, Intake, Ledger, Source, SpoolFile
from optimizer.targets import Price, Target

EVER_S: Final = 1 << 40
"""Unix seconds beyond every row's time, both ways."""

_HOURS_AT_ONCE: Final = 6
"""How many hours of rows one aggregation holds in memory."""

_REACH_DAYS: Final = 7
"""How far back days are summed anew: hours that old may still have changed."""

_FIRST_REACH_DAYS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class PullReport:
    """What a pull brought: ``n_rows = n_kept + n_duplicates + n_quarantined``.

    n_late counts kept rows whose window had been aggregated before; newest_s is the newest row ever
    seen of the source, Unix seconds; by_reason counts the quarantined rows.
    """

    source: str
    n_batches: int = 0
    n_rows: int = 0
    n_duplicates: int = 0
    n_quarantined: int = 0
    n_late: int = 0
    newest_s: int | None = None
    by_reason: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def n_kept(self) -> int:
        """Rows that went into the spool."""
        return self.n_rows - self.n_duplicates - self.n_quarantined

    def plus(self, batch: Ingested) -> "PullReport":
        """The report after one more batch."""
        reasons = sorted({*self.by_reason, *batch.by_reason})
        by_reason = {
            reason: self.by_reason.get(reason, 0) + batch.by_reason.get(reason, 0)
            for reason in reasons
        }
        return PullReport(
            source=self.source,
            n_batches=self.n_batches + 1,
            n_rows=self.n_rows + batch.n_rows,
            n_duplicates=self.n_duplicates + batch.n_duplicates,
            n_quarantined=self.n_quarantined + batch.n_quarantined,
            n_late=self.n_late + batch.n_late,
            newest_s=_newest(self.newest_s, batch.newest_s),
            by_reason=MappingProxyType(by_reason),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateReport:
    """What an aggregation did with the windows that waited.

    until_s: windows that end at or before it are closed, Unix seconds; n_windows were aggregated,
    n_late of them behind the newest one stored before; n_hours were summed anew; n_left were left
    as they are, because rows they hold are no longer in the spool (:func:`aggregate`).
    """

    until_s: int
    n_windows: int = 0
    n_late: int = 0
    n_hours: int = 0
    n_left: int = 0


def pull(
    source: Source,
    *,
    ledger: Ledger,
    engine: Engine,
    targets: Mapping[str, Target],
    prices: Mapping[tuple[str, str], Price],
    now: datetime,
) -> PullReport:
    """Bring everything behind the source's cursor into the spool, batch by batch.

    ``prices``: (target, arm) -> price, for arms that name none themselves.

    Raises:
        ConflictError: another run pulled the source meanwhile; what this one wrote is discarded.
        UnavailableError: the source does not answer; batches before that are kept.
    """
    intake = ledger.intake
    state = intake.cursor(source.name)
    version = state.version
    aggregated_s = ledger.aggregates.newest_s(GRAIN_S)
    closed_s = None if aggregated_s is None else aggregated_s + GRAIN_S
    known = {name: list(files) for name, files in _manifest(ledger, source.name).items()}
    report = PullReport(source=source.name, newest_s=state.newest_s)
    batches = source.pull(state.cursor, until=now)
    try:
        for batch in batches:
            found = engine.ingest(
                batch,
                targets=targets,
                received_at=now,
                prices=prices,
                known_calls=known[CALLS],
                known_feedback=known[FEEDBACK],
                known_quarantine=known[QUARANTINE],
                closed_s=closed_s,
            )
            report = report.plus(found)
            _commit(ledger, engine, batch, found, version=version, report=report, now=now)
            version += 1
            for file in found.files:
                known[file.dataset].append(file)
    finally:
        # A source that holds files open lets go of them, also when a batch could not be kept.
        close: Callable[[], None] | None = getattr(batches, "close", None)
        if close is not None:
            close()
    return report


def aggregate(
    ledger: Ledger, engine: Engine, *, as_of: datetime, lateness: timedelta
) -> AggregateReport:
    """Aggregate every waiting window that ends at or before ``as_of - lateness``, and its hour.

    Marks are taken back with the last write, so that a run that dies in between is repeated. Rows
    are only ever added; a window or an hour that would come out with fewer rows or scores than are
    stored (they, or its grains, are past their keeping) is left as it is.

    Raises:
        UnavailableError: the spool or the ledger does not answer.
        DataError: a sum does not fit 64 bits.
    """
    until_s = floor_s(as_of - lateness)
    waiting = ledger.intake.dirty(until_s=until_s)
    newest_s = ledger.aggregates.newest_s(GRAIN_S)
    n_late = sum(1 for start in waiting if newest_s is not None and start <= newest_s)
    n_hours = n_left = 0
    for windows in _by_hours(sorted(waiting)):
        left = _replace_grains(ledger, engine, windows)
        hours = sorted({start // HOUR_S * HOUR_S for start in windows})
        marks = {start: waiting[start] for start in windows}
        left_hours = _replace_sums(ledger, GRAIN_S, HOUR_S, hours, clean=marks)
        n_hours += len(hours) - len(left_hours)
        n_left += len(left)
    return AggregateReport(
        until_s=until_s, n_windows=len(waiting), n_late=n_late, n_hours=n_hours, n_left=n_left
    )


def roll_days(ledger: Ledger, *, as_of: datetime) -> int:
    """Sum the hours of every closed day (UTC) into one window; how many days were summed.

    Days are summed anew for a week after they closed, since their hours may still change.
    """
    today_s = floor_s(as_of, DAY_S)
    newest_s = ledger.aggregates.newest_s(DAY_S)
    first_s = (
        today_s - _FIRST_REACH_DAYS * DAY_S
        if newest_s is None
        else min(newest_s, today_s) - _REACH_DAYS * DAY_S
    )
    n_days = 0
    for day_s in range(first_s, today_s, DAY_S):
        left = _replace_sums(ledger, HOUR_S, DAY_S, [day_s], clean={})
        n_days += 1 - len(left)
    return n_days


def _manifest(ledger: Ledger, source: str) -> dict[str, Sequence[SpoolFile]]:
    """All files a batch may be compared with; the quarantine's of this source only."""
    files = {
        name: ledger.intake.files(name, start_s=-EVER_S, end_s=EVER_S)
        for name in (CALLS, FEEDBACK, QUARANTINE)
    }
    own = tuple(file for file in files[QUARANTINE] if file.source in {source, "*"})
    return {**files, QUARANTINE: own}


def _commit(
    ledger: Ledger,
    engine: Engine,
    batch: Batch,
    found: Ingested,
    *,
    version: int,
    report: PullReport,
    now: datetime,
) -> None:
    try:
        ledger.intake.commit(
            Intake(
                source=batch.source,
                expected_version=version,
                cursor=batch.cursor,
                files=found.files,
                dirty_windows=found.dirty_windows,
                n_rows=found.n_rows,
                n_duplicates=found.n_duplicates,
                n_quarantined=found.n_quarantined,
                n_late=found.n_late,
                newest_s=report.newest_s,
                at=now,
            )
        )
    except ConflictError:
        # The other run may have read the same rows: then the manifest names the very same file.
        named = {file.name for files in _manifest(ledger, batch.source).values() for file in files}
        engine.spool.discard([file.name for file in found.files if file.name not in named])
        raise


def _by_hours(windows: Sequence[int]) -> list[list[int]]:
    """The windows in groups of a few whole hours each, in order."""
    groups: dict[int, list[int]] = {}
    for start in windows:
        groups.setdefault(start // (_HOURS_AT_ONCE * HOUR_S), []).append(start)
    return list(groups.values())


def _replace_grains(ledger: Ledger, engine: Engine, windows: Sequence[int]) -> set[int]:
    """Store the windows' grains; returns the windows that were left as they are."""
    limits = engine.limits
    first_s, end_s = windows[0], windows[-1] + GRAIN_S
    slack_s = int(limits.clock_slack.total_seconds())
    horizon_s = int(limits.feedback_horizon.total_seconds())
    frame = engine.aggregate(
        windows,
        calls=ledger.intake.files(CALLS, start_s=first_s, end_s=end_s),
        feedback=ledger.intake.files(
            FEEDBACK, start_s=first_s - slack_s - 1, end_s=end_s + horizon_s + 1
        ),
    )
    return _replace(ledger, GRAIN_S, windows, frame, clean={})


def _replace_sums(
    ledger: Ledger, from_s: int, width_s: int, windows: Sequence[int], *, clean: Mapping[int, int]
) -> set[int]:
    """Store longer windows as sums of shorter ones; returns those left as they are."""
    parts = ledger.aggregates.load(from_s, start_s=windows[0], end_s=windows[-1] + width_s)
    if parts.empty and not clean:
        return set(windows)
    frame = ag.rollup(parts, width_s)
    frame = frame[frame["window_start_s"].isin(windows)].reset_index(drop=True)
    return _replace(ledger, width_s, windows, frame, clean=clean)


def _replace(
    ledger: Ledger,
    width_s: int,
    windows: Sequence[int],
    frame: pd.DataFrame,
    *,
    clean: Mapping[int, int],
) -> set[int]:
    stored = ledger.aggregates.load(width_s, start_s=windows[0], end_s=windows[-1] + width_s)
    counts = ["n", "n_quality"]
    before = stored.groupby("window_start_s")[counts].sum()
    after = frame.groupby("window_start_s")[counts].sum().reindex(before.index, fill_value=0)
    left = {int(start) for start in before.index[(after < before).any(axis=1)]} & set(windows)
    ledger.aggregates.replace_windows(
        width_s,
        [start for start in windows if start not in left],
        frame[~frame["window_start_s"].isin(left)].reset_index(drop=True),
        clean=clean,
    )
    return left


def _newest(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)
