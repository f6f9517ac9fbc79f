"""What Alembic runs: the migrations, on the connection it is handed, inside its transaction."""

from alembic import context

from optimizer.storage.migrate import VERSION_TABLE
from optimizer.storage.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    # SQLite changes a table by copying it; a migration written so runs on both databases.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
