# ruff: noqa: S608 - SQL is put together from this package's own fragments; values are bound.
"""Good rows into the spool: what was seen before is dropped, the rest is written and accounted for.

Inside one batch the earliest of several rows with one request id stays (ties: the smallest hash of
its content); a row whose id the spool already holds is dropped. Law: rows in = kept + duplicates +
quarantined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb

from optimizer.engine.checks import row_text
from optimizer.engine.columns import Plan
from optimizer.engine.duck import EngineLimits, exact, literal, single
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What became of the good rows: their file, the windows they touch, and counts."""

    files: tuple[SpoolFile, ...]
    dirty_windows: frozenset[int]
    n_rows: int
    n_duplicates: int
    n_late: int
    newest_s: int | None


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
    """Write the rows of the table ``good`` that are new, and say what they change.

    ``closed_s``: windows that start before it have been aggregated; rows in them are late.
    """
    low, high = single(connection, "SELECT min(epoch_us(ts)), max(epoch_us(ts)) FROM good")
    if low is None:
        return Kept(
            files=(), dirty_windows=frozenset(), n_rows=0, n_duplicates=0, n_late=0, newest_s=None
        )
    n_good = single(connection, "SELECT count(*) FROM good")[0]
    span = (low // 1_000_000, -(-high // 1_000_000))
    is_calls = plan.kind is Kind.CALLS
    horizon = limits.dedupe_horizon
    _drop_repeats(connection, plan)
    _drop_known(
        connection,
        [
            exact(spool.path(file.name))
            for file in overlapping(
                known.calls if is_calls else known.feedback, span, before=horizon, after=horizon
            )
        ],
        "request_id" if is_calls else "feedback_id",
    )
    n_kept = single(connection, "SELECT count(*) FROM good")[0]
    if not n_kept:
        return Kept(
            files=(),
            dirty_windows=frozenset(),
            n_rows=0,
            n_duplicates=n_good,
            n_late=0,
            newest_s=None,
        )
    dirty = (
        "SELECT DISTINCT window_start_s FROM good"
        if is_calls
        else judged_windows(spool, limits, known.calls, span)
    )
    windows = frozenset(int(row[0]) for row in connection.execute(dirty).fetchall())
    late = 0
    if is_calls and closed_s is not None:
        late = single(connection, f"SELECT count(*) FROM good WHERE window_start_s < {closed_s:d}")[
            0
        ]
    file = publish(connection, spool, plan.kind, source=source)
    return Kept(
        files=(file,),
        dirty_windows=windows,
        n_rows=n_kept,
        n_duplicates=n_good - n_kept,
        n_late=late,
        newest_s=file.max_s,
    )


def publish(
    connection: duckdb.DuckDBPyConnection, spool: Spool, kind: Kind, *, source: str
) -> SpoolFile:
    """The rows of the table ``good`` as a file, sorted so that a reader can pass over most of it."""
    if kind is Kind.CALLS:
        dataset, order = CALLS, "window_start_s, target, arm, slice, ts, request_id"
        columns = "* EXCLUDE (key, input_no, ordinal)"
    else:
        dataset, order = FEEDBACK, "ts, request_id, score, scorer, feedback_id"
        columns = "* EXCLUDE (key, input_no, ordinal), key AS feedback_id"

    def write(path: Path) -> None:
        connection.execute(
            f"COPY (SELECT {columns} FROM good ORDER BY {order}) TO {literal(str(path))} "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP})"
        )

    n_rows, low, high = single(
        connection, "SELECT count(*), min(epoch_us(ts)), max(epoch_us(ts)) FROM good"
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


def judged_windows(
    spool: Spool, limits: EngineLimits, calls: Sequence[SpoolFile], span: tuple[int, int]
) -> str:
    """SQL of the windows whose calls the rows of the table ``good`` judge."""
    files = overlapping(calls, span, before=limits.feedback_horizon, after=limits.clock_slack)
    if not files:
        return "SELECT 0 WHERE false"
    paths = ", ".join(literal(exact(spool.path(file.name))) for file in files)
    return (
        f"SELECT DISTINCT window_start_s FROM read_parquet([{paths}]) AS calls "
        f"JOIN good USING (request_id) WHERE {counts('good', 'calls', limits)}"
    )


def counts(feedback: str, calls: str, limits: EngineLimits) -> str:
    """SQL of whether a score came within the time in which it counts for its call."""
    return (
        f"epoch_us({feedback}.ts) BETWEEN epoch_us({calls}.ts) - {_us(limits.clock_slack)} "
        f"AND epoch_us({calls}.ts) + {_us(limits.feedback_horizon)}"
    )


def _us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def _drop_repeats(connection: duckdb.DuckDBPyConnection, plan: Plan) -> None:
    """Leave one row of each key in the table ``good``."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE repeated AS "
        "SELECT key FROM good GROUP BY key HAVING count(*) > 1"
    )
    connection.execute(
        "DELETE FROM good USING (SELECT good.input_no, good.ordinal, row_number() OVER ("
        f"PARTITION BY key ORDER BY ts, md5({row_text(plan)}), good.input_no, good.ordinal) AS place "
        "FROM good JOIN repeated USING (key) JOIN checked ON checked.input_no = good.input_no "
        "AND checked.ordinal = good.ordinal) AS ranked WHERE ranked.place > 1 "
        "AND ranked.input_no = good.input_no AND ranked.ordinal = good.ordinal"
    )


def _drop_known(connection: duckdb.DuckDBPyConnection, paths: list[str], id_column: str) -> None:
    """Take rows whose key the files hold out of the table ``good``."""
    if paths:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE seen AS SELECT DISTINCT {id_column} AS key "
            f"FROM read_parquet(?) SEMI JOIN good ON good.key = {id_column}",
            [paths],
        )
        connection.execute("DELETE FROM good USING seen WHERE seen.key = good.key")
