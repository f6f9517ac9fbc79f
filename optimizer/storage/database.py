"""Engine and transactions, the same for SQLite and PostgreSQL, and the translation of errors."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, exc, make_url
from sqlalchemy.dialects import postgresql, sqlite

from optimizer.errors import ConfigError, ConflictError, DataError, UnavailableError

OLDEST_SQLITE = (3, 35, 0)
"""The first with RETURNING."""

STATEMENT_FACTOR = 10
"""A statement may run this many times as long as it may wait for a lock: a day of grains is one."""

_MALFORMED = {"SQLITE_CONSTRAINT_CHECK", "SQLITE_CONSTRAINT_NOTNULL", "23502", "23514"}
"""Violations that say the value is wrong, not that somebody was first."""


def parse(text: str) -> URL:
    """The URL with its driver: ``sqlite:///file`` or ``postgresql://user@host/name``.

    Raises:
        ConfigError: it is neither; the message never holds the URL, which may hold a password.
    """
    try:
        url = make_url(text)
    except (exc.ArgumentError, ValueError):
        msg = "the ledger's URL cannot be read; write sqlite:///file or postgresql://user@host/name"
        raise ConfigError(msg) from None
    if url.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite_url(url)
    if url.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    msg = f"the ledger runs on sqlite and postgresql, not on {url.drivername!r}"
    raise ConfigError(msg)


def _sqlite_url(url: URL) -> URL:
    if not url.database or url.database == ":memory:":
        msg = "a ledger in memory forgets; name a file: sqlite:///ledger.db"
        raise ConfigError(msg)
    parent = Path(url.database).absolute().parent
    if not url.database.startswith("file:") and not parent.is_dir():
        msg = f"the ledger's directory {parent} does not exist"
        raise ConfigError(msg)
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        msg = f"SQLite {sqlite3.sqlite_version} is too old; 3.35 or newer is needed"
        raise ConfigError(msg)
    return url.set(drivername="sqlite+pysqlite")


class Database:
    """A pool of connections; every use is one transaction."""

    def __init__(self, url: URL, *, pool_size: int, timeout_s: float) -> None:
        self._url = url
        self._password = str(url.password or "")
        self._timeout_s = timeout_s
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self._engine = _engine(url, pool_size=pool_size, timeout_s=timeout_s)
        self._writer = self._engine.execution_options(begin="BEGIN IMMEDIATE")

    @property
    def name(self) -> str:
        """The URL without password and options."""
        return self._url.set(query={}).render_as_string(hide_password=True)

    def prepare(self) -> None:
        """Reach the database once, and put SQLite into WAL mode, where readers never wait.

        Raises:
            ConfigError: the file is no database.
            UnavailableError: the database cannot be reached.
        """
        with self._translated(), self._engine.connect():
            pass
        deadline = time.monotonic() + self._timeout_s
        # While another process uses the file, SQLite refuses the switch at once and does not wait.
        while self.is_sqlite and not self._is_wal():
            if time.monotonic() > deadline:
                msg = f"{self.name} is locked, or its file system cannot share memory (WAL mode)"
                raise UnavailableError(msg)
            time.sleep(0.02)

    def _is_wal(self) -> bool:
        raw = self._engine.raw_connection()
        try:
            row = raw.cursor().execute("PRAGMA journal_mode=WAL").fetchone()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorname.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                return False
            kind = ConfigError if error.sqlite_errorname == "SQLITE_NOTADB" else UnavailableError
            raise kind(self._message(error)) from error
        finally:
            raw.close()
        return row is not None and row[0] == "wal"

    def close(self) -> None:
        """Close every connection of the pool."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state of the database."""
        with self._translated(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end, or not at all."""
        with self._translated(), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (exc.IntegrityError, psycopg.IntegrityError) as error:
            kind = DataError if _code(error) in _MALFORMED else ConflictError
            raise kind(self._message(error)) from error
        except (exc.DataError, psycopg.DataError) as error:
            raise DataError(self._message(error)) from error
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            raise UnavailableError(self._message(error)) from error
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise UnavailableError(self._message(error)) from error
        except exc.DBAPIError as error:
            if not error.connection_invalidated:
                raise
            raise UnavailableError(self._message(error)) from error
        except exc.StatementError as error:
            # A value refused on its way to the driver: naive datetimes, unknown kinds.
            raise DataError(self._message(error)) from error

    def _message(self, error: Exception) -> str:
        cause = getattr(error, "orig", None) or error
        text = " ".join(str(cause).split())
        if self._password:
            text = text.replace(self._password, "***")
        return f"{self.name}: {text}"


def _code(error: Exception) -> str:
    """SQLite's name or PostgreSQL's SQLSTATE of an error."""
    cause = getattr(error, "orig", None) or error
    return getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None) or ""


def _engine(url: URL, *, pool_size: int, timeout_s: float) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    arguments: dict[str, Any] = (
        {"timeout": timeout_s}
        if is_sqlite
        else {
            # libpq counts whole seconds, and takes 1 for 2.
            "connect_timeout": max(2, round(timeout_s)),
            "tcp_user_timeout": round(timeout_s * 1000),
        }
    )
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout_s,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args=arguments,
    )
    if is_sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", _prepare_postgresql(timeout_s))
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver would begin transactions late and without IMMEDIATE; `_begin_sqlite` does it.
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _prepare_postgresql(timeout_s: float) -> Any:  # noqa: ANN401 - a listener
    wait_ms = round(timeout_s * 1000)

    def prepare(connection: psycopg.Connection[Any], _record: object) -> None:
        # Set here and not among the start-up options, which connection poolers refuse.
        connection.autocommit = True
        for name, value in (
            ("TimeZone", "UTC"),
            ("lock_timeout", str(wait_ms)),
            ("statement_timeout", str(wait_ms * STATEMENT_FACTOR)),
        ):
            connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        connection.autocommit = False

    return prepare


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that can say ON CONFLICT; both databases spell it alike."""
    if connection.dialect.name == "sqlite":
        return sqlite.insert(table)
    return postgresql.insert(table)
