"""One proposal under validation: what a rule reads, and what became of the proposal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from optimizer.evidence import Proposal
from optimizer.policy import Policy


class Fate(Enum):
    """What became of a proposal."""

    ACCEPTED = "accepted"
    AWAITING_APPROVAL = "awaiting_approval"
    TARGET_IN_FLIGHT = "target_in_flight"
    OUTRANKED = "outranked"
    PAUSED = "paused"
    INVALID = "invalid"
    SAFETY = "safety"
    BUDGET = "budget"
    OPERATIONAL = "operational"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One proposal with all that its validation reads.

    ``predicted`` maps a metric to (candidate, baseline); requests_per_hour None = no traffic seen.
    """

    proposal: Proposal
    policy: Policy
    now: datetime
    requests_per_hour: float | None
    changes: Sequence[datetime] = ()
    spent_usd: float = 0.0
    predicted: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)


Rule = Callable[[Case], str | None]
"""Why the proposal is refused; None where the rule has nothing against it."""
