"""Triggers: what may be wrong with an arm in force, how severe that is, and what is done about it.

The order of :data:`TRIGGERS` settles conflicts: of several that fire on one target the most severe
is acted on, of equally severe ones the first; the others are told with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from types import MappingProxyType
from typing import Final

from optimizer.evidence import Severity

NAME: Final = "threshold"


class Response(Enum):
    """What is done, from the strongest on; what is not possible leaves it to the next."""

    ROLL_BACK = "roll_back"
    FALLBACK = "fallback"
    ADJUST = "adjust"
    LOG = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trigger:
    """One thing that may be wrong.

    severity: at its limit; relative: a change against the arm's own past, else a broken limit of
    the policy; money: a matter of money, whose way out must be cheaper and is not urgent.
    """

    name: str
    severity: Severity
    relative: bool = False
    money: bool = False


TRIGGERS: Final = (
    Trigger(name="failure_rate", severity=Severity.CRITICAL),
    Trigger(name="quality", severity=Severity.CRITICAL),
    Trigger(name="latency", severity=Severity.ERROR),
    Trigger(name="failure_increase", severity=Severity.ERROR, relative=True),
    Trigger(name="quality_drop", severity=Severity.ERROR, relative=True),
    Trigger(name="latency_increase", severity=Severity.WARNING, relative=True),
    Trigger(name="request_budget", severity=Severity.WARNING, money=True),
    Trigger(name="hourly_budget", severity=Severity.WARNING, money=True),
    Trigger(name="daily_budget", severity=Severity.WARNING, money=True),
    Trigger(name="cost_increase", severity=Severity.WARNING, relative=True, money=True),
)
"""Every trigger, in the order in which they are told apart."""

BY_NAME: Final[Mapping[str, Trigger]] = MappingProxyType({each.name: each for each in TRIGGERS})
ORDER: Final[Mapping[str, int]] = MappingProxyType(
    {each.name: place for place, each in enumerate(TRIGGERS)}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What an operator may set.

    min_requests, min_labels: rows below which nothing is proven; days: how far back other arms' own
    traffic counts; min_hours: hours of its own an arm needs before it has a past to be compared
    with; latency_increase, cost_increase, quality_drop: relative changes for the worse, fractions,
    and failure_increase: rise of the failed share, fraction of all requests, from which a change
    that is proven fires; responses: to what is how severe; cooldown: after a way out has ended, no
    change against the past fires on its target for so long, and nothing is told twice within it;
    max_attempts: ways out of one target within the policy's ``retry_after``, then only alerts;
    priority, money_priority: of the proposals.
    """

    min_requests: int = 100
    min_labels: int = 100
    days: int = 7
    min_hours: int = 96
    latency_increase: float = 0.2
    cost_increase: float = 0.5
    quality_drop: float = 0.1
    failure_increase: float = 0.02
    responses: Mapping[Severity, Response] = field(
        default_factory=lambda: MappingProxyType(
            {
                Severity.CRITICAL: Response.ROLL_BACK,
                Severity.ERROR: Response.FALLBACK,
                Severity.WARNING: Response.ADJUST,
            }
        )
    )
    cooldown: timedelta = timedelta(hours=6)
    max_attempts: int = 3
    priority: int = 100
    money_priority: int = 50

    def chain(self, severity: Severity) -> tuple[Response, ...]:
        """What is tried in turn.

        Examples:
            >>> [each.value for each in Settings().chain(Severity.ERROR)]
            ['fallback', 'adjust', 'log']
        """
        responses = list(Response)
        return tuple(responses[responses.index(self.responses[severity]) :])
