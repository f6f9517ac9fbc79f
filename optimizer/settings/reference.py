"""The settings described from their own definitions: a JSON schema, and a page for people."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from optimizer.policy import Policy
from optimizer.settings.environment import variable
from optimizer.settings.explain import plain
from optimizer.settings.fields import models_in
from optimizer.settings.load import MAX_BYTES
from optimizer.settings.model import PolicySettings, Settings, TargetSettings
from optimizer.settings.places import Raw

PAGE_COMMAND = "llmopt config schema --format markdown > docs/configuration.md"

_HEAD = f"""# Configuration

One YAML file, `optimizer.yaml` unless `--config` or `LLMOPT_CONFIG` names another, and the
environment. `llmopt config init` writes a file to start from, `validate` checks one, `show` prints
every value in force with its origin, `diff` compares, `schema` prints a JSON schema for editors.

Order: built-in defaults, then the file, then `OPTIMIZER_<SECTION>__<KEY>`. Two underscores stand
between steps, list items are named by their index:
`{variable(("integrations", "sources", 0, "url"))}` sets `integrations.sources[0].url`. Where text
is expected the variable's value is taken as it stands, elsewhere it is read as YAML. Secrets belong
into variables, and are masked wherever settings are shown.

**Relative paths are relative to the directory of the configuration file**, whatever the working
directory: `database.spool_directory`, a SQLite file in `database.connection_string` or in a
source's `url`, a source's `root`, a gateway's `directory`, a notifier's `path`. `~` is the home
directory.

A partial file works, an empty one too. A wrong one is refused as a whole, with every problem:
file and line (or variable), path, value and bound, and a suggestion for a misspelt key. Also
refused: a key that is written twice, a file above {MAX_BYTES // 1024 // 1024} MiB. Anchors and
merge keys (`<<`) work.

Durations are written `90s`, `30m`, `6h`, `2d`; a number without a unit is refused. Shares are
fractions, money is USD.

This page is made by `{PAGE_COMMAND}`.
"""

_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "password": "secret text",
        "path": "path",
        "date-time": "moment",
        "string": "text",
        "number": "number",
        "integer": "whole number",
        "boolean": "yes or no",
    }
)
_BOUNDS: Mapping[str, str] = MappingProxyType(
    {
        "minimum": "≥ {}",
        "exclusiveMinimum": "> {}",
        "maximum": "≤ {}",
        "exclusiveMaximum": "< {}",
        "minItems": "{} or more",
    }
)


def schema() -> dict[str, Any]:
    """The JSON schema of the file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Settings.model_json_schema(),
        "title": "optimizer.yaml",
    }


def page() -> str:
    """Every setting with its kind, default, bounds and meaning, as Markdown."""
    parts = [_HEAD]
    for path, model in _sections(Settings, ""):
        rows = list(_rows(path, model))
        if not rows and model is not TargetSettings:
            continue
        parts.append(f"## `{path}`\n")
        parts.append(f"{_first_paragraph(model)}\n")
        if model is TargetSettings:
            parts.append("Every key of `defaults` may stand here too, and then counts before it.\n")
        parts.append("| key | kind | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows))
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _sections(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section with its path, outer before inner; kinds of one family side by side."""
    for name, field in _own_fields(model).items():
        inner = models_in(field.annotation)
        many = "[]" if _is_list(field) else ""
        for choice in inner:
            kind = choice.model_fields.get("kind")
            named = "" if kind is None else f" (kind: {kind.annotation.__args__[0]})"  # type: ignore[union-attr]
            here = f"{path}.{name}{many}" if path else f"{name}{many}"
            yield here + named, choice
            yield from _sections(choice, here)


def _own_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    inherited = PolicySettings.model_fields if model is TargetSettings else {}
    return {name: field for name, field in model.model_fields.items() if name not in inherited}


def _is_list(field: FieldInfo) -> bool:
    return "list[" in str(field.annotation)


def _first_paragraph(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _rows(path: str, model: type[BaseModel]) -> Iterator[str]:
    described = model.model_json_schema()
    names = described.get("$defs", {})
    for name, field in _own_fields(model).items():
        if models_in(field.annotation) and not issubclass(model, PolicySettings):
            continue
        default = _default(name, field, model if path == "defaults" else None)
        kind = _kind(described["properties"][name], field, names)
        yield f"| `{name}` | {kind} | {default} | {field.description} |"


def _kind(schema: Mapping[str, Any], field: FieldInfo, names: Mapping[str, Any]) -> str:
    """What may be written, with its bounds."""
    if models_in(field.annotation):
        return "list of sections" if _is_list(field) else "section"
    options = [part for part in schema.get("anyOf", [schema]) if part.get("type") != "null"]
    found = options[0]
    if "$ref" in found:
        found = names[found["$ref"].rpartition("/")[2]]
    text = _words(found) + _bounds({**schema, **found})
    return text if len(options) == len(schema.get("anyOf", [schema])) else f"{text}, or null"


def _words(found: Mapping[str, Any]) -> str:
    choices = [found["const"]] if "const" in found else found.get("enum", [])
    if choices:
        return ", ".join(f"`{item}`" for item in choices)
    if found.get("type") == "array":
        return f"list of {_words(found.get('items', {}))}"
    if found.get("pattern", "").endswith("^P"):
        return "duration"
    return _WORDS.get(str(found.get("format")), _WORDS.get(str(found.get("type")), "mapping"))


def _bounds(found: Mapping[str, Any]) -> str:
    bounds = [text.format(found[key]) for key, text in _BOUNDS.items() if key in found]
    return f" {' and '.join(bounds)}" if bounds else ""


def _default(name: str, field: FieldInfo, policy: type[BaseModel] | None) -> str:
    if field.is_required():
        return "**required**"
    value: Raw = (
        getattr(Policy(), name, None) if policy else field.get_default(call_default_factory=True)
    )
    if name == "connection_string":
        value = value.get_secret_value()
    if value is None or value in ([], {}):
        return "none" if value is None else "empty"
    return f"`{_flow(_without_none(plain(value)))}`"


def _without_none(value: Raw) -> Raw:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value


def _flow(value: Raw) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("...\n").strip()
