"""One proposal under validation: what a rule reads, and what became of the proposal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Final

from optimizer.cycle.autonomy import TrackRecord
from optimizer.evidence import Proposal
from optimizer.policy import Policy
from optimizer.statistics.offpolicy_gate import Answer
from optimizer.targets import Needs, Offers


class Fate(Enum):
    """What became of a proposal."""

    ACCEPTED = "accepted"
    AWAITING_APPROVAL = "awaiting_approval"
    TARGET_IN_FLIGHT = "target_in_flight"
    OUTRANKED = "outranked"
    PAUSED = "paused"
    INVALID = "invalid"
    INCAPABLE = "incapable"
    SAFETY = "safety"
    BUDGET = "budget"
    OPERATIONAL = "operational"
    POLICY = "policy"
    POLICY_UNAVAILABLE = "policy_unavailable"
    MULTIPLICITY = "multiplicity"


STARTS: Final = frozenset({Fate.ACCEPTED, Fate.AWAITING_APPROVAL})
"""Fates of proposals that become a decision."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """A target's busiest hour of the last week; tokens are input and output, None = unknown."""

    requests_per_hour: float
    tokens_per_hour: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """Requests a day that unproven arms serve, and what they cost, USD a day; None = unknown."""

    daily_requests: float | None
    daily_usd: float | None


AT_REST = Risk(daily_requests=0.0, daily_usd=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What policies say of one proposal, as sentences.

    denials: each is enough to refuse it; warnings: told with the decision; unavailable: who still
    owes an answer, and why: the proposal is held.
    """

    denials: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    unavailable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One proposal with all that its validation reads.

    ``predicted`` maps a metric to (candidate, baseline); requests_per_hour None = no traffic seen;
    record: of the strategy's earlier promises, None = it has none; offers: what is known of the
    candidate's model; peak: the busiest hour, None = no traffic seen; risk: what the canary puts at
    risk, risk_in_flight what all that was started before it does; logged: what logs tell of the
    candidate's quality, and the sentence, None = it did not serve; undiscovered: why the
    proposal is no discovery among those of the hours, None = it is one, or rests on no test.
    """

    proposal: Proposal
    policy: Policy
    now: datetime
    requests_per_hour: float | None
    changes: Sequence[datetime] = ()
    spent_usd: float = 0.0
    predicted: Mapping[str, tuple[float | None, float | None]] = field(default_factory=dict)
    record: TrackRecord | None = None
    needs: Needs = field(default_factory=Needs)
    offers: Offers | None = None
    peak: Peak | None = None
    risk: Risk = AT_REST
    risk_in_flight: Risk = AT_REST
    ruling: Ruling = Ruling()
    logged: tuple[Answer, str] | None = None
    undiscovered: str | None = None


Rule = Callable[[Case], str | None]
"""Why the proposal is refused; None where the rule has nothing against it."""
