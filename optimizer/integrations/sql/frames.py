"""Rows of a database as a frame of plain values: numbers, texts, booleans and moments."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import pandas as pd

from optimizer.ports.sources import Json


def frame_of(
    names: Sequence[str],
    rows: Sequence[Sequence[object]],
    paths: Mapping[str, tuple[str, tuple[str, ...]]],
) -> pd.DataFrame:
    """The rows under their column names, and the values inside JSON columns under their paths."""
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    series = {name: _series([_plain(value) for value in columns[name]]) for name in names}
    for name, (column, keys) in paths.items():
        series[name] = _series([_plain(_inside(value, keys)) for value in columns[column]])
    return pd.DataFrame(series)


def _series(values: list[object]) -> "pd.Series[Json]":
    known = [value for value in values if value is not None]
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in known)
    # With a None among them, pandas would turn whole numbers into floats.
    return pd.Series(values, dtype="Int64" if known and whole and _fits(known) else None)


def _fits(values: Sequence[object]) -> bool:
    return all(isinstance(value, int) and -(2**63) <= value < 2**63 for value in values)


def _plain(value: object) -> object:
    match value:
        case Decimal():
            return float(value)
        case UUID():
            return str(value)
        case dict() | list() | tuple():
            return json.dumps(value, default=str)
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC)
        case bytes() | bytearray() | memoryview():
            return bytes(value).decode(errors="replace")
        case _:
            return value


def _inside(value: object, keys: Sequence[str]) -> object:
    """The value at a path in a JSON document; None where it leads nowhere."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value
