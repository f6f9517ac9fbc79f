"""Places in the file: paths of keys and indices, where each was written, how people read them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Place = tuple[str | int, ...]
Raw = Any
"""A value as YAML wrote it, before it is checked."""


def dotted(place: Place) -> str:
    """The place as people write it.

    Examples:
        >>> dotted(("targets", 0, "arms", 1, "name"))
        'targets[0].arms[1].name'
    """
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def origin_of(place: Place, origins: Mapping[Place, str], path: Path) -> str:
    """Where the place, else something in it, else the nearest one around it, was written.

    ``file:line`` or a variable.
    """
    if place in origins:
        return origins[place]
    for inner, origin in origins.items():
        if inner[: len(place)] == place:
            return origin
    for length in range(len(place) - 1, 0, -1):
        if place[:length] in origins:
            return origins[place[:length]]
    return f"{path}:1"
