"""Published prices of models: the data of the package genai-prices, dated, without the network.

A model is priced only under a name that the data know: the name itself, or with a snapshot's date
or number behind it. The data match some families by the beginning of a name; a variant of such a
family (``deepseek-chat-v9``) is another model and stays unknown here. A price is that of text
tokens in the first tier: long prompts, writing to a cache and batches may cost more or less, and a
model that also charges by the request is unknown, because its tokens do not tell its cost.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final

from optimizer.targets import Price

_KEPT: Final = 100_000
"""Answers that are remembered: models times moments."""

_SNAPSHOT: Final = re.compile(
    r"(?:[-@:_.]?(?:20\d{2}-?\d{2}-?\d{2}|\d{2}-\d{2}|\d{2}-20\d{2}|\d{3,4}|v\d+:\d+"
    r"|latest|preview|exp|experimental))*"
)
_VENDORS: Final = re.compile(r"(?:[a-z0-9_-]+[./])*")
"""Regions and vendors that hosts write before a model's name."""

_LITERALS: Final = ("equals", "starts_with", "contains", "ends_with")
_PARTS: Final = ("or_", "and_")


class GenaiPriceBook:
    """What providers publish, as the installed release of the data has it."""

    def __init__(self) -> None:
        # The data are megabytes of Python: whoever has all prices at home never loads them.
        self._known: Callable[[str, str | None, datetime], Price | None] = lru_cache(_KEPT)(
            _published
        )

    def price(self, model: str, provider: str | None, at: datetime) -> Price | None:
        """The published price at that time; None = unknown model, provider or way of charging."""
        # Prices change with the day, some with the half hour: one answer for five minutes.
        moment = at.astimezone(UTC)
        return self._known(
            model, provider, moment.replace(minute=moment.minute // 5 * 5, second=0, microsecond=0)
        )


def _published(model: str, provider: str | None, at: datetime) -> Price | None:
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - see GenaiPriceBook

    for name, owner in _readings(model, provider):
        try:
            found = calc_price(
                Usage(input_tokens=1), name, provider_id=owner, genai_request_timestamp=at
            )
        except LookupError:
            continue
        if _is_named(name.lower(), found.model.id, found.model.match):
            return _price(found.model_price)
    return None


def _readings(model: str, provider: str | None) -> Iterator[tuple[str, str | None]]:
    """The name as it is, then without the provider that gateways write before it."""
    yield model, provider
    prefix, slash, rest = model.partition("/")
    if slash and rest and provider in {None, prefix}:
        yield rest, prefix


def _is_named(name: str, own: str, match: object) -> bool:
    """Whether the name is one the data mean: nothing but a snapshot's mark may follow theirs."""
    return any(
        _VENDORS.fullmatch(name[:position]) is not None
        and _SNAPSHOT.fullmatch(name[position + len(known) :]) is not None
        for known in {own.lower(), *_literals(match)}
        if (position := name.find(known)) >= 0
    )


def _literals(match: object) -> Iterator[str]:
    for part in _PARTS:
        for inner in getattr(match, part, ()):
            yield from _literals(inner)
    for literal in _LITERALS:
        text = getattr(match, literal, "")
        if text:
            yield str(text).lower()


def _price(published: object) -> Price | None:
    per_input, per_output, per_cached = (
        _usd(getattr(published, name, None))
        for name in ("input_mtok", "output_mtok", "cache_read_mtok")
    )
    by_request = getattr(published, "requests_kcount", None)
    if per_input is None or per_output is None or by_request is not None:
        return None
    return Price(
        input_usd_per_mtok=per_input,
        output_usd_per_mtok=per_output,
        cached_input_usd_per_mtok=per_cached,
    )


def _usd(value: object) -> float | None:
    first = getattr(value, "base", value)
    return float(first) if isinstance(first, Decimal | int | float) else None
