"""The ledger in a SQL database: SQLite for one machine, PostgreSQL for production."""

from optimizer.storage.ledger import SqlLedger

__all__ = ["SqlLedger"]
