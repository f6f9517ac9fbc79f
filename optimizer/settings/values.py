"""Kinds of value that settings are made of: durations, shares, money, and sections that refuse."""

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SHORT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*")
_ISO = re.compile(r"P(?=.)(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")
LONGEST = timedelta(days=36_500)


def _duration(value: object) -> object:
    """Turn ``90s``, ``30m``, ``6h`` and ``2d`` into a timedelta; a number has no unit."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        found = _SHORT.fullmatch(value)
        if found and float(found[1]) * _UNITS_S[found[2]] <= LONGEST.total_seconds():
            return timedelta(seconds=float(found[1]) * _UNITS_S[found[2]])
        if _ISO.fullmatch(value):
            return value
    msg = "must be a duration with a unit, such as 90s, 30m, 6h or 2d, of at most 36500d"
    raise ValueError(msg)


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        msg = "must not be negative"
        raise ValueError(msg)
    return value


def short(duration: timedelta) -> str:
    """The duration as people write it.

    Examples:
        >>> [short(timedelta(hours=n)) for n in (0, 6, 36, 48)]
        ['0s', '6h', '36h', '2d']
        >>> short(timedelta(seconds=1.5))
        '1.5s'
    """
    seconds = duration.total_seconds()
    for unit in ("d", "h", "m"):
        if seconds and seconds % _UNITS_S[unit] == 0:
            return f"{seconds / _UNITS_S[unit]:.0f}{unit}"
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"


Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    AfterValidator(_not_negative),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": r"^\s*\d+(\.\d+)?\s*[smhd]\s*$|^P",
            "examples": ["90s", "30m", "6h", "2d"],
        }
    ),
]
Share = Annotated[float, Field(ge=0, le=1)]
Usd = Annotated[float, Field(ge=0)]
MetricName = Literal[
    "failure_rate", "fallback_rate", "latency_exceedance", "latency_ms", "cost_usd", "quality"
]


class Section(BaseModel):
    """A part of the file; unknown keys are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )
