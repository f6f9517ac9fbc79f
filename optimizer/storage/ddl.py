"""How migrations spell columns, conditions and append-only tables, alike on both databases.

Stored migrations rest on this module: it is added to and never changed.
"""

from datetime import datetime

import sqlalchemy as sa
from alembic import op


def text(name: str, *, null: bool = False) -> sa.Column[str]:
    """Text."""
    return sa.Column(name, sa.String, nullable=null)


def time(name: str, *, null: bool = False) -> sa.Column[datetime]:
    """An instant."""
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null)


def whole(name: str, *, null: bool = False) -> sa.Column[int]:
    """A 64-bit integer."""
    return sa.Column(name, sa.BigInteger, nullable=null, autoincrement=False)


def real(name: str, *, null: bool = False) -> sa.Column[float]:
    """A double."""
    return sa.Column(name, sa.Double, nullable=null)


def json(name: str, *, null: bool = False) -> sa.Column[object]:
    """JSON, kept letter by letter."""
    return sa.Column(name, sa.JSON, nullable=null)


def flag(name: str) -> sa.Column[bool]:
    """True or false."""
    return sa.Column(name, sa.Boolean, nullable=False)


def decision(*, null: bool = False) -> sa.Column[str]:
    """A reference to a decision."""
    return sa.Column("decision_id", sa.String, sa.ForeignKey("decisions.id"), nullable=null)


def primary_key(*names: str) -> sa.PrimaryKeyConstraint:
    """The primary key."""
    return sa.PrimaryKeyConstraint(*names)


def check(name: str, condition: str) -> sa.CheckConstraint:
    """A named condition on every row."""
    return sa.CheckConstraint(condition, name=name)


def among(column: str, values: tuple[str, ...]) -> str:
    """The condition that a column holds one of these values."""
    return "{} IN ({})".format(column, ", ".join(f"'{value}'" for value in values))


def partial_index(
    name: str, table: str, condition: str, column: str = "target", *, unique: bool = False
) -> None:
    """An index over the rows that meet a condition."""
    where = sa.text(condition)
    op.create_index(
        name, table, [column], unique=unique, sqlite_where=where, postgresql_where=where
    )


def append_only(table: str, same_key: str) -> None:
    """Make the table refuse every change but one more row, whoever asks.

    ``same_key`` says when a row has the key of ``NEW``.
    """
    if op.get_context().dialect.name == "sqlite":
        _append_only_in_sqlite(table, same_key)
        return
    op.execute(
        f"CREATE FUNCTION {table}_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} is append-only'; END $$"
    )
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_refuse()"
    )


def drop_append_only(table: str) -> None:
    """Drop the table, and what made it append-only."""
    op.drop_table(table)
    if op.get_context().dialect.name != "sqlite":
        op.execute(f"DROP FUNCTION {table}_refuse()")


def _append_only_in_sqlite(table: str, same_key: str) -> None:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    for act in ("UPDATE", "DELETE"):
        op.execute(f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} {refuse}")
    # INSERT OR REPLACE deletes without firing the trigger on DELETE.
    taken = f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same_key})"  # noqa: S608 - literals
    op.execute(f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} {taken} {refuse}")
