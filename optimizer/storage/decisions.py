"""Proposals, decisions, their logs, looks, and what promotions have cost."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, insert, or_, select, update

from optimizer.cycle import Fate
from optimizer.decision import Decision, Event, State
from optimizer.evidence import Anchor, DecisionId, Past, Proposal, Spent, Verdict, spent_until
from optimizer.ports import Json, Lease, Look
from optimizer.storage.codec import decode, encode, from_row, to_row
from optimizer.storage.database import Database, upsert
from optimizer.storage.tables import (
    ANCHOR_CHARGES,
    AUDIT,
    DECISIONS,
    DISCOVERIES,
    EVENTS,
    FINAL_VALUES,
    LOOKS,
    PROPOSALS,
    SPENT_LOOKS,
)
from optimizer.storage.versions import check_lease, store_new, store_version

IDS_AT_ONCE = 500
"""Ids in one query; SQLite takes no more than some thousands of parameters."""

HELD = Fate.POLICY_UNAVAILABLE.value


class SqlDecisions:
    """The ledger's :class:`~optimizer.ports.DecisionStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_proposals(self, at: datetime, proposals: Sequence[tuple[Proposal, str, str]]) -> None:
        """Store each proposal with what became of it.

        Same id = no change, unless it was held for want of an answer that has come since.
        """
        rows = [
            {
                "id": proposal.id,
                "at": at,
                "strategy": proposal.strategy,
                "target": proposal.target,
                "candidate": proposal.candidate,
                "outcome": outcome,
                "reason": reason,
                "body": encode(proposal),
            }
            for proposal, outcome, reason in proposals
        ]
        if rows:
            with self._database.write() as connection:
                adding = upsert(connection, PROPOSALS)
                statement = adding.on_conflict_do_update(
                    index_elements=[PROPOSALS.c.id],
                    set_={name: adding.excluded[name] for name in ("outcome", "reason")},
                    where=PROPOSALS.c.outcome == HELD,
                )
                connection.execute(statement, rows)

    def proposals(self, *, since: datetime) -> Sequence[tuple[Proposal, str, str]]:
        """Stored proposals with outcome and reason, oldest first."""
        query = (
            select(PROPOSALS.c.body, PROPOSALS.c.outcome, PROPOSALS.c.reason)
            .where(PROPOSALS.c.at >= since)
            .order_by(PROPOSALS.c.at, PROPOSALS.c.id)
        )
        with self._database.read() as connection:
            return [
                (decode(Proposal, body), outcome, reason)
                for body, outcome, reason in connection.execute(query)
            ]

    def keep_discoveries(self, as_of: datetime, state: Mapping[str, Json]) -> None:
        """Make ``state`` what the hour at ``as_of`` ended with; again = the newer one."""
        with self._database.write() as connection:
            new = upsert(connection, DISCOVERIES).values(as_of=as_of, state=encode(state))
            connection.execute(
                new.on_conflict_do_update(
                    index_elements=[DISCOVERIES.c.as_of], set_={"state": new.excluded.state}
                )
            )

    def discoveries(self, *, before: datetime) -> Mapping[str, Json] | None:
        """What the newest hour before that moment ended with, of those that kept something."""
        query = (
            select(DISCOVERIES.c.state)
            .where(DISCOVERIES.c.as_of < before)
            .order_by(DISCOVERIES.c.as_of.desc())
            .limit(1)
        )
        with self._database.read() as connection:
            found: Mapping[str, Json] | None = connection.execute(query).scalar_one_or_none()
        return found

    def create(self, decision: Decision, events: Sequence[Event]) -> bool:
        """Store a new decision; False if its target has one in flight or the id exists."""
        with self._database.write() as connection:
            return store_new(connection, decision, events)

    def get(self, decision_id: DecisionId) -> Decision:
        """The decision.

        Raises:
            KeyError: no such id.
        """
        with self._database.read() as connection:
            query = select(DECISIONS).where(DECISIONS.c.id == decision_id)
            row = connection.execute(query).mappings().first()
        if row is None:
            raise KeyError(decision_id)
        return from_row(Decision, row)

    def find(
        self,
        *,
        states: Sequence[State] | None = None,
        target: str | None = None,
        since: datetime | None = None,
    ) -> Sequence[Decision]:
        """Decisions, oldest first; ``since`` leaves out those that ended before that moment."""
        query = select(DECISIONS).order_by(DECISIONS.c.created_at, DECISIONS.c.id)
        if states is not None:
            query = query.where(DECISIONS.c.state.in_([state.value for state in states]))
        if target is not None:
            query = query.where(DECISIONS.c.target == target)
        if since is not None:
            query = query.where(or_(DECISIONS.c.ended_at.is_(None), DECISIONS.c.ended_at >= since))
        with self._database.read() as connection:
            return [from_row(Decision, row) for row in connection.execute(query).mappings()]

    def update(self, decision: Decision, events: Sequence[Event], *, lease: Lease | None) -> None:
        """Store the decision's new version with its events, by compare-and-set.

        Raises:
            ConflictError: the stored version is another one, or the lease is no longer current.
        """
        with self._database.write() as connection:
            if lease is not None:
                check_lease(connection, lease, decision.target)
            store_version(connection, decision, events)

    def events(self, decision_id: DecisionId) -> Sequence[Event]:
        """The decision's log, in order."""
        query = select(EVENTS).where(EVENTS.c.decision_id == decision_id).order_by(EVENTS.c.seq)
        with self._database.read() as connection:
            return [from_row(Event, row) for row in connection.execute(query).mappings()]

    def add_look(self, look: Look) -> None:
        """Store a look, and what planned looks have spent if that is news.

        The first look of a decision and time stays; of what was spent the newest does.
        """
        row = to_row(look) | {
            "outcome": look.verdict.outcome.value,
            "stage_outcome": look.verdict.stage_outcome.value,
        }
        with self._database.write() as connection:
            connection.execute(
                upsert(connection, LOOKS)
                .values(row)
                .on_conflict_do_nothing(index_elements=[LOOKS.c.decision_id, LOOKS.c.at])
            )
            until = spent_until(look.verdict.spent)
            if until is None:
                return
            new = upsert(connection, SPENT_LOOKS).values(
                decision_id=look.decision_id, until=until, spent=encode(look.verdict.spent)
            )
            connection.execute(
                new.on_conflict_do_update(
                    index_elements=[SPENT_LOOKS.c.decision_id],
                    set_={"until": new.excluded.until, "spent": new.excluded.spent},
                    where=SPENT_LOOKS.c.until <= new.excluded.until,
                )
            )

    def spent(self, decisions: Sequence[DecisionId]) -> Mapping[DecisionId, tuple[Spent, ...]]:
        """What the planned looks of those decisions have spent; none without a look."""
        query = select(SPENT_LOOKS.c.decision_id, SPENT_LOOKS.c.spent)
        found: dict[DecisionId, tuple[Spent, ...]] = {}
        with self._database.read() as connection:
            for first in range(0, len(decisions), IDS_AT_ONCE):
                some = decisions[first : first + IDS_AT_ONCE]
                rows = connection.execute(query.where(SPENT_LOOKS.c.decision_id.in_(some)))
                for row in rows:
                    spent = tuple(decode(Spent, each) for each in row.spent)
                    found[DecisionId(row.decision_id)] = spent
        return found

    def looks(self, decision_id: DecisionId) -> Sequence[Look]:
        """Looks, oldest first."""
        query = select(LOOKS).where(LOOKS.c.decision_id == decision_id).order_by(LOOKS.c.at)
        with self._database.read() as connection:
            return [
                Look(
                    decision_id=decision_id,
                    at=row.at,
                    run=row.run,
                    verdict=decode(Verdict, row.verdict),
                    move=row.move,
                    detail=row.detail,
                )
                for row in connection.execute(query)
            ]

    def past(self, *, since: datetime) -> Sequence[Past]:
        """Ended decisions, oldest first, but for those that failed validation."""
        columns = DECISIONS.c
        query = (
            select(
                columns.target,
                columns.candidate.label("arm"),
                columns.state,
                columns.ended_at,
                columns.reason,
                columns.strategy,
                columns.baseline.label("before"),
                columns.deployed_at,
            )
            .where(
                columns.ended_at >= since,
                columns.state.in_(FINAL_VALUES),
                columns.state != State.VALIDATION_FAILED.value,
            )
            .order_by(columns.ended_at, columns.id)
        )
        with self._database.read() as connection:
            return [from_row(Past, row) for row in connection.execute(query).mappings()]

    def charge_anchor(
        self, decision_id: DecisionId, anchor: Anchor, *, at: datetime, settled: bool
    ) -> None:
        """Set what this promotion cost; a settled charge replaces a provisional one, never back."""
        key = (ANCHOR_CHARGES.c.decision_id, ANCHOR_CHARGES.c.target, ANCHOR_CHARGES.c.metric)
        with self._database.write() as connection:
            statement = upsert(connection, ANCHOR_CHARGES).values(
                decision_id=decision_id,
                target=anchor.target,
                metric=anchor.metric,
                reference_arm=anchor.reference_arm,
                harm=anchor.harm,
                variance=anchor.variance,
                settled=settled,
                charged_at=at,
            )
            new = statement.excluded
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=key,
                    set_={
                        "reference_arm": new.reference_arm,
                        "harm": new.harm,
                        "variance": new.variance,
                        "settled": new.settled,
                    },
                    where=or_(~ANCHOR_CHARGES.c.settled, new.settled),
                )
            )

    def anchors(self) -> Mapping[tuple[str, str], Anchor]:
        """Sums per (target, metric) since the anchor was last moved, over completed decisions.

        One still on its way does not count against itself, and one that was rolled back cost
        nothing. The reference arm is the one of the oldest charge.
        """
        charge = ANCHOR_CHARGES.c
        query = (
            select(charge.target, charge.metric, charge.reference_arm, charge.harm, charge.variance)
            .join(DECISIONS, DECISIONS.c.id == charge.decision_id)
            .where(charge.forgotten_at.is_(None), DECISIONS.c.state == State.COMPLETED.value)
            .order_by(charge.charged_at, charge.decision_id)
        )
        sums: dict[tuple[str, str], Anchor] = {}
        with self._database.read() as connection:
            for target, metric, reference_arm, harm, variance in connection.execute(query):
                before = sums.get(
                    (target, metric),
                    Anchor(target=target, metric=metric, reference_arm=reference_arm),
                )
                sums[target, metric] = Anchor(
                    target=target,
                    metric=metric,
                    reference_arm=before.reference_arm,
                    harm=before.harm + harm,
                    variance=before.variance + variance,
                    promotions=before.promotions + 1,
                )
        return sums

    def move_anchor(self, target: str, *, at: datetime, actor: str, reason: str) -> None:
        """Forget the charges of ended decisions, and write the act into the audit log.

        A promotion still on its way is not part of today's baseline: its charge stays.
        """
        with self._database.write() as connection:
            ended = select(DECISIONS.c.id).where(DECISIONS.c.state.in_(FINAL_VALUES))
            connection.execute(
                update(ANCHOR_CHARGES)
                .where(
                    ANCHOR_CHARGES.c.target == target,
                    ANCHOR_CHARGES.c.forgotten_at.is_(None),
                    ANCHOR_CHARGES.c.decision_id.in_(ended),
                )
                .values(forgotten_at=at)
            )
            record(connection, at, actor, "move_anchor", {"target": target, "reason": reason})


def record(
    connection: Connection, at: datetime, actor: str, operation: str, detail: Mapping[str, object]
) -> None:
    """Append to the audit log within a transaction."""
    connection.execute(
        insert(AUDIT).values(at=at, actor=actor, operation=operation, detail=encode(detail))
    )
