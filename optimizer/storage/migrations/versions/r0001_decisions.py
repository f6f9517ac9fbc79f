"""Decisions, what they rest on, what became of them, and the views for operators."""

import sqlalchemy as sa
from alembic import op

from optimizer.storage.ddl import (
    among,
    append_only,
    check,
    decision,
    drop_append_only,
    flag,
    json,
    partial_index,
    primary_key,
    real,
    text,
    time,
    whole,
)

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


def upgrade() -> None:
    _decisions()
    _evidence()
    _effects()
    append_only("decision_events", "decision_id = NEW.decision_id AND seq = NEW.seq")
    _views()


def _decisions() -> None:
    op.create_table(
        "decisions",
        text("id"),
        text("proposal_id"),
        text("target"),
        text("strategy"),
        text("baseline"),
        text("candidate"),
        text("rationale"),
        json("expected"),
        time("created_at"),
        text("created_by"),
        text("config_hash"),
        flag("exploratory"),
        flag("urgent"),
        text("state"),
        whole("version"),
        whole("stage"),
        time("stage_entered_at", null=True),
        time("evidence_from", null=True),
        whole("look"),
        text("hold_reason"),
        real("latency_threshold_ms", null=True),
        time("approval_asked_at", null=True),
        text("approved_by", null=True),
        time("deployed_at", null=True),
        time("ended_at", null=True),
        text("abort_to", null=True),
        text("reason"),
        whole("generation"),
        text("salt"),
        json("actual", null=True),
        primary_key("id"),
        check("decisions_state", among("state", STATES)),
        check("decisions_abort_to", among("abort_to", FINAL)),
        check("decisions_arms", "candidate <> baseline"),
        check("decisions_counters", "version >= 0 AND look >= 0 AND generation >= 0"),
        check("decisions_stage", "stage >= -1"),
    )
    partial_index(
        "decisions_one_in_flight",
        "decisions",
        "state NOT IN ({})".format(", ".join(f"'{value}'" for value in FINAL)),
        unique=True,
    )
    op.create_index("decisions_ended_at", "decisions", ["ended_at"])
    op.create_table(
        "decision_events",
        decision(),
        whole("seq"),
        time("at"),
        text("kind"),
        text("from_state"),
        text("to_state"),
        text("actor"),
        text("reason"),
        text("run_id"),
        json("evidence"),
        text("prev_hash"),
        text("hash"),
        primary_key("decision_id", "seq"),
        check("decision_events_seq", "seq >= 1"),
        check("decision_events_from", among("from_state", STATES)),
        check("decision_events_to", among("to_state", STATES)),
    )


def _evidence() -> None:
    op.create_table(
        "proposals",
        text("id"),
        time("at"),
        text("strategy"),
        text("target"),
        text("candidate"),
        text("outcome"),
        text("reason"),
        json("body"),
        primary_key("id"),
    )
    op.create_index("proposals_at", "proposals", ["at"])
    op.create_table(
        "looks",
        decision(),
        time("at"),
        text("run"),
        text("outcome"),
        text("stage_outcome"),
        text("move"),
        text("detail"),
        json("verdict"),
        primary_key("decision_id", "at"),
        check("looks_outcome", among("outcome", OUTCOMES)),
        check("looks_stage_outcome", among("stage_outcome", OUTCOMES)),
    )
    op.create_table(
        "anchor_charges",
        decision(),
        text("target"),
        text("metric"),
        text("reference_arm"),
        real("harm"),
        real("variance"),
        flag("settled"),
        time("charged_at"),
        time("forgotten_at", null=True),
        primary_key("decision_id", "target", "metric"),
        check("anchor_charges_variance", "variance >= 0"),
    )


def _effects() -> None:
    op.create_table(
        "allocations",
        text("target"),
        whole("generation"),
        text("salt"),
        text("baseline"),
        json("slices"),
        text("decision_id", null=True),
        primary_key("target", "generation"),
        check("allocations_generation", "generation >= 1"),
    )
    op.create_table(
        "intents",
        text("key"),
        decision(null=True),
        text("target"),
        whole("generation"),
        text("move"),
        text("then_state", null=True),
        whole("then_stage", null=True),
        text("reason"),
        time("created_at"),
        text("status"),
        json("read_back", null=True),
        time("closed_at", null=True),
        primary_key("key"),
        sa.ForeignKeyConstraint(
            ["target", "generation"], ["allocations.target", "allocations.generation"]
        ),
        check("intents_then_state", among("then_state", STATES)),
        check("intents_then_stage", "then_stage >= -1"),
        check("intents_status", among("status", ("open", "applied", "failed"))),
        check("intents_closed", "(status = 'open') = (closed_at IS NULL)"),
    )
    partial_index("intents_open", "intents", "status = 'open'")
    op.create_index("intents_decision", "intents", ["decision_id"])
    op.create_table(
        "configuration_snapshots",
        text("id"),
        text("target"),
        decision(),
        json("allocation"),
        json("arms"),
        time("taken_at"),
        text("sha256"),
        primary_key("id"),
        sa.UniqueConstraint("decision_id"),
    )
    op.create_table(
        "baselines",
        text("target"),
        text("arm"),
        time("since"),
        text("intent"),
        primary_key("target"),
    )
    op.create_table(
        "pauses", text("target"), time("at"), text("actor"), text("reason"), primary_key("target")
    )
    op.create_table(
        "leases",
        text("target"),
        text("holder", null=True),
        whole("token"),
        time("expires_at"),
        primary_key("target"),
        check("leases_token", "token >= 1"),
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
    for table in (
        "configuration_snapshots",
        "intents",
        "allocations",
        "leases",
        "pauses",
        "baselines",
        "anchor_charges",
        "looks",
        "proposals",
    ):
        op.drop_table(table)
    drop_append_only("decision_events")
    op.drop_table("decisions")
