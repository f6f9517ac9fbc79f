# ruff: noqa: S608 - SQL is put together from this package's own fragments; values are bound.
"""Good rows into the spool: what was seen before is dropped, the rest is written and accounted for.

Inside one batch the earliest of several rows with one request id stays (ties: the smallest hash of
its content); a row whose id the spool already holds is dropped. Law: rows in = kept + duplicates +
quarantined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import duckdb

from optimizer.engine.checks import row_text
from optimizer.engine.columns import Plan
from optimizer.engine.duck import EngineLimits, count, literal, single
from optimizer.engine.spool import CALLS, FEEDBACK, Spool
from optimizer.observations import Kind
from optimizer.ports.intake_store import SpoolFile

_ROW_GROUP: Final = 122_880


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """Files of the manifest in which a batch looks for what it already knows.

    calls and feedback may hold more than is needed; the engine reads what overlaps the batch.
    """

    calls: Sequence[SpoolFile] = ()
    feedback: Sequence[SpoolFile] = ()
    quarantine: Sequence[SpoolFile] = ()

    def with_files(self, files: Sequence[SpoolFile]) -> "Known":
        """The same and some more."""
        return Known(
            calls=(*self.calls, *(file for file in files if file.dataset == CALLS)),
            feedback=(*self.feedback, *(file for file in files if file.dataset == FEEDBACK)),
            quarantine=self.quarantine,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of the good rows: their file, the windows they touch, and counts."""

    files: tuple[SpoolFile, ...] = ()
    dirty_windows: frozenset[int] = frozenset()
    n_duplicates: int = 0
    n_late: int = 0
    newest_s: int | None = None


def keep(
    connection: duckdb.DuckDBPyConnection,
    spool: Spool,
    plan: Plan,
    limits: EngineLimits,
    *,
    source: str,
    known: Known,
    closed_s: int | None,
) -> Kept:
    """Write the rows of the view ``good`` that are new, and say what they change.

    ``closed_s``: windows that start before it have been aggregated; rows in them are late.
    """
    n_good = count(connection, "good")
    if not n_good:
        return Kept()
    _drop_repeats(connection, plan)
    _drop_known(connection, spool, plan, limits, known)
    n_kept = count(connection, "good")
    if not n_kept:
        return Kept(n_duplicates=n_good)
    windows = _windows(connection, spool, plan, limits, known)
    late = 0
    if plan.kind is Kind.CALLS and closed_s is not None:
        late = count(connection, f"good WHERE window_start_s < {closed_s:d}")
    file = publish(connection, spool, plan.kind, source=source)
    return Kept(
        files=(file,),
        dirty_windows=windows,
        n_duplicates=n_good - n_kept,
        n_late=late,
        newest_s=file.max_s,
    )


_LAYOUT: Final = {
    CALLS: ("window_start_s, target, arm, slice, ts, request_id", "* EXCLUDE ({own})"),
    FEEDBACK: ("ts, request_id, feedback_id", "* EXCLUDE ({own}), key AS feedback_id"),
}
"""Order of a dataset's rows, so that readers pass over most of a file; and columns of ``good``."""


def publish(
    connection: duckdb.DuckDBPyConnection, spool: Spool, kind: Kind, *, source: str
) -> SpoolFile:
    """The good rows as a file."""
    dataset = CALLS if kind is Kind.CALLS else FEEDBACK
    columns = _LAYOUT[dataset][1].format(own="key, problem, input_no, ordinal")
    return _write(connection, spool, dataset, f"SELECT {columns} FROM good", source)


def compact(
    connection: duckdb.DuckDBPyConnection, spool: Spool, files: Sequence[SpoolFile]
) -> tuple[SpoolFile, ...]:
    """The rows of the files, all of calls or all of feedback, as one file.

    Raises:
        ValueError: the files are of several datasets, or of the quarantine.
    """
    if not files:
        return ()
    datasets = {file.dataset for file in files}
    if len(datasets) > 1 or not datasets <= _LAYOUT.keys():
        raise ValueError(f"files of {sorted(datasets)} cannot become one")
    sources = {file.source for file in files}
    patterns = ", ".join(map(literal, spool.patterns(files)))
    return (
        _write(
            connection,
            spool,
            files[0].dataset,
            f"SELECT * FROM read_parquet([{patterns}])",
            sources.pop() if len(sources) == 1 else "*",
        ),
    )


def _write(
    connection: duckdb.DuckDBPyConnection, spool: Spool, dataset: str, rows: str, source: str
) -> SpoolFile:
    def write(path: Path) -> None:
        connection.execute(
            f"COPY ({rows} ORDER BY {_LAYOUT[dataset][0]}) TO {literal(str(path))} "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP})"
        )

    n_rows, low, high = single(
        connection, f"SELECT count(*), min(epoch_us(ts)), max(epoch_us(ts)) FROM ({rows})"
    )
    return spool.publish(
        dataset,
        source=source,
        n_rows=n_rows,
        min_s=low // 1_000_000,
        max_s=high // 1_000_000,
        write=write,
    )


def overlapping(
    files: Sequence[SpoolFile],
    span: tuple[int, int],
    *,
    before: timedelta = timedelta(),
    after: timedelta = timedelta(),
) -> list[SpoolFile]:
    """The files that may hold rows of the span (Unix seconds, both ends in), widened both ways."""
    low = span[0] - before.total_seconds()
    high = span[1] + after.total_seconds()
    return [file for file in files if file.max_s >= low and file.min_s <= high]


def in_time(feedback: str, calls: str, limits: EngineLimits) -> str:
    """SQL of whether a score came within the time in which it counts for its call."""
    return (
        f"epoch_us({feedback}.ts) BETWEEN epoch_us({calls}.ts) - {_us(limits.clock_slack)} "
        f"AND epoch_us({calls}.ts) + {_us(limits.feedback_horizon)}"
    )


def _drop_repeats(connection: duckdb.DuckDBPyConnection, plan: Plan) -> None:
    """Leave one good row of each key."""
    connection.execute(
        "CREATE OR REPLACE TABLE repeated AS SELECT key FROM good GROUP BY key HAVING count(*) > 1"
    )
    connection.execute(
        "DELETE FROM judged USING (SELECT good.input_no, good.ordinal, row_number() OVER ("
        f"PARTITION BY key ORDER BY good.ts, md5({row_text(plan, 'raw')}), good.input_no, "
        "good.ordinal) AS place FROM good JOIN repeated USING (key) JOIN raw "
        "ON raw.input_no = good.input_no AND raw.ordinal = good.ordinal) AS ranked "
        "WHERE ranked.place > 1 "
        "AND ranked.input_no = judged.input_no AND ranked.ordinal = judged.ordinal"
    )


def _drop_known(
    connection: duckdb.DuckDBPyConnection,
    spool: Spool,
    plan: Plan,
    limits: EngineLimits,
    known: Known,
) -> None:
    """Drop good rows whose key the spool holds."""
    is_calls = plan.kind is Kind.CALLS
    files = overlapping(
        known.calls if is_calls else known.feedback,
        _span(connection),
        before=limits.dedupe_horizon,
        after=limits.dedupe_horizon,
    )
    if files:
        name = "request_id" if is_calls else "feedback_id"
        connection.execute(
            f"CREATE OR REPLACE TABLE seen AS SELECT DISTINCT {name} AS key "
            f"FROM read_parquet(?) AS spooled SEMI JOIN good ON good.key = spooled.{name}",
            [spool.patterns(files)],
        )
        connection.execute("DELETE FROM judged USING seen WHERE seen.key = judged.key")


def _windows(
    connection: duckdb.DuckDBPyConnection,
    spool: Spool,
    plan: Plan,
    limits: EngineLimits,
    known: Known,
) -> frozenset[int]:
    """Windows that the rows of the view ``good`` change: their own, or those of judged calls."""
    if plan.kind is Kind.CALLS:
        query, values = "SELECT DISTINCT window_start_s FROM good", []
    else:
        files = overlapping(
            known.calls,
            _span(connection),
            before=limits.feedback_horizon,
            after=limits.clock_slack,
        )
        if not files:
            return frozenset()
        query = (
            "SELECT DISTINCT window_start_s FROM read_parquet(?) AS calls "
            f"JOIN good USING (request_id) WHERE {in_time('good', 'calls', limits)}"
        )
        values = [spool.patterns(files)]
    return frozenset(int(row[0]) for row in connection.execute(query, values).fetchall())


def _span(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """First and last second of the rows of the view ``good``."""
    low, high = single(connection, "SELECT min(epoch_us(ts)), max(epoch_us(ts)) FROM good")
    return low // 1_000_000, -(-high // 1_000_000)


def _us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
