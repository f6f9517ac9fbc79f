"""The ports through which effects go out: gateways, notifiers, prices, dispatch."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from optimizer.allocation import Allocation
from optimizer.cycle import Ruling
from optimizer.evidence import ProposalId
from optimizer.policy import Facts
from optimizer.ports.sources import Json
from optimizer.targets import Price


class Gateway(Protocol):
    """What splits traffic among arms. It holds desired state."""

    @property
    def name(self) -> str:
        """Unique name from the configuration."""
        ...

    def apply(self, allocation: Allocation, *, arms: Mapping[str, Mapping[str, object]]) -> None:
        """Make ``allocation`` the published one; ``arms`` maps arm names to their configurations.

        Doing so twice is the same as once, except that freshness stamps are renewed.

        Raises:
            ConflictError: the gateway already holds a newer generation.
            UnavailableError: the write did not happen or is unproven.
        """
        ...

    def read(self, target: str) -> Allocation | None:
        """The allocation in force, read back from the gateway; None where there is none.

        Raises:
            DataError: what the gateway holds cannot be understood (changed by hand, corrupt).
            UnavailableError: the gateway does not answer.
        """
        ...


class Notifier(Protocol):
    """Who is told."""

    def notify(self, *, title: str, body: str, severity: str, decision_id: str | None) -> None:
        """Tell; failures raise UnavailableError and never stop the loop."""
        ...


class PolicyPoint(Protocol):
    """Who decides by policies whether a proposal may become a decision."""

    @property
    def name(self) -> str:
        """How it is called in reasons."""
        ...

    def rule(self, asked: Mapping[ProposalId, Facts]) -> Mapping[ProposalId, Ruling]:
        """A ruling on each proposal, from its facts alone; the same facts, the same ruling.

        Nothing is raised for want of an answer: the ruling then says who owes one.
        """
        ...


class PriceBook(Protocol):
    """What a model costs."""

    def price(self, model: str, provider: str | None, at: datetime) -> Price | None:
        """The price at that time; None = unknown, never a default."""
        ...


class Dispatcher(Protocol):
    """Who starts runs."""

    def start(self, deployment: str, parameters: Mapping[str, Json], key: str) -> str:
        """Start a run once per ``key`` and return its id.

        Raises:
            UnavailableError: the server does not answer.
        """
        ...
