"""The way out of an arm in force that breaks a limit, or that changed against its own past."""

from optimizer.strategies.threshold.settings import NAME, TRIGGERS, Response, Settings, Trigger
from optimizer.strategies.threshold.strategy import Threshold

__all__ = ["NAME", "TRIGGERS", "Response", "Settings", "Threshold", "Trigger"]
