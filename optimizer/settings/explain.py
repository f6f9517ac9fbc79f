"""Effective values, one by one: what is in force, and whether default, file or variable said so."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import date, timedelta
from enum import Enum
from pathlib import Path

from pydantic import BaseModel, SecretStr

from optimizer.policy import Policy
from optimizer.settings import profiles
from optimizer.settings.build import is_anchored
from optimizer.settings.load import Loaded
from optimizer.settings.model import GuardrailSettings, PolicySettings, Settings, TargetSettings
from optimizer.settings.places import Place, Raw, dotted
from optimizer.settings.values import short

DEFAULT = "default"
MASK = "***"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effective:
    """One setting in force.

    path: as in the file, items by index; label: the same, items by name; value: JSON-able, secrets
    masked; origin: ``default``, ``file:line``, the variable's name or the profile's.
    """

    path: str
    label: str
    value: Raw
    origin: str


def effective(loaded: Loaded) -> list[Effective]:
    """Every setting in force, in the order of the file's sections.

    What a target does not set itself is not repeated for it: it is in ``defaults``.
    """
    return [
        Effective(
            path=dotted(place),
            label=label,
            value=plain(value, name=str(place[-1])),
            origin=_origin(place, loaded),
        )
        for place, label, value in _leaves(profiles.filled(loaded.settings), (), "")
    ]


def difference(before: Loaded, after: Loaded) -> list[tuple[str, Raw, Raw]]:
    """What differs: label, value before, value after; None where one has no such setting.

    Two secrets are compared, and shown masked.
    """
    old, new = _by_label(before), _by_label(after)
    return [
        (label, _shown(old, label), _shown(new, label))
        for label in dict.fromkeys([*old, *new])
        if _value(old, label) != _value(new, label)
    ]


def _by_label(loaded: Loaded) -> dict[str, tuple[str, Raw]]:
    return {
        label: (str(place[-1]), value)
        for place, label, value in _leaves(profiles.filled(loaded.settings), (), "")
    }


def _value(found: Mapping[str, tuple[str, Raw]], label: str) -> Raw:
    """What is compared; having no items is the same as having no list."""
    value = found[label][1] if label in found else None
    return None if value in ([], ()) else value


def _shown(found: Mapping[str, tuple[str, Raw]], label: str) -> Raw:
    if label not in found:
        return None
    name, value = found[label]
    return plain(value, name=name)


def _leaves(section: Raw, place: Place, label: str) -> Iterator[tuple[Place, str, Raw]]:
    for name, value in _in_force(section):
        here, there = (*place, name), f"{label}.{name}" if label else name
        if _is_section(value):
            inner = _leaves(value, here, there)
            if isinstance(section, TargetSettings):
                # What the section leaves out comes from `defaults`, key by key.
                inner = (leaf for leaf in inner if leaf[0][-1] in value.model_fields_set)
            yield from inner
        elif isinstance(value, list | tuple) and any(_is_section(item) for item in value):
            for index, item in enumerate(value):
                yield from _leaves(item, (*here, index), f"{there}[{_name(item, index)}]")
        else:
            yield here, there, value


def _is_section(value: Raw) -> bool:
    """Whether more settings are inside: a section, or the core's own where none is written."""
    return isinstance(value, BaseModel) or is_dataclass(value)


def _name(item: Raw, index: int) -> Raw:
    return getattr(item, "name", getattr(item, "metric", index))


def _in_force(section: Raw) -> Iterator[tuple[str, Raw]]:
    """The section's values; a limit that `defaults` leaves out has its built-in value."""
    if not isinstance(section, BaseModel):
        yield from ((part.name, getattr(section, part.name)) for part in fields(section))
        return
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(section, GuardrailSettings) and name == "anchored":
            value = is_anchored(section)
        if name == "profile" and isinstance(section, TargetSettings) and value is None:
            continue
        if value is not None or name == "profile" or not isinstance(section, PolicySettings):
            yield name, value
        elif not isinstance(section, TargetSettings):
            yield name, getattr(Policy(), name)
        elif name not in PolicySettings.model_fields:
            yield name, None


def _origin(place: Place, loaded: Loaded) -> str:
    """Where the setting, or a part of it, was written."""
    here, origins = dotted(place), loaded.origins
    if here in origins:
        return origins[here]
    for length in range(len(place) - 1, 0, -1):
        around = origins.get(dotted(place[:length]))
        if around is not None and not around.rpartition(":")[2].isdecimal():
            return around  # a variable that holds a whole section
    return _profile(place, loaded.settings) or DEFAULT


def _profile(place: Place, settings: Settings) -> str:
    """The profile that set the value; empty where none did."""
    section: PolicySettings = settings.defaults
    inside = place[1:]
    if place[0] == "targets" and inside and isinstance(inside[0], int):
        section, inside = settings.targets[inside[0]], inside[1:]
    elif place[0] != "defaults":
        return ""
    if section.profile is None:
        return ""
    ours = profiles.PROFILES[section.profile]
    return f"profile {section.profile}" if profiles.said_by(ours, section, inside) else ""


def plain(value: Raw, name: str = "") -> Raw:
    """The value as JSON can hold it and people write it; secrets masked.

    Examples:
        >>> plain({"bake_time": timedelta(hours=6), "path": Path("a")})
        {'bake_time': '6h', 'path': 'a'}
    """
    if isinstance(value, SecretStr):
        return masked_url(value.get_secret_value()) if name == "connection_string" else MASK
    if isinstance(value, timedelta):
        return short(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    return _plain_inside(value)


def _plain_inside(value: Raw) -> Raw:
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    return value


def masked_url(url: str) -> str:
    """The database URL without password and options.

    Examples:
        >>> masked_url("postgresql://optimizer:s3cr@t@db:5432/llm?sslmode=require")
        'postgresql://optimizer:***@db:5432/llm'
        >>> masked_url("sqlite:////srv/a.db")
        'sqlite:////srv/a.db'
    """
    scheme, found, rest = url.partition("://")
    rest = rest.partition("?")[0]
    if scheme.startswith("sqlite"):
        return f"{scheme}://{rest}"
    account, at, host = rest.rpartition("@")
    if not found or not at:
        return f"{scheme}://{MASK}" if found else MASK
    return f"{scheme}://{account.partition(':')[0]}:{MASK}@{host}"
