"""Cursors, the spool's manifest, and the windows that wait to be aggregated.

A window's mark is a version that only grows, next to the version that its stored grains contain;
it waits while the first is ahead. So a row that comes in during an aggregation is never lost, and
grains overwritten by a slower, older pass are made anew.
"""

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from optimizer.errors import ConflictError
from optimizer.metrics import GRAIN_S
from optimizer.ports import CursorState, Intake, SpoolFile
from optimizer.storage.codec import encode, from_row, to_row
from optimizer.storage.database import Database, upsert
from optimizer.storage.tables import CURSORS, DIRTY, SPOOL

NAMES_AT_ONCE = 1_000
"""How many names one statement lists: SQLite takes 32,766 values, PostgreSQL 65,535."""


class SqlIntake:
    """The ledger's :class:`~optimizer.ports.IntakeStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def cursor(self, source: str) -> CursorState:
        """Where the source stands; an empty cursor with version 0 at first."""
        query = select(CURSORS).where(CURSORS.c.source == source)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return CursorState(cursor={}, version=0, newest_s=None, pulled_at=None)
        return from_row(CursorState, row)

    def commit(self, intake: Intake) -> None:
        """Store cursor, manifest and dirty windows together, and count the rows.

        Raises:
            ConflictError: the cursor moved since ``expected_version``.
        """
        with self._database.write() as connection:
            if not _move_cursor(connection, intake):
                msg = f"source {intake.source}: version {intake.expected_version} is gone"
                raise ConflictError(msg)
            if intake.files:
                # A name tells the content: a file that is listed already holds the same rows.
                statement = upsert(connection, SPOOL).on_conflict_do_nothing()
                connection.execute(statement, [to_row(file) for file in intake.files])
            _mark(connection, intake.dirty_windows)

    def files(self, dataset: str, *, start_s: int, end_s: int) -> tuple[SpoolFile, ...]:
        """Manifest of the files that may hold rows of ``[start_s, end_s)``, oldest first."""
        query = (
            select(SPOOL)
            .where(SPOOL.c.dataset == dataset, SPOOL.c.max_s >= start_s, SPOOL.c.min_s < end_s)
            .order_by(SPOOL.c.min_s, SPOOL.c.name)
        )
        with self._database.read() as connection:
            return tuple(from_row(SpoolFile, row) for row in connection.execute(query).mappings())

    def forget(self, names: Sequence[str]) -> None:
        """Take files out of the manifest; names that are not in it are passed over."""
        with self._database.write() as connection:
            _forget(connection, names)

    def replace(self, old: Sequence[str], new: Sequence[SpoolFile]) -> None:
        """Swap files for others that hold the same rows, in one transaction.

        Raises:
            ConflictError: an old file is gone, or a new one is there already.
        """
        with self._database.write() as connection:
            gone = len(set(old)) - _forget(connection, old)
            if gone:
                msg = f"{gone} of {len(set(old))} spool files to replace are not in the manifest"
                raise ConflictError(msg)
            if new:
                connection.execute(insert(SPOOL), [to_row(file) for file in new])

    def dirty(self, *, until_s: int) -> Mapping[int, int]:
        """Windows that end at or before ``until_s`` and need aggregating: start -> mark version."""
        query = (
            select(DIRTY.c.window_start_s, DIRTY.c.version)
            .where(
                DIRTY.c.version > DIRTY.c.aggregated, DIRTY.c.window_start_s <= until_s - GRAIN_S
            )
            .order_by(DIRTY.c.window_start_s)
        )
        with self._database.read() as connection:
            return {row.window_start_s: row.version for row in connection.execute(query)}

    def mark_dirty(self, windows: Sequence[int]) -> None:
        """Ask for windows to be aggregated again."""
        with self._database.write() as connection:
            _mark(connection, windows)


def note_aggregated(connection: Connection, versions: Mapping[int, int]) -> None:
    """Note which mark version the stored grains of each window now contain."""
    statement = (
        update(DIRTY)
        .where(DIRTY.c.window_start_s == bindparam("start"))
        .values(aggregated=bindparam("mark"))
    )
    rows = [{"start": start, "mark": version} for start, version in sorted(versions.items())]
    if rows:
        connection.execute(statement, rows)


def _move_cursor(connection: Connection, intake: Intake) -> bool:
    table = CURSORS.c
    totals = {
        "n_rows": intake.n_rows,
        "n_duplicates": intake.n_duplicates,
        "n_quarantined": intake.n_quarantined,
        "n_late": intake.n_late,
    }
    position = {
        "cursor": encode(intake.cursor),
        "version": intake.expected_version + 1,
        "newest_s": intake.newest_s,
        "pulled_at": intake.at,
    }
    if intake.expected_version == 0:
        row = {"source": intake.source, **position, **totals}
        statement = upsert(connection, CURSORS).values(row).on_conflict_do_nothing()
        return connection.execute(statement.returning(CURSORS.c.source)).first() is not None
    done = connection.execute(
        update(CURSORS)
        .where(table.source == intake.source, table.version == intake.expected_version)
        .values(position | {name: table[name] + number for name, number in totals.items()})
    )
    return done.rowcount == 1


def _mark(connection: Connection, windows: Iterable[int]) -> None:
    # Sorted, so that two writers lock the rows in one order.
    rows = [
        {"window_start_s": start, "version": 1, "aggregated": 0} for start in sorted(set(windows))
    ]
    if rows:
        statement = upsert(connection, DIRTY).on_conflict_do_update(
            index_elements=[DIRTY.c.window_start_s], set_={"version": DIRTY.c.version + 1}
        )
        connection.execute(statement, rows)


def _forget(connection: Connection, names: Sequence[str]) -> int:
    wanted = sorted(set(names))
    gone = 0
    for first in range(0, len(wanted), NAMES_AT_ONCE):
        some = SPOOL.c.name.in_(wanted[first : first + NAMES_AT_ONCE])
        gone += connection.execute(delete(SPOOL).where(some)).rowcount
    return gone
