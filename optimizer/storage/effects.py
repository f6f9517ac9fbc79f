"""What should be on the gateways: intents, allocations, snapshots, baselines, pauses, leases."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import Connection, Select, func, insert, or_, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.engine import RowMapping

from optimizer.allocation import Allocation
from optimizer.decision import Decision, Event
from optimizer.errors import ConflictError
from optimizer.evidence import DecisionId
from optimizer.ports import Intent, Json, Lease, Snapshot
from optimizer.storage.codec import encode, from_row, to_row, utc
from optimizer.storage.database import Database, upsert
from optimizer.storage.decisions import record
from optimizer.storage.tables import ALLOCATIONS, BASELINES, INTENTS, LEASES, PAUSES, SNAPSHOTS
from optimizer.storage.versions import check_lease, store_version

EVERY_TARGET = "*"
"""How a pause of all targets is stored and reported."""

OPEN = "open"


class SqlEffects:
    """The ledger's :class:`~optimizer.ports.EffectStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(
        self, intent: Intent, decision: Decision | None, events: Sequence[Event], *, lease: Lease
    ) -> Intent:
        """Write the intent and the decision's new version together; same key = the stored intent.

        A generation may skip numbers, because a gateway that was changed by hand may hold a newer
        one than the ledger; it must be above every generation written for the target.

        Raises:
            ConflictError: version, generation or lease moved.
            ValueError: the intent's allocation is another target's.
        """
        if intent.allocation.target != intent.target:
            msg = f"intent {intent.key} of {intent.target} allocates {intent.allocation.target}"
            raise ValueError(msg)
        with self._database.write() as connection:
            check_lease(connection, lease, intent.target)
            stored = _intents(connection, _INTENTS.where(INTENTS.c.key == intent.key))
            if stored:
                return stored[0]
            _check_generation(connection, intent.allocation)
            if decision is not None:
                store_version(connection, decision, events)
            connection.execute(insert(ALLOCATIONS).values(to_row(intent.allocation)))
            row = to_row(intent) | {"generation": intent.allocation.generation, "status": OPEN}
            del row["allocation"]
            connection.execute(insert(INTENTS).values(row))
            (stored_now,) = _intents(connection, _INTENTS.where(INTENTS.c.key == intent.key))
            return stored_now

    def finish(
        self,
        key: str,
        *,
        status: str,
        read_back: Mapping[str, Json] | None,
        decision: Decision | None,
        events: Sequence[Event],
        baseline: tuple[str, str] | None,
        at: datetime,
        lease: Lease,
    ) -> None:
        """Close the intent and store what follows; closed with the same status before = no change.

        Raises:
            ConflictError: version or lease moved, or it was closed with another status.
            KeyError: no such intent.
        """
        with self._database.write() as connection:
            target = connection.execute(
                select(INTENTS.c.target).where(INTENTS.c.key == key)
            ).scalar_one_or_none()
            if target is None:
                raise KeyError(key)
            check_lease(connection, lease, target)
            closed = connection.execute(
                update(INTENTS)
                .where(INTENTS.c.key == key, INTENTS.c.status == OPEN)
                .values(status=status, read_back=encode(read_back), closed_at=at)
            )
            if closed.rowcount != 1:
                _check_same_end(connection, key, status)
                return
            if decision is not None:
                store_version(connection, decision, events)
            if baseline is not None:
                _set_baseline(connection, baseline, at=at, intent=key)

    def open_intents(self, target: str | None = None) -> Sequence[Intent]:
        """Intents begun and not finished, oldest first."""
        query = _INTENTS.where(INTENTS.c.status == OPEN)
        if target is not None:
            query = query.where(INTENTS.c.target == target)
        with self._database.read() as connection:
            return _intents(connection, query.order_by(INTENTS.c.created_at, INTENTS.c.generation))

    def desired(self, target: str) -> Allocation | None:
        """The allocation of the highest generation written for the target."""
        query = (
            select(ALLOCATIONS)
            .where(ALLOCATIONS.c.target == target)
            .order_by(ALLOCATIONS.c.generation.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else from_row(Allocation, row)

    def desired_all(self) -> Mapping[str, Allocation]:
        """The same for every target."""
        newest = (
            select(ALLOCATIONS.c.target, func.max(ALLOCATIONS.c.generation).label("generation"))
            .group_by(ALLOCATIONS.c.target)
            .subquery()
        )
        query = select(ALLOCATIONS).join(
            newest,
            (ALLOCATIONS.c.target == newest.c.target)
            & (ALLOCATIONS.c.generation == newest.c.generation),
        )
        with self._database.read() as connection:
            return {
                row["target"]: from_row(Allocation, row)
                for row in connection.execute(query).mappings()
            }

    def save_snapshot(self, snapshot: Snapshot) -> None:
        """Store it; a decision's first snapshot stays."""
        with self._database.write() as connection:
            statement = upsert(connection, SNAPSHOTS).values(to_row(snapshot))
            connection.execute(statement.on_conflict_do_nothing())

    def snapshot(self, decision_id: DecisionId) -> Snapshot | None:
        """What to restore for the decision."""
        query = select(SNAPSHOTS).where(SNAPSHOTS.c.decision_id == decision_id)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().first()
        return None if row is None else from_row(Snapshot, row)

    def baselines(self) -> Mapping[str, str]:
        """The arm in force per target, where it differs from the configuration's."""
        with self._database.read() as connection:
            rows = connection.execute(select(BASELINES.c.target, BASELINES.c.arm))
            return {target: arm for target, arm in rows}  # noqa: C416 - rows are no pairs to mypy

    def pause(self, target: str | None, *, at: datetime, actor: str, reason: str) -> None:
        """Stop promotions and new rollouts of the target, None = of all; the audit log says so."""
        name = EVERY_TARGET if target is None else target
        with self._database.write() as connection:
            statement = upsert(connection, PAUSES).values(
                target=name, at=at, actor=actor, reason=reason
            )
            new = statement.excluded
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[PAUSES.c.target],
                    set_={"at": new.at, "actor": new.actor, "reason": new.reason},
                )
            )
            record(connection, at, actor, "pause", {"target": name, "reason": reason})

    def resume(self, target: str | None, *, at: datetime, actor: str, reason: str) -> None:
        """Take the pause back; the audit log says so."""
        name = EVERY_TARGET if target is None else target
        with self._database.write() as connection:
            connection.execute(delete_from(PAUSES).where(PAUSES.c.target == name))
            record(connection, at, actor, "resume", {"target": name, "reason": reason})

    def paused(self) -> Mapping[str, str]:
        """Paused targets -> reason; the key ``*`` stands for all."""
        with self._database.read() as connection:
            rows = connection.execute(select(PAUSES.c.target, PAUSES.c.reason))
            return {target: reason for target, reason in rows}  # noqa: C416 - as above

    def acquire(self, target: str, holder: str, *, now: datetime, ttl_s: int) -> Lease | None:
        """A lease with a fresh token, or None while somebody else's is valid.

        A holder may renew its own; the older token then ends.
        """
        expires_at = utc(now) + timedelta(seconds=ttl_s)
        with self._database.write() as connection:
            statement = upsert(connection, LEASES).values(
                target=target, holder=holder, token=1, expires_at=expires_at
            )
            new = statement.excluded
            token = connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[LEASES.c.target],
                    set_={
                        "holder": new.holder,
                        "token": LEASES.c.token + 1,
                        "expires_at": new.expires_at,
                    },
                    where=or_(
                        LEASES.c.holder.is_(None),
                        LEASES.c.holder == new.holder,
                        LEASES.c.expires_at <= now,
                    ),
                ).returning(LEASES.c.token)
            ).scalar_one_or_none()
        if token is None:
            return None
        return Lease(target=target, holder=holder, token=token, expires_at=expires_at)

    def release(self, lease: Lease) -> None:
        """Give the lease back; an older token changes nothing."""
        with self._database.write() as connection:
            connection.execute(
                update(LEASES)
                .where(LEASES.c.target == lease.target, LEASES.c.token == lease.token)
                .values(holder=None)
            )


_INTENTS = select(
    INTENTS, *(column.label(f"allocation_{column.name}") for column in ALLOCATIONS.c)
).join(ALLOCATIONS)


def _intents(connection: Connection, query: Select[tuple[object, ...]]) -> list[Intent]:
    return [_intent(row) for row in connection.execute(query).mappings()]


def _intent(row: RowMapping) -> Intent:
    allocation = {column.name: row[f"allocation_{column.name}"] for column in ALLOCATIONS.c}
    return from_row(Intent, {**row, "allocation": allocation})


def _check_generation(connection: Connection, allocation: Allocation) -> None:
    query = select(func.max(ALLOCATIONS.c.generation)).where(
        ALLOCATIONS.c.target == allocation.target
    )
    newest = connection.execute(query).scalar_one()
    if newest is not None and allocation.generation <= newest:
        msg = f"{allocation.target}: generation {allocation.generation} is not above {newest}"
        raise ConflictError(msg)


def _check_same_end(connection: Connection, key: str, status: str) -> None:
    query = select(INTENTS.c.target, INTENTS.c.status).where(INTENTS.c.key == key)
    target, stored = connection.execute(query).one()
    if stored != status:
        msg = f"intent {key} of {target} already ended as {stored}, not {status}"
        raise ConflictError(msg)


def _set_baseline(
    connection: Connection, baseline: tuple[str, str], *, at: datetime, intent: str
) -> None:
    target, arm = baseline
    statement = upsert(connection, BASELINES).values(
        target=target, arm=arm, since=at, intent=intent
    )
    new = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[BASELINES.c.target],
            set_={"arm": new.arm, "since": new.since, "intent": new.intent},
        )
    )
