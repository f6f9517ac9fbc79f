"""What is wrong with a file, in words: origin, path, value, bound, and what was probably meant."""

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from optimizer.errors import ConfigError
from optimizer.settings.fields import is_leaf, is_secret, models_at
from optimizer.settings.model import Settings
from optimizer.settings.places import Place, Raw, dotted, origin_of

_LONGEST_VALUE = 80


def checked(merged: Mapping[str, Any], origins: Mapping[Place, str], path: Path) -> Settings:
    """The settings.

    Raises:
        ConfigError: naming every problem.
    """
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        found = [
            problem(item, merged, origins, path)
            for item in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise ConfigError("\n".join(dict.fromkeys(found))) from None


def problem(
    item: Mapping[str, Any], merged: Mapping[str, Any], origins: Mapping[Place, str], path: Path
) -> str:
    """One of pydantic's complaints as a line."""
    place = _real_place(item["loc"], merged)
    where = f"{origin_of(place, origins, path)}: {dotted(place)}"
    if item["type"] == "extra_forbidden":
        return f"{where}: unknown key{suggestion(place)}"
    if item["type"] == "missing":
        return f"{where}: is required and absent"
    if item["type"] == "union_tag_not_found":
        return f"{where}.kind: is required and absent"
    message = str(item["msg"]).removeprefix("Value error, ")
    if item["type"] == "string_type":
        message = "must be text; write it in quotes"
    return f"{where}{_shown(place, merged)}: {message[:1].lower()}{message[1:]}"


def suggestion(place: Place) -> str:
    """What an unknown key was probably meant to be, or what is known there."""
    known = sorted({name for model in models_at(place[:-1]) for name in model.model_fields})
    close = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _real_place(loc: Sequence[str | int], merged: Raw) -> Place:
    """Drop the tags that pydantic puts into the paths of tagged unions."""
    place: list[str | int] = []
    value = merged
    for index, step in enumerate(loc):
        last = index == len(loc) - 1
        if isinstance(value, dict) and (step in value or last):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            continue
        place.append(step)
    return tuple(place)


def _shown(place: Place, merged: Raw) -> str:
    """The offending value; never a secret, a whole section, or what stands in a section's place."""
    value = merged
    for step in place:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return ""
    if isinstance(value, dict | list) or is_secret(place) or not is_leaf(place):
        return ""
    text = repr(value)
    return f" = {text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + '…'}"
