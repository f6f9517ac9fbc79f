"""Analyzers: siblings that turn aggregates into insights, each a callable on the scene."""

from optimizer.analyzers.anomaly import Anomaly
from optimizer.analyzers.cost import Cost
from optimizer.analyzers.drift import Drift
from optimizer.analyzers.pattern import Pattern
from optimizer.analyzers.performance import Performance
from optimizer.analyzers.quality import Quality

__all__ = ["Anomaly", "Cost", "Drift", "Pattern", "Performance", "Quality"]
