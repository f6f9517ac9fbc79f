"""What does not fit, what is locked, and servers that go away."""

import logging
import sqlite3
import traceback
from datetime import timedelta
from pathlib import Path

import pytest

from optimizer.errors import ConfigError, DataError, OptimizerError, UnavailableError
from optimizer.ports.sources import Json, Mapped
from sql_pulls import NOON, ReadIds, filled, frames, run, source_of


def test_a_query_cannot_write(postgres_database_url: str) -> None:
    filled(postgres_database_url, [NOON])
    run(
        postgres_database_url,
        "CREATE FUNCTION wipe() RETURNS int LANGUAGE sql AS 'DELETE FROM calls RETURNING 1'",
    )
    query = "SELECT request_id, ts, wipe() AS input_tokens FROM calls"

    with pytest.raises(OptimizerError, match="read-only"):
        list(source_of(postgres_database_url, query=query).pull({}, until=NOON))

    assert len(frames(source_of(postgres_database_url))) == 1


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"table": "nothing"}, "nothing"),
        ({"cursor_column": 'ts" OR 1=1 --'}, "OR 1=1"),
        ({"id_column": "no_id"}, "no_id"),
        ({"mapped": Mapped(columns={"arm": "no_arm"})}, "no_arm"),
        ({"query": "SELECT nothing FROM calls"}, "nothing"),
        ({"query": "SELEC * FROM calls"}, "syntax"),
        ({"cursor_column": "request_id"}, "r0"),
    ],
)
def test_what_does_not_fit_the_database_is_told(
    database_url: str, changes: dict[str, Json], named: str
) -> None:
    filled(database_url, [NOON])

    with pytest.raises(ConfigError, match=named):
        list(source_of(database_url, **changes).pull({}, until=NOON))


@pytest.mark.parametrize(
    "changes",
    [
        {"table": None},
        {"page_rows": 0},
        {"overlap": timedelta(seconds=-1)},
        {"mapped": Mapped(timezone="Mars/Olympus")},
    ],
)
def test_settings_are_checked_at_once(changes: dict[str, Json]) -> None:
    with pytest.raises(ConfigError):
        source_of("sqlite:///calls.db", **changes)


@pytest.mark.parametrize("kept", ["yesterday", 12, "2026-03-01T12:00:00"])
def test_a_cursor_of_another_kind_is_refused(postgres_database_url: str, kept: Json) -> None:
    filled(postgres_database_url, [NOON])

    with pytest.raises(DataError):
        list(source_of(postgres_database_url).pull({"at": kept}, until=NOON))


def test_a_connection_ended_in_mid_read_leaves_the_pages_before_it(
    postgres_database_url: str, ids: ReadIds
) -> None:
    filled(postgres_database_url, [NOON - timedelta(minutes=n) for n in (5, 4, 3, 2, 1)])
    source = source_of(postgres_database_url, overlap=timedelta(0))
    pull = iter(source.pull({}, until=NOON))
    first = next(pull)
    kill = (
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    run(postgres_database_url, kill)

    with pytest.raises(UnavailableError):
        next(pull)
    rest = [row for b in source.pull(first.cursor, until=NOON) for row in ids(b)]

    assert ids(first) == ["r0", "r1"]
    assert set(rest) >= {"r2", "r3", "r4"}


def test_a_statement_that_takes_too_long_is_ended(postgres_database_url: str) -> None:
    filled(postgres_database_url, [NOON])
    query = "SELECT request_id, ts FROM calls, pg_sleep(30)"
    source = source_of(
        postgres_database_url, query=query, statement_timeout=timedelta(milliseconds=50)
    )

    with pytest.raises(UnavailableError, match="statement timeout"):
        list(source.pull({}, until=NOON))


def test_a_server_that_is_not_there_is_unavailable_and_its_password_is_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    source = source_of("postgresql://me:hunter2@127.0.0.1:1/calls?connect_timeout=2")

    with pytest.raises(UnavailableError) as caught:
        list(source.pull({}, until=NOON))

    told = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(source)
    assert "hunter2" not in told


@pytest.mark.parametrize("url", ["no url: hunter2", "nothing://me:hunter2@host/db"])
def test_a_url_that_cannot_be_used_is_told_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        list(source_of(url).pull({}, until=NOON))

    assert "hunter2" not in "".join(traceback.format_exception(caught.value))


def test_a_missing_sqlite_file_is_unavailable_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "calls.db"

    with pytest.raises(UnavailableError):
        list(source_of(f"sqlite:///{path}").pull({}, until=NOON))

    assert not path.exists()


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    path = tmp_path / "calls.db"
    filled(f"sqlite:///{path}", [NOON - timedelta(minutes=n) for n in (5, 4, 3, 2, 1)])
    return path


def test_an_sqlite_file_replaced_by_rubbish_in_mid_read_leaves_the_pages_before_it(
    sqlite_path: Path, ids: ReadIds
) -> None:
    pull = iter(source_of(f"sqlite:///{sqlite_path}").pull({}, until=NOON))
    first = next(pull)
    sqlite_path.write_bytes(b"not a database" * 1000)

    with pytest.raises(UnavailableError):
        list(pull)

    assert ids(first) == ["r0", "r1"]


@pytest.mark.slow
def test_a_locked_sqlite_file_is_unavailable(sqlite_path: Path) -> None:
    """Slow: the source waits five seconds for the lock."""
    with sqlite3.connect(sqlite_path) as other:
        other.execute("BEGIN EXCLUSIVE")

        with pytest.raises(UnavailableError, match="locked"):
            list(source_of(f"sqlite:///{sqlite_path}").pull({}, until=NOON))

        other.rollback()
    other.close()
