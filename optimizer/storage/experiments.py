"""Experiments and their logs."""

from collections.abc import Sequence

from sqlalchemy import select

from optimizer.experiment.life import Entry, Experiment, ExperimentId, ExperimentState
from optimizer.ports import Lease
from optimizer.storage.codec import from_row
from optimizer.storage.database import Database
from optimizer.storage.experiment_tables import EXPERIMENT_LOG, EXPERIMENTS
from optimizer.storage.versions import check_lease, store_new, store_version


class SqlExperiments:
    """The ledger's :class:`~optimizer.ports.ExperimentStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, experiment: Experiment, entries: Sequence[Entry]) -> bool:
        """Store a new experiment; False if the id exists."""
        with self._database.write() as connection:
            return store_new(connection, experiment, entries)

    def get(self, experiment_id: ExperimentId) -> Experiment:
        """The experiment.

        Raises:
            KeyError: no such id.
        """
        with self._database.read() as connection:
            query = select(EXPERIMENTS).where(EXPERIMENTS.c.id == experiment_id)
            row = connection.execute(query).mappings().first()
        if row is None:
            raise KeyError(experiment_id)
        return from_row(Experiment, row)

    def find(
        self, *, states: Sequence[ExperimentState] | None = None, target: str | None = None
    ) -> Sequence[Experiment]:
        """Experiments, oldest first."""
        query = select(EXPERIMENTS).order_by(EXPERIMENTS.c.created_at, EXPERIMENTS.c.id)
        if states is not None:
            query = query.where(EXPERIMENTS.c.state.in_([state.value for state in states]))
        if target is not None:
            query = query.where(EXPERIMENTS.c.target == target)
        with self._database.read() as connection:
            return [from_row(Experiment, row) for row in connection.execute(query).mappings()]

    def update(
        self, experiment: Experiment, entries: Sequence[Entry], *, lease: Lease | None
    ) -> None:
        """Store the experiment's new version with its entries, by compare-and-set.

        Raises:
            ConflictError: the stored version is another one, the lease is no longer current, or
                another experiment is in flight on the target.
        """
        with self._database.write() as connection:
            if lease is not None:
                check_lease(connection, lease, experiment.target)
            store_version(connection, experiment, entries)

    def entries(self, experiment_id: ExperimentId) -> Sequence[Entry]:
        """The experiment's log, in order."""
        log = EXPERIMENT_LOG
        query = select(log).where(log.c.experiment_id == experiment_id).order_by(log.c.seq)
        with self._database.read() as connection:
            return [from_row(Entry, row) for row in connection.execute(query).mappings()]
