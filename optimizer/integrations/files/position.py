"""How far one file has been read, as the cursor keeps it.

The bytes just before the offset are kept as a hash. A file that grew still has them there; one that
was rotated, truncated, replaced or edited has others, and is read from its start.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256

from optimizer.errors import DataError
from optimizer.ports.sources import Json

TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """What was read of a file when it had ``size`` bytes and the time ``mtime_ns``.

    offset, bytes read of its (unpacked) text; line, physical lines in them; tail, hash of the last
    of them; done, nothing is left to read before the file changes; fault, why it cannot be read.
    """

    size: int = -1
    mtime_ns: int = 0
    offset: int = 0
    line: int = 0
    tail: str = ""
    done: bool = False
    fault: str = ""

    def unchanged(self, status: os.stat_result) -> bool:
        """Whether the file still looks as it did."""
        return (self.size, self.mtime_ns) == (status.st_size, status.st_mtime_ns)

    def as_json(self) -> dict[str, Json]:
        """The form in the cursor."""
        return asdict(self)


def position_of(entry: Mapping[str, Json] | None) -> Position:
    """The position in a cursor's entry; the start of the file where there is none.

    Raises:
        DataError: the entry is not one that :meth:`Position.as_json` made.
    """
    try:
        return Position(**(entry or {}))
    except TypeError as error:
        raise DataError(f"a file's cursor entry cannot be understood: {error}") from error


def tail_hash(tail: bytes) -> str:
    """The hash that :class:`Position` keeps of the last bytes read; "" of none."""
    return sha256(tail[-TAIL_BYTES:]).hexdigest() if tail else ""
