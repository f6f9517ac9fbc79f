"""What was observed, aggregated and done: intake, grains, runs, insights, audit."""

import sqlalchemy as sa
from alembic import op

from optimizer.storage.ddl import (
    among,
    append_only,
    check,
    drop_append_only,
    json,
    partial_index,
    primary_key,
    text,
    time,
    whole,
)

revision = "r0002"
down_revision = "r0001"
branch_labels = None
depends_on = None

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
    _intake()
    _aggregates()
    _runs()
    append_only("audit_log", "id = NEW.id")


def _intake() -> None:
    op.create_table(
        "source_cursors",
        text("source"),
        json("cursor"),
        whole("version"),
        whole("newest_s", null=True),
        time("pulled_at"),
        whole("n_rows"),
        whole("n_duplicates"),
        whole("n_quarantined"),
        whole("n_late"),
        primary_key("source"),
        check("source_cursors_version", "version >= 1"),
    )
    op.create_table(
        "spool_files",
        text("name"),
        text("dataset"),
        text("source"),
        whole("n_rows"),
        whole("min_s"),
        whole("max_s"),
        primary_key("name"),
        check("spool_files_rows", "n_rows >= 0"),
        check("spool_files_span", "min_s <= max_s"),
    )
    op.create_index("spool_files_span", "spool_files", ["dataset", "max_s", "min_s"])
    op.create_table(
        "dirty_windows",
        whole("window_start_s"),
        whole("version"),
        whole("aggregated"),
        primary_key("window_start_s"),
        check("dirty_windows_versions", "version >= 1 AND aggregated >= 0"),
    )
    partial_index("dirty_windows_open", "dirty_windows", "version > aggregated", "window_start_s")


def _aggregates() -> None:
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
        check("aggregates_slice", among("slice", ("baseline", "control", "canary"))),
        check("aggregates_rows", "n >= 0"),
        # The key is most of a row's text: SQLite need not keep it twice.
        sqlite_with_rowid=False,
    )


def _runs() -> None:
    op.create_table(
        "runs",
        text("id"),
        text("flow"),
        time("as_of"),
        time("started_at"),
        text("config_hash"),
        time("ended_at", null=True),
        text("status"),
        json("summary", null=True),
        primary_key("id"),
    )
    op.create_index("runs_started_at", "runs", ["started_at"])
    op.create_table(
        "analyzer_insights",
        text("id"),
        time("as_of"),
        text("analyzer"),
        text("kind"),
        text("severity"),
        text("target"),
        json("body"),
        primary_key("id"),
        check(
            "analyzer_insights_severity",
            among("severity", ("info", "warning", "error", "critical")),
        ),
    )
    op.create_index("analyzer_insights_as_of", "analyzer_insights", ["as_of"])
    op.create_table(
        "audit_log",
        # SQLite numbers rows by itself only under the type INTEGER.
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), autoincrement=True),
        time("at"),
        text("actor"),
        text("operation"),
        json("detail"),
        primary_key("id"),
    )


def downgrade() -> None:
    drop_append_only("audit_log")
    for table in (
        "analyzer_insights",
        "runs",
        "aggregates",
        "dirty_windows",
        "spool_files",
        "source_cursors",
    ):
        op.drop_table(table)
