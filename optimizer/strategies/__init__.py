"""Strategies: siblings that turn evidence into proposals, each a callable on the scene."""

from optimizer.strategies.pareto import Pareto
from optimizer.strategies.threshold import Threshold

__all__ = ["Pareto", "Threshold"]
