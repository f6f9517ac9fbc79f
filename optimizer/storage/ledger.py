"""The whole ledger: one database, six stores."""

from typing import Self

from optimizer.errors import ConfigError
from optimizer.storage import migrate
from optimizer.storage.aggregates import SqlAggregates
from optimizer.storage.database import Database, parse
from optimizer.storage.decisions import SqlDecisions
from optimizer.storage.effects import SqlEffects
from optimizer.storage.experiments import SqlExperiments
from optimizer.storage.intake import SqlIntake
from optimizer.storage.runs import SqlRuns


class SqlLedger:
    """The :class:`~optimizer.ports.Ledger` on SQLite or PostgreSQL.

    Threads may share one; a process that forks opens its own.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._intake = SqlIntake(database)
        self._aggregates = SqlAggregates(database)
        self._decisions = SqlDecisions(database)
        self._effects = SqlEffects(database)
        self._experiments = SqlExperiments(database)
        self._runs = SqlRuns(database)

    @classmethod
    def open(
        cls, url: str, *, migrate: bool = True, pool_size: int = 5, timeout_s: float = 30.0
    ) -> Self:
        """The ledger at that URL, at the newest revision.

        url: ``sqlite:///ledger.db`` or ``postgresql://user:password@host/name``; migrate: bring an
        older or empty database up to date, else refuse it; timeout_s: longest wait for a lock, a
        connection or the server, seconds.

        Raises:
            ConfigError: the URL is no ledger's, or the database is at another revision.
            UnavailableError: the database cannot be reached.
        """
        database = Database(parse(url), pool_size=pool_size, timeout_s=timeout_s)
        ledger = cls(database)
        try:
            database.prepare()
            ledger._bring_up_to_date(allowed=migrate)
        except BaseException:
            ledger.close()
            raise
        return ledger

    @property
    def intake(self) -> SqlIntake:
        """Cursors and spool manifest."""
        return self._intake

    @property
    def aggregates(self) -> SqlAggregates:
        """Grains and roll-ups."""
        return self._aggregates

    @property
    def decisions(self) -> SqlDecisions:
        """Decisions and their evidence."""
        return self._decisions

    @property
    def effects(self) -> SqlEffects:
        """Desired state and how it was applied."""
        return self._effects

    @property
    def experiments(self) -> SqlExperiments:
        """Experiments and their logs."""
        return self._experiments

    @property
    def runs(self) -> SqlRuns:
        """Runs, insights and audit."""
        return self._runs

    def revision(self) -> str | None:
        """The revision that the database stands at; None when it is empty."""
        with self._database.read() as connection:
            return migrate.revision(connection)

    def migrate(self, to: str = migrate.HEAD) -> None:
        """Bring the database to a revision, up or down; ``base`` empties it."""
        with self._database.write() as connection:
            migrate.migrate(connection, to)

    def close(self) -> None:
        """Give back every connection."""
        self._database.close()

    def _bring_up_to_date(self, *, allowed: bool) -> None:
        with self._database.read() as connection:
            if migrate.is_current(connection):
                return
        if not allowed:
            msg = f"{self._database.name} is at revision {self.revision()}; migrate it first"
            raise ConfigError(msg)
        self.migrate()
