"""The cheapest arm that is not worse: a choice among measured and published arms.

Quality, latency and failures are constraints relative to the arm in force, cost is what is
minimised, and only in ratios, so that no scale decides. An arm without traffic of its own may be
proposed on a prior, to be tried, never to be believed. Before anything is proposed the ramp is
checked: one that could not answer its questions in time is refused with the hours it would need.
"""

from optimizer.strategies.pareto.settings import Settings
from optimizer.strategies.pareto.strategy import Pareto

__all__ = ["Pareto", "Settings"]
