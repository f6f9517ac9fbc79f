"""Anomalies: newest hours unlike those before, of arms, of traffic, and of many arms at once."""

from optimizer.analyzers.anomaly.analyzer import Anomaly

__all__ = ["Anomaly"]
