"""YAML text into plain values, and the line on which each was written.

Safe tags only. Anchors and merge keys work and are copied out, so that a value changed in one place
stays what it was in the other. What repeats a key, is keyed by something other than text, or grows
without bound is refused. No message quotes the text, which may hold a secret.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import SafeConstructor

from optimizer.errors import ConfigError
from optimizer.settings.places import Place, Raw, dotted

MAX_VALUES = 2_000_000
"""Values a file may hold once its anchors are copied out."""
MAX_DEPTH = 50

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "tag:yaml.org,2002:merge"
_MAP = "tag:yaml.org,2002:map"
_LIST = "tag:yaml.org,2002:seq"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The file's values, and the line of each place."""

    values: dict[str, Any]
    lines: dict[Place, int]


def parse(text: str, path: Path) -> Document:
    """The document; an empty file is an empty mapping.

    Raises:
        ConfigError: not YAML, not a mapping, or holding what the module refuses.
    """
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise ConfigError(_not_yaml(error, text, path)) from None
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
        return Document(values={}, lines={})
    if not isinstance(node, yaml.MappingNode):
        msg = f"{path}:1: the file must be a mapping of sections, not {_kind(node)}"
        raise ConfigError(msg)
    reader = _Reader(path=path)
    values = reader.value(node, ())
    if reader.problems:
        raise ConfigError("\n".join(reader.problems))
    return Document(values=values, lines=reader.lines)


def _kind(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _not_yaml(error: yaml.YAMLError, text: str, path: Path) -> str:
    """The parser's complaint without the snippet it would quote."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"{path}:1: not YAML: it holds a character that YAML forbids"
    mark = error.problem_mark or error.context_mark
    line = 1 if mark is None else mark.line + 1
    written = text.splitlines()[line - 1 : line]
    indent = written[0][: len(written[0]) - len(written[0].lstrip())] if written else ""
    if "\t" in indent:
        return f"{path}:{line}: not YAML: indented with a tab; use spaces"
    return f"{path}:{line}: not YAML: {error.problem or error.context}"


@dataclass(slots=True, kw_only=True)
class _Reader:
    path: Path
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    n_values: int = 0
    scalars: SafeConstructor = field(default_factory=SafeConstructor)

    def value(self, node: yaml.Node, place: Place) -> Raw:
        self.n_values += 1
        if self.n_values > MAX_VALUES or len(place) > MAX_DEPTH:
            msg = (
                f"{self.path}:{_line(node)}: more than {MAX_VALUES} values or {MAX_DEPTH} levels; "
                "does an anchor contain itself?"
            )
            raise ConfigError(msg)
        if isinstance(node, yaml.MappingNode) and node.tag == _MAP:
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode) and node.tag == _LIST:
            return [self._item(item, (*place, i)) for i, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        self._refuse(node, place, f"the tag {node.tag!r} is not understood")
        return None

    def _item(self, node: yaml.Node, place: Place) -> Raw:
        self.lines[place] = _line(node)
        return self.value(node, place)

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> Raw:
        try:
            return self.scalars.construct_object(node)
        except yaml.YAMLError:
            self._refuse(node, place, f"the tag {node.tag!r} is not understood")
        except (ValueError, OverflowError) as error:
            self._refuse(node, place, f"not a value of its kind: {error}")
        return None

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                self._merge(value, place, merged)
        for key, value in node.value:
            if key.tag != _MERGE:
                self._entry(key, value, place, own)
        return {**merged, **own}

    def _entry(self, key: yaml.Node, value: yaml.Node, place: Place, own: dict[str, Any]) -> None:
        name = self._scalar(key, place) if isinstance(key, yaml.ScalarNode) else None
        if not isinstance(name, str):
            self._refuse(key, place, "a key here is not text; write it in quotes")
            return
        here = (*place, name)
        if name in own:
            self._refuse(key, here, "the key is written twice")
            return
        self.lines[here] = _line(key)
        own[name] = self.value(value, here)

    def _merge(self, node: yaml.Node, place: Place, merged: dict[str, Any]) -> None:
        """Take over a mapping or a list of them; the first of the list has the last word."""
        parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for part in reversed(parts):
            if not isinstance(part, yaml.MappingNode):
                self._refuse(part, place, "<< takes a mapping or a list of mappings")
                continue
            merged.update(self._mapping(part, place))

    def _refuse(self, node: yaml.Node, place: Place, why: str) -> None:
        label = f" {dotted(place)}:" if place else ""
        self.problems.append(f"{self.path}:{_line(node)}:{label} {why}")


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
