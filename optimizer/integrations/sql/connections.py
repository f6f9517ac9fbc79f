"""Short, read-only connections, with the driver's errors translated; no password in any message."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import exc

from optimizer.errors import ConfigError, DataError, OptimizerError, UnavailableError

_LOCK_WAIT_S = 5.0
# SQLite has one error for both "not now" and "never".
_SQLITE_MISTAKES = ("no such", "syntax error", "ambiguous", "incomplete input")


def engine_of(url: str) -> sa.Engine:
    """An engine for the URL; it connects when it is first used.

    Raises:
        ConfigError: the URL cannot be read, or its driver is not installed.
    """
    try:
        parsed = sa.make_url(url)
        if parsed.drivername in {"postgres", "postgresql"}:
            parsed = parsed.set(drivername="postgresql+psycopg")
        if parsed.get_backend_name() == "sqlite" and parsed.database and not parsed.query:
            return sa.create_engine(parsed, creator=_sqlite_reader(parsed.database))
        return sa.create_engine(parsed)
    except (exc.ArgumentError, exc.NoSuchModuleError, ImportError) as error:
        # Not `from error`: the driver's message may quote the URL.
        raise ConfigError(f"the database URL cannot be used: {type(error).__name__}") from None


def _sqlite_reader(database: str) -> Callable[[], sqlite3.Connection]:
    """Opens an existing file for reading; by itself SQLite would create a missing one."""

    def connect() -> sqlite3.Connection:
        uri = f"{Path(database).absolute().as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, timeout=_LOCK_WAIT_S, check_same_thread=False)

    return connect


@contextlib.contextmanager
def reading(engine: sa.Engine, name: str, timeout: timedelta) -> Iterator[sa.Connection]:
    """A connection in a read-only transaction whose statements end after ``timeout``.

    Raises:
        ConfigError: the statement does not fit the database.
        DataError: a value cannot be read.
        UnavailableError: the database does not answer, or not in time.
    """
    try:
        with engine.connect() as plain:
            connection = plain
            if engine.dialect.name == "postgresql":
                connection = plain.execution_options(postgresql_readonly=True)
                milliseconds = str(max(1, int(timeout.total_seconds() * 1000)))
                limit = sa.func.set_config("statement_timeout", milliseconds, sa.true())
                connection.execute(sa.select(limit))
            yield connection
    except exc.SQLAlchemyError as error:
        raise _translated(error, name) from error


def _translated(error: exc.SQLAlchemyError, name: str) -> OptimizerError:
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    text = f"source {name}: {str(cause).strip().partition(chr(10))[0]}"
    if isinstance(error, exc.DataError):
        return DataError(text)
    mistaken = isinstance(error, exc.OperationalError) and any(
        mark in text for mark in _SQLITE_MISTAKES if isinstance(cause, sqlite3.Error)
    )
    lost = isinstance(error, exc.DBAPIError) and error.connection_invalidated
    if mistaken or (isinstance(error, exc.ProgrammingError) and not lost):
        return ConfigError(text)
    return UnavailableError(text)
