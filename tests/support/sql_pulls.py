"""An SQL source over a small table of calls."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pandas as pd
import sqlalchemy as sa

from optimizer.integrations.sql import SqlSource
from optimizer.observations import Kind
from optimizer.ports.sources import Batch, FrameInput, Json

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

ReadIds = Callable[[Batch], list[str]]


def source_of(url: str, **changes: Json) -> SqlSource:
    settings: dict[str, Json] = {
        "table": "calls",
        "cursor_column": "ts",
        "id_column": "request_id",
        "overlap": timedelta(minutes=5),
        "page_rows": 2,
    }
    chosen = settings | changes
    if "query" in changes:
        del chosen["table"]
    return SqlSource(name="calls", kind=Kind.CALLS, url=url, **chosen)


def filled(url: str, at: list[datetime]) -> None:
    """A table of calls r0, r1, … at those times."""
    engine = sa.create_engine(url)
    table = sa.Table(
        "calls",
        sa.MetaData(),
        sa.Column("request_id", sa.String(20), primary_key=True),
        sa.Column("ts", sa.DateTime(timezone=True)),
    )
    with engine.begin() as connection:
        table.create(connection)
        for number, moment in enumerate(at):
            row = {"request_id": f"r{number}", "ts": moment}
            connection.execute(table.insert().values(row))
    engine.dispose()


def run(url: str, *statements: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


def frames(source: SqlSource) -> pd.DataFrame:
    parts = [
        given.frame
        for batch in source.pull({}, until=NOON)
        for given in batch.inputs
        if isinstance(given, FrameInput)
    ]
    return pd.concat(parts, ignore_index=True)
