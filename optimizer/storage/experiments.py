"""Experiments and their logs."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, insert, select, update

from optimizer.errors import ConflictError
from optimizer.experiment.life import (
    Entry,
    Experiment,
    ExperimentId,
    ExperimentState,
    entry_hash,
)
from optimizer.ports import Lease
from optimizer.storage.codec import from_row, plain, to_row, utc
from optimizer.storage.database import Database, upsert
from optimizer.storage.experiment_tables import EXPERIMENT_LOG, EXPERIMENTS
from optimizer.storage.versions import check_lease


class SqlExperiments:
    """The ledger's :class:`~optimizer.ports.ExperimentStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, experiment: Experiment, entries: Sequence[Entry]) -> bool:
        """Store a new experiment; False if the id exists."""
        with self._database.write() as connection:
            statement = upsert(connection, EXPERIMENTS).values(to_row(experiment))
            new = statement.on_conflict_do_nothing().returning(EXPERIMENTS.c.id)
            if connection.execute(new).first() is None:
                return False
            _append(connection, experiment, entries)
            return True

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
            done = connection.execute(
                update(EXPERIMENTS)
                .where(
                    EXPERIMENTS.c.id == experiment.id,
                    EXPERIMENTS.c.target == experiment.target,
                    EXPERIMENTS.c.version == experiment.version - 1,
                )
                .values(to_row(experiment))
            )
            if done.rowcount != 1:
                msg = (
                    f"experiment {experiment.id} of {experiment.target}: version "
                    f"{experiment.version - 1} is gone"
                )
                raise ConflictError(msg)
            _append(connection, experiment, entries)

    def entries(self, experiment_id: ExperimentId) -> Sequence[Entry]:
        """The experiment's log, in order."""
        log = EXPERIMENT_LOG
        query = select(log).where(log.c.experiment_id == experiment_id).order_by(log.c.seq)
        with self._database.read() as connection:
            return [from_row(Entry, row) for row in connection.execute(query).mappings()]


def _append(connection: Connection, experiment: Experiment, entries: Sequence[Entry]) -> None:
    """Append to the log, numbered from 1, each entry hashed over its predecessor.

    Raises:
        ValueError: an entry belongs to another experiment.
    """
    strangers = {entry.experiment_id for entry in entries} - {experiment.id}
    if strangers:
        msg = f"entries of {sorted(strangers)} do not belong to experiment {experiment.id}"
        raise ValueError(msg)
    last = connection.execute(
        select(EXPERIMENT_LOG.c.seq, EXPERIMENT_LOG.c.hash)
        .where(EXPERIMENT_LOG.c.experiment_id == experiment.id)
        .order_by(EXPERIMENT_LOG.c.seq.desc())
        .limit(1)
    ).first()
    seq, prev_hash = tuple(last) if last else (0, "")
    for entry in entries:
        seq += 1
        placed = replace(
            entry,
            seq=seq,
            at=utc(entry.at),
            evidence=plain(entry.evidence),
            prev_hash=prev_hash,
            hash="",
        )
        prev_hash = entry_hash(placed)
        row = to_row(replace(placed, hash=prev_hash))
        connection.execute(insert(EXPERIMENT_LOG), [row])
