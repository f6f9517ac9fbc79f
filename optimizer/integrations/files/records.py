"""Cuts a stream of blocks into complete, clean records, in memory bounded by block and line length.

Law: ``offset`` stands behind the last record that was given out or refused; all before it has been
dealt with, and nothing behind it has.
"""

import json
from collections.abc import Callable, Iterator

from optimizer.integrations.files.boundaries import Boundaries
from optimizer.integrations.files.position import TAIL_BYTES, Position
from optimizer.observations import QuarantineReason
from optimizer.ports.sources import Reject

RAW_BYTES = 200


class Records:
    """Feeds on blocks, gives clean bytes; refused lines gather in ``rejects`` until taken."""

    def __init__(
        self,
        origin: str,
        boundaries: Callable[[bytes], Boundaries],
        *,
        start: Position,
        tail: bytes,
        max_line_bytes: int,
    ) -> None:
        self._origin = origin
        self._boundaries = boundaries
        self._max_line_bytes = max_line_bytes
        self._rest = b""
        self._oversized: tuple[int, bytes, bytes] | None = None  # bytes so far, beginning, end
        self._rejects: list[Reject] = []
        self.offset = start.offset
        self.line = start.line
        self.tail = tail

    @property
    def n_rejects(self) -> int:
        """How many refused lines wait to be taken."""
        return len(self._rejects)

    def take_rejects(self) -> tuple[Reject, ...]:
        """The lines refused since the last call."""
        taken = tuple(self._rejects)
        self._rejects.clear()
        return taken

    def pass_over(self, data: bytes) -> None:
        """Count bytes that belong to no record: a header, a byte order mark."""
        self._advance(data, data.count(b"\n"))

    def feed(self, block: bytes) -> Iterator[bytes]:
        """The records that became complete, in pieces; an incomplete last one is kept back."""
        data = self._end_oversized(block) if self._oversized else self._rest + block
        while data is not None:
            found = self._boundaries(data)
            end = int(found.ends[-1]) if found.ends.size else 0
            if end:
                yield from self._clean(data[:end], found)
            self._rest = data[end:]
            data = self._beyond_limit() if len(self._rest) > self._max_line_bytes else None

    def finish(self) -> Iterator[bytes]:
        """The last record, which no newline ends: nothing will follow it."""
        while self._oversized or self._rest:
            if self._oversized:
                self._end_oversized(b"\n", written=b"")
                return
            data = self._rest + b"\n"
            found = self._boundaries(data)
            if found.ends.size:
                end = int(found.ends[-1])
                self._rest = data[end:-1]
                yield from self._clean(data[:end], found, written=min(end, len(data) - 1))
            else:
                self._refuse_first_line()

    def rest_is_json(self) -> bool:
        """Whether what waits is an object already: no part of an object is one."""
        try:
            return isinstance(json.loads(self._rest), dict)
        except (ValueError, RecursionError):
            return False

    @property
    def waiting(self) -> bool:
        """Whether an incomplete record is kept back."""
        return bool(self._rest) or self._oversized is not None

    def _clean(self, data: bytes, found: Boundaries, written: int | None = None) -> Iterator[bytes]:
        """The records without those that are too long, not UTF-8, or quoted wrongly."""
        starts = [0, *found.ends[:-1].tolist()]
        longest = int((found.ends - starts).max())
        if longest <= self._max_line_bytes and not found.malformed and _is_text(data):
            yield data
        else:
            yield b"".join(self._sifted(data, found))
        self._advance(data if written is None else data[:written], data.count(b"\n"))

    def _sifted(self, data: bytes, found: Boundaries) -> Iterator[bytes]:
        start, line = 0, self.line + 1
        for index, end in enumerate(found.ends.tolist()):
            record = data[start:end]
            if len(record) > self._max_line_bytes:
                self._refuse_length(line, len(record), record)
            elif index in found.malformed:
                self._refuse(line, QuarantineReason.BAD_LINE, "quotes do not pair", record)
            elif not _is_text(record):
                self._refuse(line, QuarantineReason.BAD_LINE, "not UTF-8 text", record)
            else:
                yield record
            start, line = end, line + record.count(b"\n")

    def _beyond_limit(self) -> bytes | None:
        """What to look at again after a kept-back record grew too long."""
        if b"\n" in self._rest:
            # A quote opened and never closed. Its line goes; those behind it are read as lines.
            self._refuse_first_line()
            rest, self._rest = self._rest, b""
            return rest
        self._oversized = (len(self._rest), self._rest[:RAW_BYTES], self._rest[-TAIL_BYTES:])
        self._rest = b""
        return None

    def _refuse_first_line(self) -> None:
        first, newline, self._rest = self._rest.partition(b"\n")
        line = self.line + 1
        detail = "a quote is opened and never closed"
        self._refuse(line, QuarantineReason.BAD_LINE, detail, first)
        self._advance(first + newline, 1)

    def _end_oversized(self, block: bytes, written: bytes | None = None) -> bytes | None:
        """What follows the oversized line in the block; None while that line goes on."""
        if self._oversized is None:
            return block
        size, beginning, end = self._oversized
        head, newline, rest = block.partition(b"\n")
        dropped = head + (newline if written is None else written)
        end = (end + dropped)[-TAIL_BYTES:]
        if not newline:
            self._oversized = (size + len(head), beginning, end)
            return None
        self._oversized = None
        self._refuse_length(self.line + 1, size + len(head), beginning)
        self._advance(end, 1, n_bytes=size + len(dropped))
        return rest

    def _refuse_length(self, line: int, size: int, raw: bytes) -> None:
        detail = f"{size} bytes, and a line may have {self._max_line_bytes}"
        self._refuse(line, QuarantineReason.LINE_TOO_LONG, detail, raw)

    def _refuse(self, line: int, reason: QuarantineReason, detail: str, raw: bytes) -> None:
        text = raw[:RAW_BYTES].decode(errors="replace")
        self._rejects.append(
            Reject(origin=self._origin, line=line, reason=reason, detail=detail, raw=text)
        )

    def _advance(self, data: bytes, n_lines: int, n_bytes: int | None = None) -> None:
        self.offset += len(data) if n_bytes is None else n_bytes
        self.line += n_lines
        self.tail = (self.tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]


def _is_text(data: bytes) -> bool:
    """Whether it is UTF-8 without NUL, which files torn by a power cut hold in long runs."""
    if b"\0" in data:
        return False
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
