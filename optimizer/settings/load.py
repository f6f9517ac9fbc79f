"""Read the file and the environment into checked settings, and say where each problem stands."""

import difflib
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from optimizer.errors import ConfigError
from optimizer.settings.build import policy_of, target_of
from optimizer.settings.model import Settings

PREFIX = "OPTIMIZER_"
_SEPARATOR = "__"

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Checked settings, where they came from, and a fingerprint of everything that shaped them.

    ``origins`` maps dotted paths that were set to ``file:line`` or the variable's name.
    """

    settings: Settings
    path: Path
    fingerprint: str
    origins: Mapping[str, str]


def load(path: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    """Settings from the file and the environment (None: the process's own).

    Raises:
        ConfigError: naming every problem with file, line, path, value and bound.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        msg = f"{path}: no such file; `llmopt config init` writes one to start from"
        raise ConfigError(msg) from None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: cannot be read: {error}"
        raise ConfigError(msg) from error
    return load_text(text, path, os.environ if environment is None else environment)


def load_text(text: str, path: Path, environment: Mapping[str, str]) -> Loaded:
    """Settings from YAML text; ``path`` is what messages call it.

    Raises:
        ConfigError: as :func:`load`.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        msg = f"{path}: not YAML: {error}"
        raise ConfigError(msg) from error
    raw = {} if raw is None else raw
    if not isinstance(raw, dict):
        msg = f"{path}:1: the file must be a mapping of sections, not {type(raw).__name__}"
        raise ConfigError(msg)
    lines: dict[Place, int] = {}
    repeated: list[str] = []
    if node is not None:
        _collect(node, (), lines, repeated, path)
    if repeated:
        raise ConfigError("\n".join(repeated))
    origins = {place: f"{path}:{line}" for place, line in lines.items()}
    merged = _with_environment(raw, environment, origins)
    settings = _checked(merged, origins, path)
    _check_domain(settings, origins, path)
    return Loaded(
        settings=settings,
        path=path,
        fingerprint=_fingerprint(merged),
        origins=MappingProxyType({_dotted(place): origin for place, origin in origins.items()}),
    )


def _fingerprint(merged: Mapping[str, Any]) -> str:
    return hashlib.sha256(yaml.safe_dump(merged, sort_keys=True).encode()).hexdigest()


def _collect(
    node: yaml.Node,
    place: Place,
    lines: dict[Place, int],
    repeated: list[str],
    path: Path,
) -> None:
    """Note the line of every value, and keys that are written twice."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            here = (*place, str(key.value))
            if key.value in seen:
                line = key.start_mark.line + 1
                repeated.append(f"{path}:{line}: {_dotted(here)}: the key is written twice")
            seen.add(key.value)
            lines[here] = key.start_mark.line + 1
            _collect(value, here, lines, repeated, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*place, index)] = value.start_mark.line + 1
            _collect(value, (*place, index), lines, repeated, path)


def _with_environment(
    raw: Mapping[str, Any], environment: Mapping[str, str], origins: dict[Place, str]
) -> dict[str, Any]:
    """The file's values under those of the environment; list items are named by their index."""
    merged: dict[str, Any] = yaml.safe_load(yaml.safe_dump(dict(raw)))
    for name in sorted(environment):
        if not name.startswith(PREFIX) or _SEPARATOR not in name:
            continue
        parts = [part.lower() for part in name.removeprefix(PREFIX).split(_SEPARATOR)]
        place: Place = tuple(int(part) if part.isdigit() else part for part in parts)
        _put(merged, place, _scalar(environment[name]), name)
        origins[place] = name
    return merged


def _scalar(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def _put(container: Any, place: Place, value: object, name: str) -> None:
    *parents, last = place
    for step in parents:
        container = _step(container, step, name)
    if isinstance(container, dict):
        container[last] = value
    elif isinstance(container, list) and isinstance(last, int) and last < len(container):
        container[last] = value
    else:
        msg = f"{name}: {_dotted(place)} is no place in the configuration"
        raise ConfigError(msg)


def _step(container: Any, step: str | int, name: str) -> Any:
    if isinstance(container, dict):
        if container.get(step) is None:
            container[step] = {}
        return container[step]
    if isinstance(container, list) and isinstance(step, int) and step < len(container):
        return container[step]
    msg = f"{name}: there is no {step!r} to step into"
    raise ConfigError(msg)


def _checked(merged: Mapping[str, Any], origins: Mapping[Place, str], path: Path) -> Settings:
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        problems = [
            _problem(item, merged, origins, path)
            for item in error.errors(include_url=False, include_context=False)
        ]
        raise ConfigError("\n".join(problems)) from None


def _problem(
    item: Mapping[str, Any],
    merged: Mapping[str, Any],
    origins: Mapping[Place, str],
    path: Path,
) -> str:
    place = _real_place(item["loc"], merged)
    where = _where(place, origins, path)
    if item["type"] == "extra_forbidden":
        hint = _suggestion(place)
        return f"{where}: {_dotted(place)}: unknown key{hint}"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{where}: {_dotted(place)}: is required and absent"
    shown = _shown(place, merged)
    return f"{where}: {_dotted(place)}{shown}: {message[:1].lower()}{message[1:]}"


def _real_place(loc: Sequence[str | int], merged: Any) -> Place:
    """Drop the tags pydantic puts into paths of tagged unions."""
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


_SECRET = frozenset({"connection_string", "url", "secret"})


def _shown(place: Place, merged: Any) -> str:
    """The offending value, never a secret or a whole section."""
    value = merged
    for step in place:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return ""
    if isinstance(value, dict | list) or (place and place[-1] in _SECRET):
        return ""
    return f" = {value!r}"


def _where(place: Place, origins: Mapping[Place, str], path: Path) -> str:
    for length in range(len(place), 0, -1):
        if place[:length] in origins:
            return origins[place[:length]]
    return f"{path}:1"


def _dotted(place: Place) -> str:
    """``("targets", 0, "arms")`` as ``targets[0].arms``."""
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def _suggestion(place: Place) -> str:
    known = sorted({name for model in _models_at(place[:-1]) for name in model.model_fields})
    close = difflib.get_close_matches(str(place[-1]), known, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known here: {', '.join(known)}" if known else ""


def _models_at(place: Place) -> list[type[BaseModel]]:
    """The models that may stand at a place; several where the file chooses by ``kind``."""
    models: list[type[BaseModel]] = [Settings]
    for step in place:
        if isinstance(step, int):
            continue
        models = [
            found
            for model in models
            if step in model.model_fields
            for found in _models_in(model.model_fields[step].annotation)
        ]
    return models


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    origin = get_origin(annotation)
    if origin in {list, Union, UnionType, Annotated}:
        return [found for part in get_args(annotation) for found in _models_in(part)]
    return []


def _check_domain(settings: Settings, origins: Mapping[Place, str], path: Path) -> None:
    """Build every target and policy once, so that what cannot be built is refused here."""
    problems = []
    gateways = [gateway.name for gateway in settings.integrations.gateways]
    names = [target.name for target in settings.targets]
    for index, target in enumerate(settings.targets):
        where = _where(("targets", index), origins, path)
        label = f"{where}: targets[{index}] ({target.name})"
        if names.index(target.name) != index:
            problems.append(f"{label}: two targets have this name")
        problem = _gateway_problem(target.gateway, gateways)
        if problem:
            problems.append(f"{label}.gateway = {target.gateway!r}: {problem}")
        try:
            target_of(target)
            policy_of(target, settings.defaults)
        except ValueError as error:
            problems.append(f"{label}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))


def _gateway_problem(name: str | None, gateways: Sequence[str]) -> str:
    if name is None and len(gateways) != 1:
        return f"needed, because {len(gateways)} gateways are configured: {list(gateways)}"
    if name is not None and name not in gateways:
        close = difflib.get_close_matches(name, gateways, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        return f"is none of the configured gateways {list(gateways)}{hint}"
    return ""
