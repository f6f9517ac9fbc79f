"""Frozen dataclasses to JSON and back, exactly: what is read equals what was written.

The field types steer the way back, so that datetimes, enums, tuples and None return as they were.
A number that is not finite is written as the string nan, inf or -inf, because SQL's JSON has none;
where a field's type is float it comes back as that number. Values under a field typed ``object``
have no type to steer by: there tuples return as lists, and enums and datetimes as strings.
"""

import json
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import cache
from types import MappingProxyType
from typing import Any, NewType, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

T = TypeVar("T")
Decoder = Callable[[Any], Any]


def utc(value: datetime) -> datetime:
    """The same instant in UTC.

    Raises:
        ValueError: the datetime names no zone.
    """
    if value.tzinfo is None:
        msg = f"{value.isoformat()} has no time zone; the ledger keeps instants"
        raise ValueError(msg)
    return value.astimezone(UTC)


def encode(value: object) -> Any:  # noqa: ANN401, C901, PLR0911 - one branch per JSON kind
    """What the json module can write, finite numbers only.

    Raises:
        TypeError: the value has no JSON form.
        ValueError: a datetime names no zone.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Enum):
        return encode(value.value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(float(value))
    if isinstance(value, datetime):
        return utc(value).isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Mapping):
        return {str(encode(name)): encode(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(encode(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    msg = f"{type(value).__name__} has no JSON form"
    raise TypeError(msg)


def plain(value: object) -> Any:  # noqa: ANN401 - JSON
    """What :func:`encode` would give after it was written to text and read back."""
    return json.loads(json.dumps(encode(value)))


def decode(kind: type[T], data: Any) -> T:  # noqa: ANN401 - JSON
    """The value of that type which :func:`encode` turned into ``data``."""
    return cast("T", _decoder(cast("Any", kind))(data))


def to_row(value: object) -> dict[str, Any]:
    """Column values, one per field of a dataclass; nested values as JSON."""
    if not is_dataclass(value) or isinstance(value, type):
        msg = f"{type(value).__name__} is no dataclass"
        raise TypeError(msg)
    return {field.name: _cell(getattr(value, field.name)) for field in fields(value)}


def from_row(kind: type[T], row: Mapping[Any, Any]) -> T:
    """The dataclass whose fields stand in the row's columns; other columns are passed over."""
    return kind(**{name: read(row[name]) for name, read in _fields(cast("Any", kind)).items()})


def _cell(value: object) -> object:
    return value if isinstance(value, datetime | float) else encode(value)


@cache
def _fields(kind: type) -> Mapping[str, Decoder]:
    hints = get_type_hints(kind)
    return {field.name: _decoder(hints[field.name]) for field in fields(kind)}


@cache
def _decoder(kind: Any) -> Decoder:  # noqa: ANN401 - a type expression
    if isinstance(kind, NewType):
        return _decoder(kind.__supertype__)
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _optional(kind)
    if origin is tuple:
        return _tuple(get_args(kind))
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(_decoder(get_args(kind)[1]))
    if is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind)
    return _scalar(kind)


def _scalar(kind: Any) -> Decoder:  # noqa: ANN401 - a type expression
    if kind is datetime:
        return _datetime
    if kind is timedelta:
        return _timedelta
    if kind is float or (isinstance(kind, type) and issubclass(kind, Enum)):
        return cast("Decoder", kind)
    return _as_is


def _as_is(data: Any) -> Any:  # noqa: ANN401 - JSON
    return data


def _datetime(data: Any) -> datetime:  # noqa: ANN401 - JSON or a column
    return utc(data if isinstance(data, datetime) else datetime.fromisoformat(data))


def _timedelta(data: Any) -> timedelta:  # noqa: ANN401 - JSON
    return timedelta(seconds=data)


def _optional(kind: Any) -> Decoder:  # noqa: ANN401 - a type expression
    (inner,) = (part for part in get_args(kind) if part is not type(None))
    read = _decoder(inner)
    return lambda data: None if data is None else read(data)


def _tuple(parts: tuple[Any, ...]) -> Decoder:
    if parts[-1] is Ellipsis:
        read = _decoder(parts[0])
        return lambda data: tuple(read(item) for item in data)
    readers = tuple(map(_decoder, parts))
    return lambda data: tuple(read(item) for read, item in zip(readers, data, strict=True))


def _mapping(read: Decoder) -> Decoder:
    return lambda data: MappingProxyType({name: read(item) for name, item in data.items()})


def _dataclass(kind: type) -> Decoder:
    return lambda data: kind(
        **{name: read(data[name]) for name, read in _fields(kind).items() if name in data}
    )
