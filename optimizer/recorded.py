"""What every recorded life keeps, a decision's as an experiment's: its arrows and its chain.

A state changes only along the arrows of its machine. The log is a chain: each entry's hash covers
its content and its predecessor's hash, so that none is altered or left out unseen.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar

S = TypeVar("S", bound=Enum)

_SPELLED = {"from_state": "from", "to_state": "to"}


class IllegalTransitionError(ValueError):
    """A transition the state machine does not have."""


def check_arrow(name: str, old: S, new: S, arrows: Mapping[S, frozenset[S]]) -> None:
    """Nothing where the machine has the arrow; ``name`` says whose state it is.

    Raises:
        IllegalTransitionError: it has none.
    """
    if new not in arrows[old]:
        raise IllegalTransitionError(f"{name}: {old.value} -> {new.value} is not a transition")


def chain_hash(entry: object) -> str:
    """SHA-256 over a log entry's fields but its own ``hash``, the predecessor's included, hex.

    What is stored was hashed like this: a field more or less breaks every chain there is.

    Raises:
        TypeError: the entry is no dataclass, or its evidence is not JSON-able.
    """
    if not is_dataclass(entry) or isinstance(entry, type):
        raise TypeError(f"{type(entry).__name__} is no log entry")
    body: dict[str, Any] = {
        _SPELLED.get(each.name, each.name): getattr(entry, each.name)
        for each in fields(entry)
        if each.name != "hash"
    }
    body |= {"at": body["at"].isoformat(), "from": body["from"].value, "to": body["to"].value}
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), default=dict)
    return hashlib.sha256(text.encode()).hexdigest()


def is_chain(log: Iterable[Any], *, ends_in: Enum) -> bool:
    """Whether every entry hashes to its stored hash over its predecessor's, up to that state.

    Entries cut off the end are seen by the state that was reached without them.
    """
    previous, reached = "", None
    for entry in log:
        if entry.prev_hash != previous or chain_hash(entry) != entry.hash:
            return False
        previous, reached = entry.hash, entry.to_state
    return reached is ends_in
