"""The source that pulls observations from a database.

Pages are read in the order of (cursor column, id column), each in a short transaction of its own.
Every pull starts ``overlap`` before the newest row seen, since rows may become visible later than
their time says (a long transaction, a batched writer); rows that come again are told by their
request id at intake. A row that becomes visible later than ``overlap`` is missed, so the overlap
must be longer than the longest request plus the writer's delay.

The pair of both columns must be unique, and rows without a time are not found.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlalchemy as sa

from optimizer.errors import ConfigError
from optimizer.integrations.sql.connections import engine_of, reading
from optimizer.integrations.sql.frames import frame_of
from optimizer.integrations.sql.moments import Moments, moments_of
from optimizer.integrations.sql.selection import (
    Selection,
    select_query,
    select_table,
    selection,
)
from optimizer.observations import Kind
from optimizer.ports.sources import Batch, FrameInput, Json, Mapped


class SqlSource:
    """Pulls from one table, view or query."""

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        *,
        name: str,
        kind: Kind,
        url: str,
        cursor_column: str,
        id_column: str,
        table: str | None = None,
        query: str | None = None,
        mapped: Mapped | None = None,
        overlap: timedelta = timedelta(minutes=15),
        page_rows: int = 50_000,
        statement_timeout: timedelta = timedelta(minutes=5),
    ) -> None:
        """Nothing is connected to before the first pull.

        Args:
            name: unique name from the configuration.
            kind: what the rows are.
            url: SQLAlchemy's URL of the database; its password is never shown.
            cursor_column: when a row was written: a timestamp, ISO 8601 text, or Unix time.
            id_column: tells rows of one time apart.
            table: name of a table or view, also ``schema.table``.
            query: a SELECT to use instead of a table.
            mapped: how columns become canonical ones; ``metadata.status`` reaches into JSON.
            overlap: how far before the newest row a pull starts.
            page_rows: rows in a batch.
            statement_timeout: the longest a page may take, on PostgreSQL.

        Raises:
            ConfigError: both or neither of table and query, an unknown time zone, a bound below 1.
        """
        if (table is None) is (query is None):
            raise ConfigError(f"source {name} needs either a table or a query")
        if page_rows < 1 or overlap < timedelta(0):
            raise ConfigError(
                f"source {name}: page_rows = {page_rows} must be >= 1, overlap = {overlap} >= 0"
            )
        self._name = name
        self._kind = kind
        self._url = url
        self._at = cursor_column
        self._id = id_column
        self._table = table
        self._query = query
        self._mapped = mapped or Mapped()
        self._timezone = _timezone(self._mapped.timezone)
        self._overlap = overlap
        self._page_rows = page_rows
        self._timeout = statement_timeout

    @property
    def name(self) -> str:
        """Unique name from the configuration."""
        return self._name

    def pull(self, cursor: Mapping[str, Json], *, until: datetime) -> Iterator[Batch]:
        """Pages from ``overlap`` before ``cursor`` up to ``until``, oldest row first.

        Raises:
            ConfigError: a table or column is not there, or a query is wrong.
            DataError: the cursor is not one of this source's, or a value cannot be read.
            UnavailableError: the database does not answer; batches before it stand.
        """
        engine = engine_of(self._url)
        try:
            with reading(engine, self._name, self._timeout) as connection:
                chosen = self._chosen(connection)
                samples = connection.execute(chosen.samples()).scalars().all()
            if samples:
                form = moments_of(samples, self._timezone)
                yield from self._pages(engine, chosen, form, cursor, until)
        finally:
            engine.dispose()

    def _chosen(self, connection: sa.Connection) -> Selection:
        if self._table is not None:
            rows = select_table(connection, self._table)
        else:
            rows = select_query(connection, self._query or "")
        columns = self._mapped.columns
        return selection(rows, at=self._at, key=self._id, kind=self._kind, mapped=columns)

    def _pages(
        self,
        engine: sa.Engine,
        chosen: Selection,
        form: Moments,
        cursor: Mapping[str, Json],
        until: datetime,
    ) -> Iterator[Batch]:
        kept = cursor.get("at")
        # Pages of the overlap leave the cursor where it is.
        newest: Json = None if kept is None else form.from_json(kept)
        start = None if newest is None else form.before(newest, self._overlap)
        last: tuple[Json, Json] | None = None
        rows: list[sa.Row[tuple[object, ...]]] = []
        while last is None or len(rows) == self._page_rows:
            page = chosen.page(start=start, end=form.end(until), last=last, n_rows=self._page_rows)
            with reading(engine, self._name, self._timeout) as connection:
                result = connection.execute(page)
                names, rows = tuple(result.keys()), list(result.all())
            if not rows:
                return
            last = (rows[-1][0], rows[-1][names.index(self._id)])
            if form.understands(last[0]):
                newest = last[0] if newest is None else max(newest, last[0])
            yield Batch(
                source=self._name,
                kind=self._kind,
                mapped=self._mapped,
                inputs=(FrameInput(frame=frame_of(names, rows, chosen.paths), origin=self._name),),
                cursor={"at": form.as_json(newest)} if newest is not None else {},
            )


def _timezone(name: str | None) -> tzinfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigError(f"there is no time zone {name!r}") from error
