"""The operator's own table of prices by model and date, before what anybody publishes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from optimizer.ports import PriceBook
from optimizer.targets import Price


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceEntry:
    """What a model costs from a moment on.

    provider: None = whoever serves it; since: aware, None = ever since.
    """

    model: str
    provider: str | None = None
    since: datetime | None = None
    price: Price

    def __post_init__(self) -> None:
        """Refuse a moment without a time zone."""
        if self.since is not None and self.since.tzinfo is None:
            msg = f"since of {self.model} has no time zone: {self.since.isoformat()}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceList:
    """The newest entry that names the model and has begun, else what ``otherwise`` says.

    An entry that names the provider comes before one that does not, whatever their dates.
    """

    entries: Sequence[PriceEntry]
    otherwise: PriceBook

    def price(self, model: str, provider: str | None, at: datetime) -> Price | None:
        """The price at that time; None = unknown."""
        begun = [
            entry
            for entry in self.entries
            if entry.model == model
            and entry.provider in {None, provider}
            and (entry.since is None or entry.since <= at)
        ]
        if not begun:
            return self.otherwise.price(model, provider, at)
        return max(begun, key=_rank).price


def _rank(entry: PriceEntry) -> tuple[bool, float]:
    since = float("-inf") if entry.since is None else entry.since.timestamp()
    return entry.provider is not None, since
