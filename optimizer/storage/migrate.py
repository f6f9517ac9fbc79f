"""The ledger's migrations, run from Python inside one transaction on one connection.

Two processes that start at once take turns: PostgreSQL holds an advisory lock, SQLite its write
lock; the second finds the work done. A migration that fails leaves the database as it was.
"""

from pathlib import Path
from threading import Lock

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from optimizer.errors import ConfigError

VERSION_TABLE = "optimizer_revision"
"""Not Alembic's default name: Prefect's own migrations use that one in a shared database."""

HEAD = "head"
BASE = "base"
_ADVISORY_KEY = 4_071_520_977
_ONE_AT_A_TIME = Lock()  # Alembic keeps its context in module globals


def _config(connection: Connection | None = None) -> Config:
    config = Config(attributes={"connection": connection})
    location = str(Path(__file__).parent / "migrations")
    config.set_main_option("script_location", location.replace("%", "%%"))
    return config


def revision(connection: Connection) -> str | None:
    """The revision that the database stands at; None when it is empty."""
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


def revisions() -> tuple[str, ...]:
    """Every revision that this program knows, newest first."""
    scripts = ScriptDirectory.from_config(_config())
    return tuple(script.revision for script in scripts.walk_revisions())


def head() -> str:
    """The newest revision."""
    return revisions()[0]


def is_current(connection: Connection) -> bool:
    """Whether the database stands at :func:`head`.

    Raises:
        ConfigError: it was written by a newer version of the program.
    """
    current = revision(connection)
    known = revisions()
    if current is not None and current not in known:
        msg = f"the ledger is at revision {current}, which this version does not know: upgrade it"
        raise ConfigError(msg)
    return current == known[0]


def migrate(connection: Connection, to: str) -> None:
    """Bring the database up or down to the revision ``to``; must run in a write transaction.

    Raises:
        ConfigError: there is no such revision, or the database has one from a newer version.
    """
    if to not in (HEAD, BASE, *revisions()):
        msg = f"there is no revision {to!r}; known are {', '.join((BASE, *revisions()[::-1]))}"
        raise ConfigError(msg)
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_KEY})
    if is_current(connection) and to == HEAD:
        return
    with _ONE_AT_A_TIME:
        if _is_below(to, revision(connection)):
            command.downgrade(_config(connection), to)
        else:
            command.upgrade(_config(connection), to)


def _is_below(to: str, current: str | None) -> bool:
    if current is None or to == HEAD:
        return False
    order = (*revisions(), BASE)
    return order.index(to) > order.index(current)
