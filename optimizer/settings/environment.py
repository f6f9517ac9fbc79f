"""Settings from the environment: ``OPTIMIZER_<SECTION>__<KEY>``, list items by their index.

``OPTIMIZER_INTEGRATIONS__SOURCES__0__URL`` sets ``integrations.sources[0].url``. Where text is
expected the value is taken as it stands; elsewhere it is read as YAML: ``[a, b]`` is a list.
"""

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from optimizer.errors import ConfigError
from optimizer.settings.fields import is_text
from optimizer.settings.model import Settings
from optimizer.settings.places import Place, Raw, dotted

PREFIX = "OPTIMIZER_"
_SEPARATOR = "__"


def overlay(
    values: Mapping[str, Any], environment: Mapping[str, str], origins: dict[Place, str]
) -> dict[str, Any]:
    """The values under those of the environment; ``origins`` then names the variables.

    Raises:
        ConfigError: a variable that leads nowhere, or is written with one underscore for two.
    """
    merged: dict[str, Any] = copy.deepcopy(dict(values))
    problems = []
    for name in sorted(environment):
        if not name.startswith(PREFIX):
            continue
        try:
            place = _place(name)
            if place:
                _put(merged, place, _value(place, environment[name]), name)
                _remember(place, name, origins)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return merged


def variable(place: Place) -> str:
    """The variable that sets a place.

    Examples:
        >>> variable(("integrations", "sources", 0, "url"))
        'OPTIMIZER_INTEGRATIONS__SOURCES__0__URL'
    """
    return PREFIX + _SEPARATOR.join(str(step).upper() for step in place)


def _place(name: str) -> Place:
    """The place a variable names; empty where it is none of ours."""
    rest = name.removeprefix(PREFIX)
    sections = {section.upper() for section in Settings.model_fields}
    if rest in sections or _SEPARATOR in rest:
        parts = rest.lower().split(_SEPARATOR)
        if not all(parts):
            msg = f"{name}: an empty step; write {PREFIX}<SECTION>__<KEY>"
            raise ConfigError(msg)
        return tuple(int(part) if part.isdecimal() else part for part in parts)
    for section in sections:
        if rest.startswith(f"{section}_"):
            meant = f"{PREFIX}{section}__{rest.removeprefix(f'{section}_')}"
            msg = f"{name}: is read by nobody; two underscores stand between steps: {meant}"
            raise ConfigError(msg)
    return ()


def _value(place: Place, text: str) -> object:
    if is_text(place):
        return text
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return text


def _put(merged: dict[str, Any], place: Place, value: object, name: str) -> None:
    container: Any = merged
    *parents, last = place
    for depth, step in enumerate(parents):
        if isinstance(container, dict) and container.get(step) is None:
            container[step] = {}
        _check(container, step, place[:depth], name)
        container = container[step]
    if not isinstance(container, dict):
        _check(container, last, place[:-1], name)
    container[last] = value


def _check(container: Raw, step: str | int, around: Place, name: str) -> None:
    """Refuse a step that leads nowhere: an item the list does not have, a key of a value."""
    if isinstance(container, dict):
        return
    where = dotted(around)
    if not isinstance(container, list):
        msg = f"{name}: {where} is a single value, there is no {step!r} in it"
        raise ConfigError(msg)
    if not isinstance(step, int) or step >= len(container):
        msg = f"{name}: {where} has {len(container)} items, there is no {step!r} among them"
        raise ConfigError(msg)


def _remember(place: Place, name: str, origins: dict[Place, str]) -> None:
    for inner in [known for known in origins if known[: len(place)] == place]:
        del origins[inner]
    origins[place] = name


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefectServer:
    """Where Prefect's API is, for commands that start runs there; ``auth`` is ``user:password``."""

    api_url: str
    auth: str | None

    def __repr__(self) -> str:
        return f"PrefectServer(api_url={self.api_url!r})"


def prefect_server(environment: Mapping[str, str] | None = None) -> PrefectServer | None:
    """The server that PREFECT_API_URL names; None = there is none.

    ``environment`` None is the process's own.

    Examples:
        >>> prefect_server({"PREFECT_API_URL": "http://127.0.0.1:4200/api"})
        PrefectServer(api_url='http://127.0.0.1:4200/api')
    """
    found = os.environ if environment is None else environment
    url = found.get("PREFECT_API_URL", "")
    if not url:
        return None
    return PrefectServer(api_url=url, auth=found.get("PREFECT_API_AUTH_STRING") or None)
