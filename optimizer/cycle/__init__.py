"""Arbitrate and validate: proposals and the scene they were made in become decisions.

The law kept here: every proposal ends in exactly one outcome with its reason, a target starts at
most one decision, and no target's proposals touch another target's, but for a blast radius and a
share of false discoveries that all of them have in common. A proposal that fails validation leaves
its outcome and no decision row: a decision is something that may come to hold traffic, and a
refusal that repeats every hour would bury those. It is kept with the proposal, whose id carries the
hour, so that every refusal can be listed and counted all the same.
"""

from optimizer.cycle.arbitrate import Plan, decide
from optimizer.cycle.case import STARTS, Case, Fate, Rule, Ruling
from optimizer.cycle.discoveries import Discoveries, recalled
from optimizer.cycle.facts import facts_of
from optimizer.cycle.policies import together
from optimizer.cycle.start import decision_id, events_for

__all__ = [
    "STARTS",
    "Case",
    "Discoveries",
    "Fate",
    "Plan",
    "Rule",
    "Ruling",
    "decide",
    "decision_id",
    "events_for",
    "facts_of",
    "recalled",
    "together",
]
