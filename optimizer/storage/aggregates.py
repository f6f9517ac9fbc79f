"""Grains and roll-ups, written and read as whole frames.

360,000 rows are an hour of 10,000 targets; SQL built row by row would take minutes. SQLite gets the
driver's executemany, PostgreSQL gets COPY.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
import psycopg
from psycopg import sql
from sqlalchemy import BigInteger, Connection, delete, func, select, text

from optimizer.aggregates import CLUSTERS, HISTOGRAM, KEYS, SUMS
from optimizer.evidence import HISTORY_SUMS
from optimizer.storage.database import Database
from optimizer.storage.intake import note_aggregated
from optimizer.storage.tables import AGGREGATES

COLUMNS = (*KEYS, *SUMS, HISTOGRAM, CLUSTERS)
NAMES = KEYS[:-1]
BLOBS = (HISTOGRAM, CLUSTERS)
HISTORY_KEYS = ("target", "arm", "window_start_s")

ROWS_AT_ONCE = 20_000
"""Rows that are Python objects at one time."""

FILTER_IN_SQL = 1_000
"""More targets than this are picked after reading: a statement holds 32,766 values on SQLite."""

_LOCK_KEY = 71_520


class SqlAggregates:
    """The ledger's :class:`~optimizer.ports.AggregateStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def replace_windows(
        self, width_s: int, windows: Sequence[int], frame: pd.DataFrame, *, clean: Mapping[int, int]
    ) -> None:
        """Make ``frame`` all there is for those windows; unmark dirty windows whose version holds.

        Raises:
            ConflictError: the frame holds a key twice.
            ValueError: the frame lacks a column, or has rows of other windows.
        """
        missing = [name for name in COLUMNS if name not in frame.columns]
        strange = set(frame["window_start_s"].unique()) - set(windows) if not missing else set()
        if missing or strange:
            msg = f"aggregates of {width_s} s: missing columns {missing}, strange windows {strange}"
            raise ValueError(msg)
        with self._database.write() as connection:
            _lock(connection, width_s)
            starts = [(width_s, int(start)) for start in sorted(set(windows))]
            if starts:
                connection.exec_driver_sql(
                    _marked(
                        connection,
                        "DELETE FROM aggregates WHERE width_s = {0} AND window_start_s = {0}",
                    ),
                    starts,
                )
            _write(connection, width_s, frame)
            note_aggregated(connection, clean)

    def load(
        self,
        width_s: int,
        *,
        start_s: int,
        end_s: int,
        targets: Sequence[str] | None = None,
        slices: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Aggregates whose window starts in ``[start_s, end_s)``, sorted by key.

        Names are ``str`` columns, sums int64, histogram and clusters bytes.
        """
        table = AGGREGATES.c
        query = select(*(table[name] for name in COLUMNS)).where(
            table.width_s == width_s, table.window_start_s >= start_s, table.window_start_s < end_s
        )
        if slices is not None:
            query = query.where(table.slice.in_(slices))
        if targets is not None and len(targets) <= FILTER_IN_SQL:
            query = query.where(table.target.in_(targets))
        with self._database.read() as connection:
            frame = _frame(connection.execute(query).partitions(ROWS_AT_ONCE), COLUMNS)
        if targets is not None and len(targets) > FILTER_IN_SQL:
            frame = frame[frame["target"].isin(targets)]
        return _sorted(frame, KEYS)

    def history(self, width_s: int, *, start_s: int, end_s: int) -> pd.DataFrame:
        """Sums of each target, arm and window, slices added up; sorted by those three."""
        table = AGGREGATES.c
        keys = [table[name] for name in HISTORY_KEYS]
        # The sum of whole numbers is a decimal to PostgreSQL.
        sums = [func.sum(table[name]).cast(BigInteger).label(name) for name in HISTORY_SUMS]
        query = (
            select(*keys, *sums)
            .where(
                table.width_s == width_s,
                table.window_start_s >= start_s,
                table.window_start_s < end_s,
            )
            .group_by(*keys)
        )
        with self._database.read() as connection:
            rows = connection.execute(query).partitions(ROWS_AT_ONCE)
            return _sorted(_frame(rows, (*HISTORY_KEYS, *HISTORY_SUMS)), HISTORY_KEYS)

    def newest_s(self, width_s: int) -> int | None:
        """Start of the newest stored window."""
        query = select(func.max(AGGREGATES.c.window_start_s)).where(AGGREGATES.c.width_s == width_s)
        with self._database.read() as connection:
            newest: int | None = connection.execute(query).scalar_one()
        return newest

    def prune(self, width_s: int, *, before_s: int) -> int:
        """Delete windows that start before; returns how many rows went."""
        statement = delete(AGGREGATES).where(
            AGGREGATES.c.width_s == width_s, AGGREGATES.c.window_start_s < before_s
        )
        with self._database.write() as connection:
            return connection.execute(statement).rowcount


def _lock(connection: Connection, width_s: int) -> None:
    """Let one writer of a width in; SQLite has one writer anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(
            text("SELECT pg_advisory_xact_lock(:key, :width_s)"),
            {"key": _LOCK_KEY, "width_s": width_s},
        )


def _marked(connection: Connection, statement: str) -> str:
    """The statement with the driver's own place holder."""
    return statement.format("?" if connection.dialect.name == "sqlite" else "%s")


def _write(connection: Connection, width_s: int, frame: pd.DataFrame) -> None:
    if connection.dialect.name == "sqlite":
        names = ", ".join(("width_s", *COLUMNS))
        marks = ", ".join("?" * (len(COLUMNS) + 1))
        statement = f"INSERT INTO aggregates ({names}) VALUES ({marks})"  # noqa: S608 - literals
        for rows in _rows(width_s, frame):
            connection.exec_driver_sql(statement, rows)
        return
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    columns = sql.SQL(", ").join(map(sql.Identifier, ("width_s", *COLUMNS)))
    statement_sql = sql.SQL("COPY aggregates ({}) FROM STDIN (FORMAT BINARY)").format(columns)
    with driver.cursor() as cursor, cursor.copy(statement_sql) as copy:
        copy.set_types(["int8", *map(_sql_type, COLUMNS)])
        for rows in _rows(width_s, frame):
            for row in rows:
                copy.write_row(row)


def _sql_type(column: str) -> str:
    if column in BLOBS:
        return "bytea"
    return "varchar" if column in NAMES else "int8"


def _rows(width_s: int, frame: pd.DataFrame) -> Iterator[list[tuple[Any, ...]]]:
    """Rows of plain Python values, so many at once."""
    for first in range(0, len(frame), ROWS_AT_ONCE):
        part = frame.iloc[first : first + ROWS_AT_ONCE]
        columns = [part[name].tolist() for name in COLUMNS]
        yield list(zip([width_s] * len(part), *columns, strict=True))


def _frame(partitions: Iterator[Sequence[Any]], columns: Sequence[str]) -> pd.DataFrame:
    parts: dict[str, list[np.ndarray]] = {name: [] for name in columns}
    for rows in partitions:
        for name, values in zip(columns, zip(*rows, strict=True), strict=True):
            is_number = name not in NAMES and name not in BLOBS
            parts[name].append(np.array(values, dtype=np.int64 if is_number else object))
    return pd.DataFrame({name: _column(name, arrays) for name, arrays in parts.items()})


def _column(name: str, arrays: list[np.ndarray]) -> pd.Series:
    dtype = "str" if name in NAMES else "object" if name in BLOBS else "int64"
    return pd.Series(np.concatenate(arrays) if arrays else [], dtype=dtype)


def _sorted(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Sorted by key in the order of code points, which no database's collation changes."""
    codes = [
        frame[name].to_numpy() if name not in NAMES else pd.factorize(frame[name], sort=True)[0]
        for name in reversed(keys)
    ]
    return frame.iloc[np.lexsort(codes)].reset_index(drop=True)
