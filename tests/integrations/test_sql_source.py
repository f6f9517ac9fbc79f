"""Databases as they really are: late rows, odd types, many ways to write a time."""

import sqlite3
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from optimizer.ports.sources import Mapped
from sql_pulls import NOON, ReadIds, filled, frames, run, source_of


def test_rows_of_the_future_wait_and_do_not_carry_the_cursor_away(
    database_url: str, ids: ReadIds
) -> None:
    filled(database_url, [NOON - timedelta(hours=1), NOON + timedelta(days=900)])
    source = source_of(database_url)

    (batch,) = source.pull({}, until=NOON)
    much_later = NOON + timedelta(days=901)
    later = [row for b in source.pull(batch.cursor, until=much_later) for row in ids(b)]

    assert ids(batch) == ["r0"]
    assert "2026-03-01" in batch.cursor["at"]
    assert "r1" in later


def test_a_row_that_appears_late_within_the_overlap_is_found(
    database_url: str, ids: ReadIds
) -> None:
    filled(database_url, [NOON - timedelta(minutes=n) for n in (30, 20, 10)])
    source = source_of(database_url)
    *_, last = source.pull({}, until=NOON)
    late = "2026-03-01 11:46:00" + ("" if "sqlite" in database_url else "+00")
    run(database_url, f"INSERT INTO calls VALUES ('late', '{late}')")  # noqa: S608

    again = [row for batch in source.pull(last.cursor, until=NOON) for row in ids(batch)]

    assert again == ["late", "r2"]


def test_the_cursor_never_moves_back(database_url: str) -> None:
    filled(database_url, [NOON - timedelta(minutes=n) for n in (9, 8, 7, 6, 5)])
    source = source_of(database_url, overlap=timedelta(hours=1))
    *_, last = source.pull({}, until=NOON)

    cursors = [batch.cursor for batch in source.pull(last.cursor, until=NOON)]

    assert len(cursors) == 3
    assert all(cursor == last.cursor for cursor in cursors)


def test_rows_of_one_moment_are_not_lost_at_a_page_break(database_url: str, ids: ReadIds) -> None:
    filled(database_url, [NOON] * 7)

    found = [row for batch in source_of(database_url).pull({}, until=NOON) for row in ids(batch)]

    assert found == [f"r{n}" for n in range(7)]


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        ([f"2026-03-01T11:0{n}:00Z" for n in range(5)], "TEXT"),
        ([f"2026-03-01 11:0{n}:00.250" for n in range(5)], "TEXT"),
        ([f"2026-03-01T13:0{n}:00+02:00" for n in range(5)], "TEXT"),
        ([1772362800 + 60 * n for n in range(5)], "INTEGER"),
        ([1772362800000 + 60000 * n for n in range(5)], "INTEGER"),
        ([1772362800.5 + 60 * n for n in range(5)], "REAL"),
    ],
    ids=["iso", "blank", "offset", "seconds", "milliseconds", "fractions"],
)
def test_sqlite_may_write_time_in_many_ways(
    tmp_path: Path, ids: ReadIds, stored: list[str | float], kind: str
) -> None:
    path = tmp_path / "calls.db"
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE calls (request_id TEXT PRIMARY KEY, ts {kind})")
        rows = [(f"r{n}", value) for n, value in enumerate(stored)]
        connection.executemany("INSERT INTO calls VALUES (?, ?)", rows)
    connection.close()
    source = source_of(f"sqlite:///{path}", overlap=timedelta(seconds=30))

    until = datetime(2026, 3, 1, 11, 3, 30, tzinfo=UTC)
    batches = list(source.pull({}, until=until))
    again = [row for b in source.pull(batches[-1].cursor, until=NOON) for row in ids(b)]

    # At 11:03:30 four rows are there, the fifth is not; then the overlap gives the fourth again.
    assert [row for batch in batches for row in ids(batch)] == ["r0", "r1", "r2", "r3"]
    assert again == ["r3", "r4"]


def test_a_text_that_is_no_time_stops_nothing(tmp_path: Path, ids: ReadIds) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    run(
        url,
        "CREATE TABLE calls (request_id TEXT, ts TEXT)",
        "INSERT INTO calls VALUES ('bad', ''), ('good', '2026-03-01T11\\:00\\:00Z')",
        "INSERT INTO calls VALUES ('worse', '2026-03-01T11\\:77\\:00Z')",
    )
    source = source_of(url, overlap=timedelta(0))

    *_, last = source.pull({}, until=NOON)
    again = [row for batch in source.pull(last.cursor, until=NOON) for row in ids(batch)]

    # The engine sets them aside; the cursor stands at the newest row that has a time.
    assert again == ["good", "worse"]


def test_times_without_a_zone_are_of_the_mappings_zone(
    postgres_database_url: str, ids: ReadIds
) -> None:
    run(
        postgres_database_url,
        "CREATE TABLE calls (request_id text, ts timestamp)",
        "INSERT INTO calls VALUES ('noon in Tokyo', '2026-03-01 21:00:00'), "
        "('later', '2026-03-01 21:00:01')",
    )
    source = source_of(postgres_database_url, mapped=Mapped(timezone="Asia/Tokyo"))

    (batch,) = source.pull({}, until=NOON)

    assert ids(batch) == ["noon in Tokyo"]


def test_values_become_plain_ones(postgres_database_url: str) -> None:
    run(
        postgres_database_url,
        'CREATE TABLE calls ("Key" uuid, ts timestamptz, spend numeric(12, 6), tokens int4, '
        "prompt text, metadata jsonb)",
        "INSERT INTO calls VALUES "
        "('00000000-0000-0000-0000-000000000001', '2026-03-01 11:00+02', 0.000125, NULL, 'secret', "
        '\'{"status": "failure", "usage": {"cached": 7}}\'), '
        "('00000000-0000-0000-0000-000000000002', '2026-03-01 11:30+02', NULL, 12, 'secret', "
        "NULL), "
        "('00000000-0000-0000-0000-000000000003', '2026-03-01 11:45+02', 1, 9, 'secret', '[]')",
    )
    columns = {
        "request_id": "Key",
        "cost_usd": "spend",
        "input_tokens": "tokens",
        "status": "metadata.status",
        "cached_tokens": "metadata.usage.cached",
    }
    source = source_of(
        postgres_database_url, id_column="Key", page_rows=9, mapped=Mapped(columns=columns)
    )

    frame = frames(source)

    assert "prompt" not in frame
    assert str(frame["Key"][0]) == str(UUID(int=1))
    assert frame["ts"][0] == pd.Timestamp("2026-03-01 09:00", tz="UTC")
    assert frame["spend"][0] == float(Decimal("0.000125"))
    assert pd.isna(frame["spend"][1])
    assert frame["tokens"].dtype == "Int64"
    assert frame["tokens"].tolist() == [pd.NA, 12, 9]
    assert frame["metadata.status"][0] == "failure"
    assert pd.isna(frame["metadata.status"][1])
    assert pd.isna(frame["metadata.status"][2])
    assert frame["metadata.usage.cached"][0] == 7


def test_paths_reach_into_the_text_that_sqlite_keeps_json_as(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    run(
        url,
        "CREATE TABLE calls (request_id TEXT, ts TEXT, m TEXT)",
        "INSERT INTO calls VALUES ('a', '2026-03-01 11:00:00', '{\"arm\"\\: \"mini\"}')",
        "INSERT INTO calls VALUES ('b', '2026-03-01 11:00:00', 'no json')",
    )

    frame = frames(source_of(url, mapped=Mapped(columns={"arm": "m.arm"})))

    assert frame["m.arm"][0] == "mini"
    assert pd.isna(frame["m.arm"][1])


def test_a_query_may_hold_colons_percents_and_a_semicolon(database_url: str, ids: ReadIds) -> None:
    filled(database_url, [NOON - timedelta(minutes=n) for n in (3, 2, 1)])
    query = "SELECT * FROM calls WHERE request_id NOT LIKE '%:x%' AND request_id <> 'r1' ;"

    source = source_of(database_url, query=query)

    assert [row for batch in source.pull({}, until=NOON) for row in ids(batch)] == ["r0", "r2"]


def test_the_columns_of_litellms_spend_logs_can_be_pulled(postgres_database_url: str) -> None:
    engine = sa.create_engine(postgres_database_url)
    table = sa.Table(
        "LiteLLM_SpendLogs",
        sa.MetaData(),
        sa.Column("request_id", sa.Text, primary_key=True),
        sa.Column("spend", sa.Double),
        sa.Column("startTime", sa.DateTime),
        sa.Column("request_duration_ms", sa.Integer),
        sa.Column("model_group", sa.Text),
        sa.Column("model_id", sa.Text),
        sa.Column("metadata", JSONB),
        sa.Column("messages", JSONB),
    )
    row = {
        "request_id": "chatcmpl-1",
        "spend": 0.01,
        "startTime": NOON.replace(tzinfo=None) - timedelta(minutes=1),
        "request_duration_ms": 800,
        "model_group": "support",
        "model_id": "mini",
        "metadata": {"status": "success", "usage_object": {"prompt_tokens": 11}},
        "messages": [{"content": "private"}],
    }
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert().values(row))
    engine.dispose()
    columns = {
        "ts": "startTime",
        "target": "model_group",
        "arm": "model_id",
        "status": "metadata.status",
        "input_tokens": "metadata.usage_object.prompt_tokens",
        "latency_ms": "request_duration_ms",
        "cost_usd": "spend",
    }
    source = source_of(
        postgres_database_url,
        table="LiteLLM_SpendLogs",
        cursor_column="startTime",
        mapped=Mapped(columns=columns, timezone="UTC"),
    )

    frame = frames(source)

    wanted = {"request_id", *columns.values()}
    assert wanted <= set(frame.columns)
    assert frame["metadata.status"].tolist() == ["success"]
    assert frame["metadata.usage_object.prompt_tokens"].tolist() == [11]
    assert "private" not in frame.to_csv()
