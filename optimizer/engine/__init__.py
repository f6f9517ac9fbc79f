"""The aggregation engine: files and frames become checked rows, checked rows become aggregates."""

from optimizer.engine.duck import EngineLimits
from optimizer.engine.facade import Engine, Ingested, Replayed
from optimizer.engine.spool import Spool

__all__ = ["Engine", "EngineLimits", "Ingested", "Replayed", "Spool"]
