"""Discoveries: what the proposals of each hour had tested and found, for the hours after it."""

from alembic import op

from optimizer.storage.ddl import json, primary_key, time

revision = "r0004"
down_revision = "r0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "discoveries",
        time("as_of"),
        json("state"),
        primary_key("as_of"),
    )


def downgrade() -> None:
    op.drop_table("discoveries")
