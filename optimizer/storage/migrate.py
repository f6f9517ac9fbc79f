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


def head() -> str:
    """The newest revision that this program knows."""
    found = ScriptDirectory.from_config(_config()).get_current_head()
    if found is None:  # pragma: no cover - only a broken installation
        msg = "the migrations are missing from the installation"
        raise ConfigError(msg)
    return found


def is_current(connection: Connection) -> bool:
    """Whether the database stands at :func:`head`.

    Raises:
        ConfigError: it was written by a newer version of the program.
    """
    current = revision(connection)
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if current is not None and current not in known:
        msg = f"the ledger is at revision {current}, which this version does not know: upgrade it"
        raise ConfigError(msg)
    return current == head()


def migrate(connection: Connection, to: str) -> None:
    """Bring the database up or down to the revision ``to``; must run in a write transaction."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_KEY})
    is_current(connection)
    with _ONE_AT_A_TIME:
        if _is_below(to, revision(connection)):
            command.downgrade(_config(connection), to)
        else:
            command.upgrade(_config(connection), to)


def _is_below(to: str, current: str | None) -> bool:
    if to in (HEAD, BASE) or current is None:
        return to == BASE and current is not None
    scripts = ScriptDirectory.from_config(_config())
    older = {script.revision for script in scripts.walk_revisions(BASE, current)}
    return to in older and to != current
