# ruff: noqa: S608 - SQL is put together from this package's own fragments; values are bound.
"""DuckDB connections: in memory, bounded, offline; and how names and paths enter SQL."""

import glob
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import duckdb

from optimizer.errors import ConfigError, DataError, UnavailableError


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """What the engine may use, and how old or odd a row may be.

    Attributes:
        temp_dir: where DuckDB spills; None = a folder beside the spool's files.
        memory_limit_mb: memory of one connection, megabytes.
        spill_limit_mb: size the spill may reach, megabytes.
        threads: threads of one connection.
        max_age: rows older than this at intake are refused.
        max_ahead: rows further ahead of the clock than this are refused.
        dedupe_horizon: how far around a batch's own time a request id is looked for.
        feedback_horizon: how long after its call a score still counts.
        clock_slack: how far a score may precede its call, by the clocks of the two.

    Raises:
        ConfigError: naming the field, its value and the bound.
    """

    temp_dir: Path | None = None
    memory_limit_mb: int = 1024
    spill_limit_mb: int = 8192
    threads: int = 2
    max_age: timedelta = timedelta(days=400)
    max_ahead: timedelta = timedelta(minutes=5)
    dedupe_horizon: timedelta = timedelta(days=2)
    feedback_horizon: timedelta = timedelta(days=3)
    clock_slack: timedelta = timedelta(hours=1)

    def __post_init__(self) -> None:
        """Check the bounds."""
        for name, low in (("memory_limit_mb", 64), ("spill_limit_mb", 0), ("threads", 1)):
            value = getattr(self, name)
            if value < low:
                raise ConfigError(f"engine {name} = {value} is below {low}")
        for name in (
            "max_age",
            "max_ahead",
            "dedupe_horizon",
            "feedback_horizon",
            "clock_slack",
        ):
            value = getattr(self, name)
            if value < timedelta():
                raise ConfigError(f"engine {name} = {value} is below 0")


@contextmanager
def connect(limits: EngineLimits, temp_dir: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory database within the limits, closed at the end; UTC, no extension downloads.

    It spills into a folder of its own below ``temp_dir``: two databases must not share one.

    Raises:
        UnavailableError: memory, temporary space or the disk did not suffice, or a file is gone.
        DataError: a value does not fit its type, for example a sum beyond 64 bits.
    """
    temp_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=temp_dir, ignore_cleanup_errors=True) as spill:
        connection = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": f"{limits.memory_limit_mb}MB",
                "max_temp_directory_size": f"{limits.spill_limit_mb}MB",
                "temp_directory": spill,
                "threads": limits.threads,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        try:
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
        except (duckdb.OutOfMemoryException, duckdb.IOException) as reason:
            raise UnavailableError(f"the aggregation engine cannot go on: {reason}") from reason
        except duckdb.DataError as reason:
            raise DataError(f"a value does not fit the aggregation engine: {reason}") from reason
        finally:
            connection.close()


def exact(path: Path) -> str:
    """The path as DuckDB must get it: its readers take ``*``, ``?`` and ``[`` for patterns."""
    return glob.escape(str(path))


def quoted(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """The text as an SQL string, for the places that take no parameters."""
    return "'" + text.replace("'", "''") + "'"


def count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    """How many rows the table has."""
    return int(single(connection, f"SELECT count(*) FROM {table}")[0])


def single(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[int, ...]:
    """The only row of a query."""
    # All of them are fetched: a connection takes no other work before its result is exhausted.
    return tuple(connection.execute(query).fetchall()[0])
