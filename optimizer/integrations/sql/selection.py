"""What is selected: checked names of a table or of a query, and pages of it in key order.

Only the columns that the mapping needs are fetched: prompts and answers stay where they are.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from optimizer.errors import ConfigError
from optimizer.observations import Kind, columns_of

_N_SAMPLES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Rows with unique, growing keys (``at``, ``id``); ``paths`` are columns inside JSON ones.

    paths maps the name to use, as ``metadata.status``, to the JSON column and the keys inside it.
    """

    rows: sa.FromClause
    at: str
    id: str
    columns: tuple[str, ...]
    paths: Mapping[str, tuple[str, tuple[str, ...]]]

    def samples(self) -> sa.Select[tuple[object]]:
        """Some values of the cursor column."""
        at = self.rows.c[self.at]
        return sa.select(at).where(at.is_not(None)).limit(_N_SAMPLES)

    def page(
        self, *, start: object | None, end: object, last: tuple[object, object] | None, n_rows: int
    ) -> sa.Select[tuple[object, ...]]:
        """Rows with ``start <= at <= end`` whose key lies behind ``last``, in key order."""
        at, key = self.rows.c[self.at], self.rows.c[self.id]
        fetched = dict.fromkeys([self.at, self.id, *self.columns])
        query = sa.select(*(self.rows.c[name] for name in fetched)).where(at <= end)
        if start is not None:
            query = query.where(at >= start)
        if last is not None:
            query = query.where((at > last[0]) | ((at == last[0]) & (key > last[1])))
        return query.order_by(at, key).limit(n_rows)


def select_table(connection: sa.Connection, table: str) -> sa.FromClause:
    """The table or view, its columns read from the database.

    Raises:
        ConfigError: there is none of that name.
    """
    inspector = sa.inspect(connection)
    schema, _, bare = table.rpartition(".")
    places = [(None, table), (schema, bare)] if schema else [(None, table)]
    for within, name in places:
        if inspector.has_table(name, schema=within):
            columns: list[sa.ColumnClause[object]] = [
                sa.column(c["name"]) for c in inspector.get_columns(name, schema=within)
            ]
            return sa.table(name, *columns, schema=within)
    raise ConfigError(f"there is no table or view {table!r}")


def select_query(connection: sa.Connection, query: str) -> sa.FromClause:
    """The operator's query as a subquery; its columns are asked of the database."""
    # A colon in the query is text, never a parameter.
    text = sa.text(re.sub(r"(?<!\\):", r"\\:", query.strip().rstrip(";")))
    probe = sa.select(sa.text("*")).select_from(text.columns().subquery("pulled"))
    names = connection.execute(probe.where(sa.false())).keys()
    return text.columns(*(sa.column(name) for name in names)).subquery("pulled")


def selection(
    rows: sa.FromClause, *, at: str, key: str, kind: Kind, mapped: Mapping[str, str]
) -> Selection:
    """The selection that the mapping needs.

    Raises:
        ConfigError: a column that the configuration names is not there.
    """
    there = tuple(rows.c.keys())
    for name in (at, key):
        if name not in there:
            raise ConfigError(f"there is no column {name!r}: {', '.join(there)}")
    columns: list[str] = []
    paths: dict[str, tuple[str, tuple[str, ...]]] = {}
    for column in columns_of(kind):
        name = mapped.get(column.name, column.name)
        found = _column(name, there)
        if found is None:
            if column.name in mapped:
                raise ConfigError(f"{column.name} = {name!r} is no column: {', '.join(there)}")
            continue
        if found != name:
            paths[name] = (found, tuple(name[len(found) + 1 :].split(".")))
        columns.append(found)
    return Selection(rows=rows, at=at, id=key, columns=tuple(dict.fromkeys(columns)), paths=paths)


def _column(name: str, there: Sequence[str]) -> str | None:
    """The column itself, or the JSON column that the first part of a dotted path names."""
    if name in there:
        return name
    head, dot, _ = name.partition(".")
    return head if dot and head in there else None
