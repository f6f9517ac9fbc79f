"""Runs, insights and the audit log."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Select, select, update

from optimizer.evidence import Insight
from optimizer.ports import Json
from optimizer.storage.codec import decode, encode, utc
from optimizer.storage.database import Database, upsert
from optimizer.storage.decisions import record
from optimizer.storage.tables import AUDIT, INSIGHTS, RUNS

RUNNING = "running"


class SqlRuns:
    """The ledger's :class:`~optimizer.ports.RunStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def start_run(
        self, run_id: str, flow: str, *, as_of: datetime, at: datetime, config_hash: str
    ) -> None:
        """Note that a run began; again = no change."""
        with self._database.write() as connection:
            connection.execute(
                upsert(connection, RUNS)
                .values(
                    id=run_id,
                    flow=flow,
                    as_of=as_of,
                    started_at=at,
                    config_hash=config_hash,
                    status=RUNNING,
                )
                .on_conflict_do_nothing()
            )

    def end_run(
        self, run_id: str, *, at: datetime, status: str, summary: Mapping[str, Json]
    ) -> None:
        """Note how it ended.

        Raises:
            KeyError: no such run.
        """
        with self._database.write() as connection:
            done = connection.execute(
                update(RUNS)
                .where(RUNS.c.id == run_id)
                .values(ended_at=at, status=status, summary=encode(summary))
            )
            if done.rowcount != 1:
                raise KeyError(run_id)

    def runs(self, *, limit: int) -> Sequence[Mapping[str, Json]]:
        """Newest first; times as ISO 8601 strings, status ``running`` until a run has ended."""
        query = select(RUNS).order_by(RUNS.c.started_at.desc(), RUNS.c.id.desc())
        return self._rows(query.limit(limit))

    def add_insights(self, as_of: datetime, insights: Sequence[Insight]) -> None:
        """Store insights; the same hour twice changes nothing."""
        rows = [
            {
                "id": _digest(as_of, insight),
                "as_of": as_of,
                "analyzer": insight.analyzer,
                "kind": insight.kind,
                "severity": insight.severity.value,
                "target": insight.target,
                "body": encode(insight),
            }
            for insight in insights
        ]
        if rows:
            with self._database.write() as connection:
                statement = upsert(connection, INSIGHTS).on_conflict_do_nothing()
                connection.execute(statement, rows)

    def insights(
        self, *, since: datetime, analyzers: Sequence[str] | None = None
    ) -> Sequence[tuple[datetime, Insight]]:
        """Stored insights, of those that claimed them, None = of all; oldest first."""
        columns = INSIGHTS.c
        query = (
            select(columns.as_of, columns.body)
            .where(columns.as_of >= since)
            .order_by(columns.as_of, columns.target, columns.analyzer, columns.kind, columns.id)
        )
        if analyzers is not None:
            query = query.where(columns.analyzer.in_(analyzers))
        with self._database.read() as connection:
            return [(as_of, decode(Insight, body)) for as_of, body in connection.execute(query)]

    def audit(
        self, *, at: datetime, actor: str, operation: str, detail: Mapping[str, Json]
    ) -> None:
        """Append an operator's act to the audit log."""
        with self._database.write() as connection:
            record(connection, at, actor, operation, detail)

    def audit_log(self, *, limit: int) -> Sequence[Mapping[str, Json]]:
        """Newest first; times as ISO 8601 strings."""
        return self._rows(select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit))

    def _rows(self, query: Select[tuple[object, ...]]) -> list[dict[str, Json]]:
        with self._database.read() as connection:
            return [encode(row) for row in connection.execute(query).mappings()]


def _digest(as_of: datetime, insight: Insight) -> str:
    text = json.dumps([utc(as_of).isoformat(), encode(insight)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
