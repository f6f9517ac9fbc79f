"""Bad URLs, unreachable servers and locked databases: the right error, and never a password."""

import sqlite3
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

from ledger_samples import NOW, decision, event, stored
from optimizer.decision import amend
from optimizer.errors import ConfigError, DataError, UnavailableError
from optimizer.storage import SqlLedger
from optimizer.storage.database import parse

SECRET = "hunter2-p@ss"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "cannot be read"),
        ("ledger.db", "cannot be read"),
        (f"://{SECRET}", "cannot be read"),
        (f"postgresql://ann:{SECRET}@host:port/name", "cannot be read"),
        (f"mysql://ann:{SECRET}@host/name", "not on 'mysql'"),
        ("postgresql+asyncpg://host/name", "asyncpg"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("sqlite:////no/such/folder/ledger.db", "/no/such/folder does not exist"),
    ],
)
def test_a_url_that_is_no_ledgers_is_the_operators_error(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        SqlLedger.open(url)

    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_every_usual_scheme_means_psycopg(scheme: str) -> None:
    assert parse(f"{scheme}://ann@host/name").drivername == "postgresql+psycopg"


def test_an_unreachable_server_is_unavailable_and_named_without_password(tmp_path: Path) -> None:
    url = make_url(f"postgresql:///name?host={tmp_path}").set(username="ann", password=SECRET)

    with pytest.raises(UnavailableError, match="ann") as caught:
        SqlLedger.open(url.render_as_string(hide_password=False), timeout_s=1)

    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_file_that_is_no_database_is_the_operators_error(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database " * 100)

    with pytest.raises(ConfigError, match="not a database"):
        SqlLedger.open(f"sqlite:///{path}")


def test_sqlite_writes_ahead_and_checks_references(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqlLedger.open(f"sqlite:///{path}")

    with ledger._database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() == 1
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2
    ledger.close()


@pytest.fixture
def held(tmp_path: Path) -> tuple[SqlLedger, sqlite3.Connection]:
    """A ledger that gives up soon, and another writer that holds its lock."""
    path = tmp_path / "ledger.db"
    SqlLedger.open(f"sqlite:///{path}").close()
    ledger = SqlLedger.open(f"sqlite:///{path}", timeout_s=0.1)
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    return ledger, writer


def test_a_locked_file_is_unavailable_to_writers_and_open_to_readers(
    held: tuple[SqlLedger, sqlite3.Connection],
) -> None:
    ledger, writer = held

    with pytest.raises(UnavailableError, match="locked"):
        ledger.effects.pause(None, at=NOW, actor="ann", reason="")
    assert ledger.effects.paused() == {}

    writer.execute("ROLLBACK")
    writer.close()
    ledger.effects.pause(None, at=NOW, actor="ann", reason="")
    assert ledger.effects.paused() == {"*": ""}
    ledger.close()


def test_a_writer_waits_for_its_turn(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = SqlLedger.open(f"sqlite:///{path}", timeout_s=60)
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    release = threading.Timer(0.2, writer.execute, ["COMMIT"])
    release.start()

    ledger.effects.pause("chat", at=NOW, actor="ann", reason="")

    release.join()
    writer.close()
    assert ledger.effects.paused() == {"chat": ""}
    ledger.close()


def test_a_locked_row_is_unavailable(emptied_postgres_url: str) -> None:
    ledger = SqlLedger.open(emptied_postgres_url, timeout_s=0.1)
    made = stored(ledger)
    conninfo = emptied_postgres_url.replace("+psycopg", "")
    with psycopg.connect(conninfo) as other:
        other.execute("SELECT * FROM decisions FOR UPDATE")

        with pytest.raises(UnavailableError, match="lock timeout"):
            ledger.decisions.update(amend(made), [], lease=None)

    ledger.decisions.update(amend(made), [], lease=None)
    ledger.close()


def test_writers_in_a_circle_are_unavailable_not_stuck(emptied_postgres_url: str) -> None:
    ledger = SqlLedger.open(emptied_postgres_url)
    for name in ("d1", "d2"):
        stored(ledger, name, target=name)
    both_hold_one = threading.Barrier(2)

    def lock(names: tuple[str, str]) -> bool:
        statement = "UPDATE decisions SET reason = reason WHERE id = %s"
        try:
            with ledger._database.write() as connection:
                connection.exec_driver_sql(statement, (names[0],))
                both_hold_one.wait(timeout=60)
                connection.exec_driver_sql(statement, (names[1],))
        except UnavailableError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lock, [("d1", "d2"), ("d2", "d1")]))

    assert sorted(results) == [False, True]
    ledger.close()


def test_a_connection_that_the_server_cut_is_replaced(emptied_postgres_url: str) -> None:
    ledger = SqlLedger.open(emptied_postgres_url, pool_size=1)
    with (
        pytest.raises(UnavailableError),
        ledger._database.write() as connection,
    ):
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    assert ledger.decisions.find() == []
    ledger.close()


def test_every_connection_taken_is_unavailable(ledger_url: str) -> None:
    ledger = SqlLedger.open(ledger_url, pool_size=1, timeout_s=0.1)

    with ledger._database.read(), pytest.raises(UnavailableError):
        ledger.decisions.find()

    ledger.close()


def test_text_that_postgresql_cannot_hold_is_a_data_error(emptied_postgres_url: str) -> None:
    ledger = SqlLedger.open(emptied_postgres_url)
    made = decision(rationale="a\0b")

    with pytest.raises(DataError):
        ledger.decisions.create(made, [event(made)])

    ledger.close()
