"""What guards every change of a decision or an experiment: lease, compare-and-set, chained log.

Each function works inside the caller's write transaction, in this order, so that two writers of
one target never wait for each other in a circle: lease, row, log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from sqlalchemy import Connection, Table, insert, select, update

from optimizer.decision import Decision, Event
from optimizer.errors import ConflictError
from optimizer.experiment.life import Entry, Experiment
from optimizer.ports import Lease
from optimizer.recorded import chain_hash
from optimizer.storage.codec import plain, to_row, utc
from optimizer.storage.database import upsert
from optimizer.storage.experiment_tables import EXPERIMENT_LOG, EXPERIMENTS
from optimizer.storage.tables import DECISIONS, EVENTS, LEASES


@dataclass(frozen=True, slots=True, kw_only=True)
class _Book:
    """Where one kind of recorded life is kept: its rows, its log, and whose an entry is."""

    kind: str
    rows: Table
    log: Table

    @property
    def owner(self) -> str:
        """Field and column of an entry that name whose it is."""
        return f"{self.kind}_id"


_BOOKS: Mapping[type[Decision | Experiment], _Book] = MappingProxyType(
    {
        Decision: _Book(kind="decision", rows=DECISIONS, log=EVENTS),
        Experiment: _Book(kind="experiment", rows=EXPERIMENTS, log=EXPERIMENT_LOG),
    }
)


def check_lease(connection: Connection, lease: Lease, target: str) -> None:
    """Make sure that the lease is the target's current one until the transaction ends.

    Raises:
        ConflictError: it is another target's, was given back, or somebody got a newer one.
    """
    query = select(LEASES.c.token, LEASES.c.holder).where(LEASES.c.target == target)
    stored = connection.execute(query.with_for_update(read=True)).first()
    if lease.target != target or stored is None or tuple(stored) != (lease.token, lease.holder):
        msg = (
            f"{target}: lease {lease.token} of {lease.holder} on {lease.target} is not current"
            + (f"; token {stored.token} is held by {stored.holder}" if stored else "")
        )
        raise ConflictError(msg)


def store_new(
    connection: Connection, life: Decision | Experiment, entries: Sequence[Event] | Sequence[Entry]
) -> bool:
    """Store a new row with its first entries; False (no change) where an index forbids it.

    Raises:
        ValueError: an entry belongs to another one.
    """
    rows = _BOOKS[type(life)].rows
    new = upsert(connection, rows).values(to_row(life)).on_conflict_do_nothing()
    if connection.execute(new.returning(rows.c.id)).first() is None:
        return False
    _append(connection, life, entries)
    return True


def store_version(
    connection: Connection, life: Decision | Experiment, entries: Sequence[Event] | Sequence[Entry]
) -> None:
    """Replace version - 1 by this one and append its entries.

    Raises:
        ConflictError: the stored version is another one.
        ValueError: an entry belongs to another one.
    """
    book = _BOOKS[type(life)]
    columns = book.rows.c
    done = connection.execute(
        update(book.rows)
        .where(
            columns.id == life.id,
            columns.target == life.target,
            columns.version == life.version - 1,
        )
        .values(to_row(life))
    )
    if done.rowcount != 1:
        msg = f"{book.kind} {life.id} of {life.target}: version {life.version - 1} is gone"
        raise ConflictError(msg)
    _append(connection, life, entries)


def _append(
    connection: Connection, life: Decision | Experiment, entries: Sequence[Event] | Sequence[Entry]
) -> None:
    """Append to the log, numbered from 1, each entry hashed over its predecessor."""
    book = _BOOKS[type(life)]
    log, owner = book.log, book.log.c[book.owner]
    strangers = {getattr(entry, book.owner) for entry in entries} - {life.id}
    if strangers:
        msg = f"entries of {sorted(strangers)} do not belong to {book.kind} {life.id}"
        raise ValueError(msg)
    last = connection.execute(
        select(log.c.seq, log.c.hash).where(owner == life.id).order_by(log.c.seq.desc()).limit(1)
    ).first()
    seq, prev_hash = tuple(last) if last else (0, "")
    rows = []
    for entry in entries:
        seq += 1
        linked = _linked(entry, seq=seq, prev_hash=prev_hash)
        prev_hash = linked.hash
        rows.append(to_row(linked))
    if rows:
        connection.execute(insert(log), rows)


def _linked(entry: Event | Entry, *, seq: int, prev_hash: str) -> Event | Entry:
    """The entry at its place in the chain, hashed as it will be read back."""
    placed = replace(
        entry,
        seq=seq,
        at=utc(entry.at),
        evidence=plain(entry.evidence),
        prev_hash=prev_hash,
        hash="",
    )
    return replace(placed, hash=chain_hash(placed))
