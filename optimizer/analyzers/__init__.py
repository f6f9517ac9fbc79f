"""Analyzers: siblings that turn aggregates into insights, each a callable on the scene."""

from optimizer.analyzers.cost import Cost
from optimizer.analyzers.drift import Drift
from optimizer.analyzers.performance import Performance

__all__ = ["Cost", "Drift", "Performance"]
