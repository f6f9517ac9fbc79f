"""Bytes to document and back: the one definition that publishers and readers share.

The law: what `seal` gives, `parse` takes; what `parse` refuses, `seal` does not give. Fields that
this version does not know are kept under the checksum and otherwise passed over, so that a
publisher may add some.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Final, NoReturn
from urllib.parse import quote

from optimizer.client.document import AllocationError, Document, Slice, require

FORMAT: Final = "llm-auto-optimizer/allocation/1"
MAX_BYTES: Final = 1 << 20
MAX_DEPTH: Final = 32


def file_name(target: str) -> str:
    """Name of the file, in the published directory, that holds a target's allocation.

    Examples:
        >>> file_name("support-bot/answer")
        'support-bot%2Fanswer.json'
    """
    # A lone surrogate has no UTF-8; passing it keeps a reader's promise never to raise.
    return quote(target, safe="", errors="surrogatepass") + ".json"


def checksum(document: Mapping[str, object]) -> str:
    """SHA-256 over the canonical JSON of a document without its field "checksum".

    Canonical: keys sorted, no blanks, ASCII only. Values are plain JSON: dict, list, text, finite
    number, bool, None.

    Raises:
        AllocationError: when the document has no JSON form.

    Examples:
        >>> checksum({"b": 1, "a": [0.5]})
        'sha256:1c6e9e1e92b8d1d5246b5ebb3591fcd42716c42b8323a237d3ebd430be8cc8ff'
        >>> checksum({"a": [0.5], "b": 1, "checksum": "any"}) == checksum({"b": 1, "a": [0.5]})
        True
    """
    bare = {key: value for key, value in document.items() if key != "checksum"}
    return "sha256:" + sha256(_canonical(bare).encode("ascii")).hexdigest()


def seal(document: Mapping[str, object]) -> bytes:
    """The bytes to publish: canonical JSON of the document with its checksum.

    A checksum already there is replaced, so that a document that was read can be changed and sealed
    anew.

    Raises:
        AllocationError: when a reader would refuse the result.

    Examples:
        >>> text = seal({
        ...     "format": FORMAT, "target": "bot", "generation": 1, "salt": "d-1", "decision": None,
        ...     "published_at": "2026-11-24T05:00:00Z", "expires_at": "2026-11-24T11:00:00Z",
        ...     "baseline": "large", "arms": {"large": {"model": "large-1"}},
        ...     "slices": [{"slice": "baseline", "arm": "large", "low": 0.0, "high": 1.0}],
        ... })
        >>> parse(text).slice_at(0.3).arm
        'large'
    """
    text = _canonical({**document, "checksum": checksum(document)}).encode("ascii")
    parse(text)
    return text


def parse(text: str | bytes) -> Document:
    """The document that a published text holds.

    Raises:
        AllocationError: when anything is not as the contract says: size, JSON, format, types,
        ranges, tiling, checksum.

    Examples:
        >>> try:
        ...     parse("[]")
        ... except AllocationError as error:
        ...     str(error)
        "allocation field 'document' is [], must be a JSON object"
    """
    raw = _object(_loaded(text), "document")
    require("format", raw.get("format"), repr(FORMAT), holds=raw.get("format") == FORMAT)
    stated = _text(_field(raw, "checksum"), "checksum")
    computed = checksum(raw)
    require("checksum", stated, f"{computed!r}, computed from the rest", holds=stated == computed)
    decision = _field(raw, "decision")
    return Document(
        target=_text(_field(raw, "target"), "target"),
        generation=_whole(_field(raw, "generation"), "generation"),
        salt=_text(_field(raw, "salt"), "salt"),
        published_at=_moment(_field(raw, "published_at"), "published_at"),
        expires_at=_moment(_field(raw, "expires_at"), "expires_at"),
        baseline=_text(_field(raw, "baseline"), "baseline"),
        slices=_slices(_field(raw, "slices")),
        arms=_arms(_field(raw, "arms")),
        decision=None if decision is None else _text(decision, "decision"),
        checksum=stated,
    )


def _canonical(document: Mapping[str, object]) -> str:
    try:
        return json.dumps(
            dict(document),
            sort_keys=True,
            separators=(",", ":"),
            ensure_ascii=True,
            allow_nan=False,
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise AllocationError("document", str(error), "plain JSON with finite numbers") from error


def _loaded(text: str | bytes) -> object:
    try:
        data = text.encode() if isinstance(text, str) else text
        require("document", len(data), f"at most {MAX_BYTES} bytes", holds=len(data) <= MAX_BYTES)
        value: object = json.loads(data.decode(), parse_constant=_refuse_constant)
    except AllocationError:
        raise
    except (ValueError, RecursionError) as error:
        raise AllocationError("document", str(error), "JSON in UTF-8") from error
    # Bounded depth is what lets a reader copy a configuration without fear for its stack.
    bound = f"nested at most {MAX_DEPTH} deep"
    require("document", value, bound, holds=_nests_within(value, MAX_DEPTH))
    return value


def _refuse_constant(constant: str) -> NoReturn:
    raise AllocationError("document", constant, "free of NaN and Infinity")


def _nests_within(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        return levels > 0 and all(_nests_within(inner, levels - 1) for inner in value.values())
    if isinstance(value, list):
        return levels > 0 and all(_nests_within(inner, levels - 1) for inner in value)
    return True


def _field(raw: Mapping[str, object], key: str, within: str = "") -> object:
    require(f"{within}{key}", "missing", "present", holds=key in raw)
    return raw[key]


def _object(value: object, name: str) -> dict[str, object]:
    if isinstance(value, dict):
        return value
    raise AllocationError(name, value, "a JSON object")


def _text(value: object, name: str) -> str:
    if isinstance(value, str) and value:
        return value
    raise AllocationError(name, value, "a text, not empty")


def _whole(value: object, name: str) -> int:
    # JSON's true and false arrive as bool, which Python counts as an integer.
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise AllocationError(name, value, "an integer")


def _number(value: object, name: str) -> float:
    try:
        if isinstance(value, int | float) and not isinstance(value, bool):
            # Infinite ones are gone by now: they have no checksum.
            return float(value)
    except OverflowError:
        pass
    raise AllocationError(name, value, "a finite number")


def _moment(value: object, name: str) -> datetime:
    text = _text(value, name)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise AllocationError(name, text, "a moment in ISO 8601") from error
    return moment.replace(tzinfo=UTC) if moment.tzname() == "UTC" else moment


def _slices(value: object) -> tuple[Slice, ...]:
    if not isinstance(value, list):
        raise AllocationError("slices", value, "a JSON array")
    return tuple(_slice(_object(row, f"slices[{at}]"), at) for at, row in enumerate(value))


def _slice(row: Mapping[str, object], at: int) -> Slice:
    within = f"slices[{at}]."
    return Slice(
        name=_text(_field(row, "slice", within), f"{within}slice"),
        arm=_text(_field(row, "arm", within), f"{within}arm"),
        low=_number(_field(row, "low", within), f"{within}low"),
        high=_number(_field(row, "high", within), f"{within}high"),
    )


def _arms(value: object) -> Mapping[str, Mapping[str, object]]:
    arms = _object(value, "arms")
    return MappingProxyType({name: _arm(name, config) for name, config in arms.items()})


def _arm(name: str, value: object) -> Mapping[str, object]:
    require("arms", name, "named", holds=bool(name))
    within = f"arms[{name}]."
    config = _object(value, f"arms[{name}]")
    _text(_field(config, "model", within), f"{within}model")
    for key, check in _OPTIONAL.items():
        if config.get(key) is not None:
            check(config[key], f"{within}{key}")
    return MappingProxyType(config)


def _string(value: object, name: str) -> None:
    require(name, value, "a text", holds=isinstance(value, str))


def _temperature(value: object, name: str) -> None:
    require(name, value, "a number >= 0", holds=_number(value, name) >= 0)


def _top_p(value: object, name: str) -> None:
    require(name, value, "in [0, 1]", holds=0 <= _number(value, name) <= 1)


def _max_tokens(value: object, name: str) -> None:
    require(name, value, "an integer >= 1", holds=_whole(value, name) >= 1)


_OPTIONAL: Final[Mapping[str, Callable[[object, str], object]]] = MappingProxyType(
    {
        "temperature": _temperature,
        "top_p": _top_p,
        "max_tokens": _max_tokens,
        "provider": _string,
        "prompt_version": _string,
        "params": _object,
    }
)
