"""Observations from a table or a query of any database that SQLAlchemy speaks to."""

from optimizer.integrations.sql.source import SqlSource

__all__ = ["SqlSource"]
