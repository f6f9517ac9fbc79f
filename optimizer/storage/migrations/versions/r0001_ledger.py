"""The ledger's first tables, its append-only logs and the views for operators."""

import sqlalchemy as sa
from alembic import op

revision = "r0001"
down_revision = None
branch_labels = None
depends_on = None

STATES = (
    "pending",
    "validating",
    "validation_failed",
    "awaiting_approval",
    "deploying",
    "deployed",
    "monitoring",
    "completed",
    "rolling_back",
    "rolled_back",
    "deployment_failed",
    "cancelled",
)
FINAL = ("cancelled", "completed", "deployment_failed", "rolled_back", "validation_failed")
OUTCOMES = ("pass", "fail", "inconclusive", "no_data")
SUMS = (
    "n",
    "n_failed",
    "n_timeout",
    "n_fallback",
    "n_units",
    "n_latency",
    "latency_us",
    "log_latency_e6",
    "log_latency_sq_e6",
    "n_cost",
    "cost_nusd",
    "log_cost_e6",
    "log_cost_sq_e6",
    "n_positive_cost",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "n_tokens",
    "n_quality",
    "quality_e6",
    "quality_sq_e9",
)
TABLES = (
    "audit_log",
    "analyzer_insights",
    "runs",
    "aggregates",
    "dirty_windows",
    "spool_files",
    "source_cursors",
    "leases",
    "pauses",
    "baselines",
    "configuration_snapshots",
    "intents",
    "allocations",
    "anchor_charges",
    "looks",
    "proposals",
    "decision_events",
    "decisions",
)
APPEND_ONLY = ("decision_events", "audit_log")


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String, nullable=null)


def _time(name: str, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null)


def _int(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=null, autoincrement=False)


def _real(name: str, *, null: bool = False) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=null)


def _json(name: str, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.JSON, nullable=null)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean, nullable=False)


def _decision(*, null: bool = False) -> sa.Column[str]:
    return sa.Column("decision_id", sa.String, sa.ForeignKey("decisions.id"), nullable=null)


def _key(*names: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*names)


def _check(name: str, condition: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(condition, name=name)


def _among(column: str, values: tuple[str, ...]) -> str:
    return "{} IN ({})".format(column, ", ".join(f"'{value}'" for value in values))


def upgrade() -> None:
    _decisions()
    _evidence()
    _effects()
    _intake()
    _runs()
    _append_only()
    _views()


def _decisions() -> None:
    op.create_table(
        "decisions",
        _text("id"),
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
        _flag("exploratory"),
        _flag("urgent"),
        _text("state"),
        _int("version"),
        _int("stage"),
        _time("stage_entered_at", null=True),
        _time("evidence_from", null=True),
        _int("look"),
        _text("hold_reason"),
        _real("latency_threshold_ms", null=True),
        _time("approval_asked_at", null=True),
        _text("approved_by", null=True),
        _time("deployed_at", null=True),
        _time("ended_at", null=True),
        _text("abort_to", null=True),
        _text("reason"),
        _int("generation"),
        _text("salt"),
        _json("actual", null=True),
        _key("id"),
        _check("decisions_state", _among("state", STATES)),
        _check("decisions_abort_to", _among("abort_to", FINAL)),
        _check("decisions_arms", "candidate <> baseline"),
        _check("decisions_counters", "version >= 0 AND look >= 0 AND generation >= 0"),
        _check("decisions_stage", "stage >= -1"),
    )
    _partial_index(
        "decisions_one_in_flight",
        "decisions",
        "state NOT IN ({})".format(", ".join(f"'{value}'" for value in FINAL)),
        unique=True,
    )
    op.create_index("decisions_ended_at", "decisions", ["ended_at"])
    op.create_table(
        "decision_events",
        _decision(),
        _int("seq"),
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
        _key("decision_id", "seq"),
        _check("decision_events_seq", "seq >= 1"),
        _check("decision_events_from", _among("from_state", STATES)),
        _check("decision_events_to", _among("to_state", STATES)),
    )


def _evidence() -> None:
    op.create_table(
        "proposals",
        _text("id"),
        _time("at"),
        _text("strategy"),
        _text("target"),
        _text("candidate"),
        _text("outcome"),
        _text("reason"),
        _json("body"),
        _key("id"),
    )
    op.create_index("proposals_at", "proposals", ["at"])
    op.create_table(
        "looks",
        _decision(),
        _time("at"),
        _text("run"),
        _text("outcome"),
        _text("stage_outcome"),
        _text("move"),
        _text("detail"),
        _json("verdict"),
        _key("decision_id", "at"),
        _check("looks_outcome", _among("outcome", OUTCOMES)),
        _check("looks_stage_outcome", _among("stage_outcome", OUTCOMES)),
    )
    op.create_table(
        "anchor_charges",
        _decision(),
        _text("target"),
        _text("metric"),
        _text("reference_arm"),
        _real("harm"),
        _real("variance"),
        _flag("settled"),
        _time("charged_at"),
        _time("forgotten_at", null=True),
        _key("decision_id", "target", "metric"),
        _check("anchor_charges_variance", "variance >= 0"),
    )


def _effects() -> None:
    op.create_table(
        "allocations",
        _text("target"),
        _int("generation"),
        _text("salt"),
        _text("baseline"),
        _json("slices"),
        _text("decision_id", null=True),
        _key("target", "generation"),
        _check("allocations_generation", "generation >= 1"),
    )
    op.create_table(
        "intents",
        _text("key"),
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
        _key("key"),
        sa.ForeignKeyConstraint(
            ["target", "generation"], ["allocations.target", "allocations.generation"]
        ),
        _check("intents_then_state", _among("then_state", STATES)),
        _check("intents_then_stage", "then_stage >= -1"),
        _check("intents_status", _among("status", ("open", "applied", "failed"))),
        _check("intents_closed", "(status = 'open') = (closed_at IS NULL)"),
    )
    _partial_index("intents_open", "intents", "status = 'open'")
    op.create_index("intents_decision", "intents", ["decision_id"])
    op.create_table(
        "configuration_snapshots",
        _text("id"),
        _text("target"),
        _decision(),
        _json("allocation"),
        _json("arms"),
        _time("taken_at"),
        _text("sha256"),
        _key("id"),
        sa.UniqueConstraint("decision_id"),
    )
    op.create_table(
        "baselines",
        _text("target"),
        _text("arm"),
        _time("since"),
        _text("intent"),
        _key("target"),
    )
    op.create_table(
        "pauses", _text("target"), _time("at"), _text("actor"), _text("reason"), _key("target")
    )
    op.create_table(
        "leases",
        _text("target"),
        _text("holder", null=True),
        _int("token"),
        _time("expires_at"),
        _key("target"),
        _check("leases_token", "token >= 1"),
    )


def _intake() -> None:
    op.create_table(
        "source_cursors",
        _text("source"),
        _json("cursor"),
        _int("version"),
        _int("newest_s", null=True),
        _time("pulled_at"),
        _int("n_rows"),
        _int("n_duplicates"),
        _int("n_quarantined"),
        _int("n_late"),
        _key("source"),
        _check("source_cursors_version", "version >= 1"),
    )
    op.create_table(
        "spool_files",
        _text("name"),
        _text("dataset"),
        _text("source"),
        _int("n_rows"),
        _int("min_s"),
        _int("max_s"),
        _key("name"),
        _check("spool_files_rows", "n_rows >= 0"),
        _check("spool_files_span", "min_s <= max_s"),
    )
    op.create_index("spool_files_span", "spool_files", ["dataset", "max_s", "min_s"])
    op.create_table(
        "dirty_windows",
        _int("window_start_s"),
        _int("version"),
        _int("aggregated"),
        _key("window_start_s"),
        _check("dirty_windows_versions", "version >= 1 AND aggregated >= 0"),
    )
    _partial_index("dirty_windows_open", "dirty_windows", "version > aggregated", "window_start_s")
    op.create_table(
        "aggregates",
        _int("width_s"),
        _int("window_start_s"),
        _text("target"),
        _text("arm"),
        _text("slice"),
        *(_int(name) for name in SUMS),
        sa.Column("histogram", sa.LargeBinary, nullable=False),
        sa.Column("clusters", sa.LargeBinary, nullable=False),
        _key("width_s", "window_start_s", "target", "arm", "slice"),
        _check("aggregates_width", "width_s > 0"),
        _check("aggregates_slice", _among("slice", ("baseline", "control", "canary"))),
        _check("aggregates_rows", "n >= 0"),
        # The key is most of a row's text: SQLite need not keep it twice.
        sqlite_with_rowid=False,
    )


def _runs() -> None:
    op.create_table(
        "runs",
        _text("id"),
        _text("flow"),
        _time("as_of"),
        _time("started_at"),
        _text("config_hash"),
        _time("ended_at", null=True),
        _text("status"),
        _json("summary", null=True),
        _key("id"),
    )
    op.create_index("runs_started_at", "runs", ["started_at"])
    op.create_table(
        "analyzer_insights",
        _text("id"),
        _time("as_of"),
        _text("analyzer"),
        _text("kind"),
        _text("severity"),
        _text("target"),
        _json("body"),
        _key("id"),
        _check(
            "analyzer_insights_severity",
            _among("severity", ("info", "warning", "error", "critical")),
        ),
    )
    op.create_index("analyzer_insights_as_of", "analyzer_insights", ["as_of"])
    op.create_table(
        "audit_log",
        # SQLite numbers rows by itself only under the type INTEGER.
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=True),
        _time("at"),
        _text("actor"),
        _text("operation"),
        _json("detail"),
        _key("id"),
    )


def _partial_index(
    name: str, table: str, condition: str, column: str = "target", *, unique: bool = False
) -> None:
    where = sa.text(condition)
    op.create_index(
        name, table, [column], unique=unique, sqlite_where=where, postgresql_where=where
    )


def _is_sqlite() -> bool:
    return op.get_context().dialect.name == "sqlite"


def _append_only() -> None:
    """Make the logs refuse every change but one more row, whoever asks."""
    if _is_sqlite():
        for table in APPEND_ONLY:
            _sqlite_triggers(table)
        return
    op.execute(
        "CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION '% is append-only', TG_TABLE_NAME; END $$"
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def _sqlite_triggers(table: str) -> None:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
    for act in ("UPDATE", "DELETE"):
        op.execute(f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} {refuse}")
    # INSERT OR REPLACE deletes without firing the trigger on DELETE.
    taken = {
        "decision_events": (
            "SELECT 1 FROM decision_events WHERE decision_id = NEW.decision_id AND seq = NEW.seq"
        ),
        "audit_log": "SELECT 1 FROM audit_log WHERE id = NEW.id",
    }[table]
    op.execute(
        f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN EXISTS ({taken}) {refuse}"
    )


def _views() -> None:
    op.execute(
        """
        CREATE VIEW deployments AS
        SELECT d.id AS decision_id, d.target, d.baseline, d.candidate, d.state, d.stage,
               d.generation, i.started_at, d.deployed_at,
               CASE WHEN d.state = 'completed' THEN d.ended_at END AS completed_at,
               CASE WHEN d.state = 'rolled_back' THEN d.ended_at END AS rolled_back_at,
               d.approved_by, d.reason
        FROM decisions AS d
        JOIN (SELECT decision_id, MIN(created_at) AS started_at FROM intents GROUP BY decision_id)
          AS i ON i.decision_id = d.id
        """
    )
    op.execute(
        """
        CREATE VIEW rollbacks AS
        SELECT e.decision_id, d.target, d.candidate, e.from_state, e.at AS triggered_at,
               e.actor AS triggered_by, e.reason,
               CASE WHEN d.ended_at IS NULL THEN 'in_progress' ELSE 'completed' END AS status,
               d.ended_at AS completed_at, e.evidence
        FROM decision_events AS e
        JOIN decisions AS d ON d.id = e.decision_id
        WHERE e.to_state = 'rolling_back' AND e.from_state <> 'rolling_back'
        """
    )


def downgrade() -> None:
    for view in ("rollbacks", "deployments"):
        op.execute(f"DROP VIEW {view}")
    for table in TABLES:
        op.drop_table(table)
    if not _is_sqlite():
        op.execute("DROP FUNCTION refuse_change()")
