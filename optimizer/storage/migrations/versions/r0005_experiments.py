"""Experiments, their logs, and a slice of their own."""

import sqlalchemy as sa
from alembic import op

from optimizer.storage.ddl import (
    among,
    append_only,
    check,
    drop_append_only,
    flag,
    json,
    partial_index,
    primary_key,
    text,
    time,
    whole,
)

revision = "r0005"
down_revision = "r0004"
branch_labels = None
depends_on = None

STATES = ("draft", "running", "paused", "completed", "cancelled")
FINAL = ("cancelled", "completed")
SLICES = ("baseline", "control", "canary")
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
    _slices((*SLICES, "experiment"))
    op.create_table(
        "experiments",
        text("id"),
        text("target"),
        text("name"),
        json("design"),
        time("created_at"),
        text("created_by"),
        whole("turn"),
        text("state"),
        whole("version"),
        text("salt"),
        text("baseline"),
        json("before", null=True),
        json("configs"),
        flag("start_asked"),
        time("started_at", null=True),
        time("running_since", null=True),
        time("evidence_from", null=True),
        json("shares"),
        json("dropped"),
        time("resting_since", null=True),
        text("leader", null=True),
        text("winner", null=True),
        json("estimates"),
        text("ends_as", null=True),
        time("ended_at", null=True),
        text("reason"),
        text("hold_reason"),
        whole("generation"),
        primary_key("id"),
        check("experiments_state", among("state", STATES)),
        check("experiments_ends_as", among("ends_as", FINAL)),
        check("experiments_counters", "version >= 0 AND turn >= 1 AND generation >= 0"),
    )
    partial_index(
        "experiments_one_in_flight", "experiments", "state IN ('paused', 'running')", unique=True
    )
    op.create_table(
        "experiment_log",
        sa.Column("experiment_id", sa.String, sa.ForeignKey("experiments.id"), nullable=False),
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
        primary_key("experiment_id", "seq"),
        check("experiment_log_seq", "seq >= 1"),
        check("experiment_log_from", among("from_state", STATES)),
        check("experiment_log_to", among("to_state", STATES)),
    )
    append_only("experiment_log", "experiment_id = NEW.experiment_id AND seq = NEW.seq")


def downgrade() -> None:
    drop_append_only("experiment_log")
    op.drop_table("experiments")
    op.execute("DELETE FROM aggregates WHERE slice = 'experiment'")
    _slices(SLICES)


def _slices(names: tuple[str, ...]) -> None:
    """Let aggregates be of these slices; SQLite changes no condition, it copies the table."""
    if op.get_context().dialect.name != "sqlite":
        op.drop_constraint("aggregates_slice", "aggregates", type_="check")
        op.create_check_constraint("aggregates_slice", "aggregates", among("slice", names))
        return
    op.rename_table("aggregates", "aggregates_before")
    op.create_table(
        "aggregates",
        whole("width_s"),
        whole("window_start_s"),
        text("target"),
        text("arm"),
        text("slice"),
        *(whole(name) for name in SUMS),
        sa.Column("histogram", sa.LargeBinary, nullable=False),
        sa.Column("clusters", sa.LargeBinary, nullable=False),
        primary_key("width_s", "window_start_s", "target", "arm", "slice"),
        check("aggregates_width", "width_s > 0"),
        check("aggregates_slice", among("slice", names)),
        check("aggregates_rows", "n >= 0"),
        sqlite_with_rowid=False,
    )
    op.execute("INSERT INTO aggregates SELECT * FROM aggregates_before")
    op.drop_table("aggregates_before")
