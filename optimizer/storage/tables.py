"""The ledger's tables, as queries see them; the migrations make them.

A test compares the two on every supported database.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from optimizer.aggregates import CLUSTERS, HISTOGRAM, SUMS
from optimizer.decision import FINAL
from optimizer.storage.codec import utc

FINAL_VALUES = tuple(sorted(state.value for state in FINAL))


class UtcTime(TypeDecorator[datetime]):
    """An instant: aware datetimes go in, aware UTC datetimes come out, on every database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC; without its zone for SQLite, which keeps text.

        Raises:
            ValueError: the datetime names no zone.
        """
        if value is None:
            return None
        instant = utc(value)
        return instant.replace(tzinfo=None) if dialect.name == "sqlite" else instant

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _text(name: str, *, null: bool = False, key: bool = False) -> Column[str]:
    return Column(name, String, nullable=null, primary_key=key)


def _time(name: str, *, null: bool = False, key: bool = False) -> Column[datetime]:
    return Column(name, UtcTime, nullable=null, primary_key=key)


def _int(name: str, *, null: bool = False, key: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null, primary_key=key, autoincrement=False)


def _json(name: str, *, null: bool = False) -> Column[Any]:
    # json, not jsonb: jsonb changes -0.0 and the order of keys, and refuses an escaped NUL.
    return Column(name, JSON(none_as_null=True), nullable=null)


def _decision(*, key: bool = False, null: bool = False, unique: bool = False) -> Column[str]:
    return Column(
        "decision_id",
        String,
        ForeignKey("decisions.id"),
        primary_key=key,
        nullable=null,
        unique=unique or None,
    )


METADATA = MetaData()

DECISIONS = Table(
    "decisions",
    METADATA,
    _text("id", key=True),
    _text("proposal_id"),
    _text("target"),
    _text("strategy"),
    _text("baseline"),
    _text("candidate"),
    _text("rationale"),
    _json("expected"),
    _time("created_at"),
    _text("created_by"),
    _text("config_hash"),
    Column("exploratory", Boolean, nullable=False),
    Column("urgent", Boolean, nullable=False),
    _text("state"),
    _int("version"),
    _int("stage"),
    _time("stage_entered_at", null=True),
    _time("evidence_from", null=True),
    _int("look"),
    _text("hold_reason"),
    Column("latency_threshold_ms", Double, nullable=True),
    _json("plan", null=True),
    _time("approval_asked_at", null=True),
    _text("approved_by", null=True),
    _time("deployed_at", null=True),
    _time("ended_at", null=True),
    _text("abort_to", null=True),
    _text("reason"),
    _int("generation"),
    _text("salt"),
    _json("actual", null=True),
)
_IN_FLIGHT = text("state NOT IN ({})".format(", ".join(f"'{value}'" for value in FINAL_VALUES)))
Index(
    "decisions_one_in_flight",
    DECISIONS.c.target,
    unique=True,
    sqlite_where=_IN_FLIGHT,
    postgresql_where=_IN_FLIGHT,
)
Index("decisions_ended_at", DECISIONS.c.ended_at)

EVENTS = Table(
    "decision_events",
    METADATA,
    _decision(key=True),
    _int("seq", key=True),
    _time("at"),
    _text("kind"),
    _text("from_state"),
    _text("to_state"),
    _text("actor"),
    _text("reason"),
    _text("run_id"),
    _json("evidence"),
    _text("prev_hash"),
    _text("hash"),
)

PROPOSALS = Table(
    "proposals",
    METADATA,
    _text("id", key=True),
    _time("at"),
    _text("strategy"),
    _text("target"),
    _text("candidate"),
    _text("outcome"),
    _text("reason"),
    _json("body"),
)
Index("proposals_at", PROPOSALS.c.at)

LOOKS = Table(
    "looks",
    METADATA,
    _decision(key=True),
    _time("at", key=True),
    _text("run"),
    _text("outcome"),
    _text("stage_outcome"),
    _text("move"),
    _text("detail"),
    _json("verdict"),
)

SPENT_LOOKS = Table(
    "spent_looks",
    METADATA,
    _decision(key=True),
    _time("until"),
    _json("spent"),
)

DISCOVERIES = Table(
    "discoveries",
    METADATA,
    _time("as_of", key=True),
    _json("state"),
)

ANCHOR_CHARGES = Table(
    "anchor_charges",
    METADATA,
    _decision(key=True),
    _text("target", key=True),
    _text("metric", key=True),
    _text("reference_arm"),
    Column("harm", Double, nullable=False),
    Column("variance", Double, nullable=False),
    Column("settled", Boolean, nullable=False),
    _time("charged_at"),
    _time("forgotten_at", null=True),
)

ALLOCATIONS = Table(
    "allocations",
    METADATA,
    _text("target", key=True),
    _int("generation", key=True),
    _text("salt"),
    _text("baseline"),
    _json("slices"),
    _text("decision_id", null=True),
)

INTENTS = Table(
    "intents",
    METADATA,
    _text("key", key=True),
    _decision(null=True),
    _text("target"),
    _int("generation"),
    _text("move"),
    _text("then_state", null=True),
    _int("then_stage", null=True),
    _text("reason"),
    _time("created_at"),
    _text("status"),
    _json("read_back", null=True),
    _time("closed_at", null=True),
    ForeignKeyConstraint(
        ["target", "generation"], ["allocations.target", "allocations.generation"]
    ),
)
_OPEN = text("status = 'open'")
Index("intents_open", INTENTS.c.target, sqlite_where=_OPEN, postgresql_where=_OPEN)
Index("intents_decision", INTENTS.c.decision_id)

SNAPSHOTS = Table(
    "configuration_snapshots",
    METADATA,
    _text("id", key=True),
    _text("target"),
    _decision(unique=True),
    _json("allocation"),
    _json("arms"),
    _time("taken_at"),
    _text("sha256"),
)

BASELINES = Table(
    "baselines",
    METADATA,
    _text("target", key=True),
    _text("arm"),
    _time("since"),
    _text("intent"),
)

PAUSES = Table(
    "pauses",
    METADATA,
    _text("target", key=True),
    _time("at"),
    _text("actor"),
    _text("reason"),
)

LEASES = Table(
    "leases",
    METADATA,
    _text("target", key=True),
    _text("holder", null=True),
    _int("token"),
    _time("expires_at"),
)

CURSORS = Table(
    "source_cursors",
    METADATA,
    _text("source", key=True),
    _json("cursor"),
    _int("version"),
    _int("newest_s", null=True),
    _time("pulled_at"),
    _int("n_rows"),
    _int("n_duplicates"),
    _int("n_quarantined"),
    _int("n_late"),
)

SPOOL = Table(
    "spool_files",
    METADATA,
    _text("name", key=True),
    _text("dataset"),
    _text("source"),
    _int("n_rows"),
    _int("min_s"),
    _int("max_s"),
)
Index("spool_files_span", SPOOL.c.dataset, SPOOL.c.max_s, SPOOL.c.min_s)

DIRTY = Table(
    "dirty_windows",
    METADATA,
    _int("window_start_s", key=True),
    _int("version"),
    _int("aggregated"),
)
_DIRTY = text("version > aggregated")
Index("dirty_windows_open", DIRTY.c.window_start_s, sqlite_where=_DIRTY, postgresql_where=_DIRTY)

AGGREGATES = Table(
    "aggregates",
    METADATA,
    _int("width_s", key=True),
    _int("window_start_s", key=True),
    _text("target", key=True),
    _text("arm", key=True),
    _text("slice", key=True),
    *(_int(name) for name in SUMS),
    Column(HISTOGRAM, LargeBinary, nullable=False),
    Column(CLUSTERS, LargeBinary, nullable=False),
)

RUNS = Table(
    "runs",
    METADATA,
    _text("id", key=True),
    _text("flow"),
    _time("as_of"),
    _time("started_at"),
    _text("config_hash"),
    _time("ended_at", null=True),
    _text("status"),
    _json("summary", null=True),
)
Index("runs_started_at", RUNS.c.started_at)

INSIGHTS = Table(
    "analyzer_insights",
    METADATA,
    _text("id", key=True),
    _time("as_of"),
    _text("analyzer"),
    _text("kind"),
    _text("severity"),
    _text("target"),
    _json("body"),
)
Index("analyzer_insights_as_of", INSIGHTS.c.as_of)

AUDIT = Table(
    "audit_log",
    METADATA,
    # SQLite numbers rows by itself only under the type INTEGER.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    _time("at"),
    _text("actor"),
    _text("operation"),
    _json("detail"),
)
