"""What guards every change of a decision: the lease, compare-and-set, and the chained log.

Each function works inside the caller's write transaction, in this order, so that two writers of
one target never wait for each other in a circle: lease, decision, events.
"""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection, insert, select, update

from optimizer.decision import Decision, Event, event_hash
from optimizer.errors import ConflictError
from optimizer.ports import Lease
from optimizer.storage.codec import plain, to_row, utc
from optimizer.storage.tables import DECISIONS, EVENTS, LEASES


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


def store_version(connection: Connection, decision: Decision, events: Sequence[Event]) -> None:
    """Replace version - 1 of the decision by this one and append its events.

    Raises:
        ConflictError: the stored version is another one.
        ValueError: an event belongs to another decision.
    """
    row = to_row(decision)
    done = connection.execute(
        update(DECISIONS)
        .where(
            DECISIONS.c.id == decision.id,
            DECISIONS.c.target == decision.target,
            DECISIONS.c.version == decision.version - 1,
        )
        .values(row)
    )
    if done.rowcount != 1:
        msg = f"decision {decision.id} of {decision.target}: version {decision.version - 1} is gone"
        raise ConflictError(msg)
    append_events(connection, decision, events)


def append_events(connection: Connection, decision: Decision, events: Sequence[Event]) -> None:
    """Append events to the decision's log, numbered from 1, each hashed over its predecessor.

    Raises:
        ValueError: an event belongs to another decision.
    """
    strangers = {event.decision_id for event in events} - {decision.id}
    if strangers:
        msg = f"events of {sorted(strangers)} do not belong to decision {decision.id}"
        raise ValueError(msg)
    last = connection.execute(
        select(EVENTS.c.seq, EVENTS.c.hash)
        .where(EVENTS.c.decision_id == decision.id)
        .order_by(EVENTS.c.seq.desc())
        .limit(1)
    ).first()
    seq, prev_hash = tuple(last) if last else (0, "")
    rows = []
    for event in events:
        seq += 1
        linked = _linked(event, seq=seq, prev_hash=prev_hash)
        prev_hash = linked.hash
        rows.append(to_row(linked))
    if rows:
        connection.execute(insert(EVENTS), rows)


def _linked(event: Event, *, seq: int, prev_hash: str) -> Event:
    """The event at its place in the chain, hashed as it will be read back."""
    placed = replace(
        event,
        seq=seq,
        at=utc(event.at),
        evidence=plain(event.evidence),
        prev_hash=prev_hash,
        hash="",
    )
    return replace(placed, hash=event_hash(placed))
