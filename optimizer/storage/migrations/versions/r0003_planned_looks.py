"""Planned looks: the plan of a ramp, and what its looks have spent."""

from alembic import op

from optimizer.storage.ddl import decision, json, primary_key, time

revision = "r0003"
down_revision = "r0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("decisions", json("plan", null=True))
    op.create_table(
        "spent_looks",
        decision(),
        time("until"),
        json("spent"),
        primary_key("decision_id"),
    )


def downgrade() -> None:
    op.drop_table("spent_looks")
    op.drop_column("decisions", "plan")
