"""Reads one file from a position on, in pieces that each carry the position behind them.

A last line without a newline may be half a line. It is taken when nothing can follow (the end of a
gzipped file, or a file that nobody has written to for ``idle``) and, in JSON Lines, when it is a
complete object: no part of an object is one. Otherwise it waits. Should a writer come back after
``idle`` to a half-written CSV line, the other half arrives as a line that is refused later on.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from optimizer.errors import UnavailableError
from optimizer.integrations.files.boundaries import (
    csv_boundaries,
    delimiter_of,
    line_boundaries,
)
from optimizer.integrations.files.places import Found
from optimizer.integrations.files.position import Position, tail_hash
from optimizer.integrations.files.records import RAW_BYTES, Records
from optimizer.integrations.files.spill import Piece, Spill
from optimizer.integrations.files.streams import (
    BLOCK_BYTES,
    End,
    GzippedText,
    PlainText,
    Text,
)
from optimizer.observations import QuarantineReason
from optimizer.ports.sources import Reject

_BOM = b"\xef\xbb\xbf"
_PARQUET_MAGIC = b"PAR1"
_PARQUET_MIN_BYTES = 12
_MAX_REJECTS = 10_000
_FAULTS = {
    End.TRUNCATED: QuarantineReason.TRUNCATED_FILE,
    End.CORRUPT: QuarantineReason.UNREADABLE_FILE,
    End.TOO_LARGE: QuarantineReason.UNREADABLE_FILE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds in bytes on one line, one piece and one unpacked file; how long a writer may rest."""

    max_line_bytes: int
    piece_bytes: int
    max_unpacked_bytes: int
    idle: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What was read; ``path`` None = no rows, only rejects or a position."""

    position: Position
    path: Path | None = None
    first_line: int = 1
    n_bytes: int = 0
    rejects: tuple[Reject, ...] = ()


class Reader:
    """Reads files into a spill."""

    def __init__(self, limits: Limits, spill: Spill, clock: Callable[[], datetime]) -> None:
        self._limits = limits
        self._spill = spill
        self._clock = clock

    def read(self, found: Found, known: Position) -> Iterator[Part]:
        """Parts behind the known position, none when the file has not changed or has gone.

        Raises:
            UnavailableError: the file system does not answer.
        """
        try:
            status = found.path.stat()
            if known.done and known.unchanged(status):
                return
            yield from self._changed(found, known, status)
        except FileNotFoundError:
            return
        except OSError as error:
            raise UnavailableError(f"cannot read {found.origin}: {error.strerror}") from error

    def _changed(self, found: Found, known: Position, status: os.stat_result) -> Iterator[Part]:
        if fault := _unfit(found, status):
            yield from self._refused(found, known, status, fault)
            return
        try:
            found.path.open("rb").close()
        except PermissionError as error:
            # Not done: permission may come without a change to the file.
            fault = str(error.strerror)
            if not (known.fault == fault and known.unchanged(status)):
                reject = _reject(found, QuarantineReason.UNREADABLE_FILE, fault)
                yield Part(position=_at(known, status, fault=fault), rejects=(reject,))
            return
        read = self._whole if found.format == "parquet" else self._lines
        yield from read(found, known)

    def _refused(
        self,
        found: Found,
        known: Position,
        status: os.stat_result,
        fault: str,
        reason: QuarantineReason = QuarantineReason.UNREADABLE_FILE,
    ) -> Iterator[Part]:
        position = _at(known, status, done=True, fault=fault)
        yield Part(position=position, rejects=(_reject(found, reason, fault),))

    def _whole(self, found: Found, known: Position) -> Iterator[Part]:
        """The original, once per version; the same rows again are told apart at intake."""
        with found.path.open("rb") as file:
            status = os.fstat(file.fileno())
            ends = file.read(len(_PARQUET_MAGIC))
            if status.st_size >= _PARQUET_MIN_BYTES:
                file.seek(-len(_PARQUET_MAGIC), os.SEEK_END)
            ends += file.read(len(_PARQUET_MAGIC))
        if ends != 2 * _PARQUET_MAGIC:
            fault = "not a complete Parquet file: PAR1 must stand at both ends"
            reason = QuarantineReason.TRUNCATED_FILE
            yield from self._refused(found, known, status, fault, reason)
            return
        position = replace(_at(known, status, done=True), offset=status.st_size)
        yield Part(position=position, path=found.path, n_bytes=status.st_size)

    def _lines(self, found: Found, known: Position) -> Iterator[Part]:
        header = b""
        if found.format == "csv":
            with self._opened(found) as (text, status):
                first = _header(text, self._limits.max_line_bytes)
            if first.fault or not first.raw:
                reason = _FAULTS.get(text.end, QuarantineReason.BAD_HEADER)
                if fault := first.fault or text.detail:
                    yield from self._refused(found, known, status, fault, reason)
                return
            header = first.raw
        for start in (known, Position()):
            with self._opened(found) as (text, status):
                at = max(start.offset, len(header))
                tail = text.skip(at)
                # Another text before the offset: rotated, cut, replaced or edited.
                same = start.offset < len(header) or tail_hash(tail or b"") == start.tail
                if tail is None or not same:
                    continue
                line = start.line if start.offset >= len(header) else header.count(b"\n")
                records = self._records(found, header, replace(start, offset=at, line=line), tail)
                yield from self._parts(found, status, text, records, header)
                return

    def _records(self, found: Found, header: bytes, start: Position, tail: bytes) -> Records:
        boundaries = (
            partial(csv_boundaries, delimiter=delimiter_of(header))
            if found.format == "csv"
            else line_boundaries
        )
        limit = self._limits.max_line_bytes
        return Records(found.origin, boundaries, start=start, tail=tail, max_line_bytes=limit)

    def _parts(
        self, found: Found, status: os.stat_result, text: Text, records: Records, header: bytes
    ) -> Iterator[Part]:
        header = header.removeprefix(_BOM)
        piece, line = Piece(self._spill.new_path(found.format), header), records.line
        for block in text.blocks():
            clean = block
            if not records.offset and block.startswith(_BOM):
                records.pass_over(_BOM)
                clean = block.removeprefix(_BOM)
            for data in records.feed(clean):
                piece.write(data)
            if piece.n_bytes >= self._limits.piece_bytes or records.n_rejects >= _MAX_REJECTS:
                yield _part(piece, line, records, _at(_behind(records), status))
                piece, line = Piece(self._spill.new_path(found.format), header), records.line
        if self._nothing_follows(found, status, text, records):
            for data in records.finish():
                piece.write(data)
        waits = text.end is End.COMPLETE and records.waiting
        position = _at(_behind(records), status, done=not waits, fault=text.detail)
        part = _part(piece, line, records, position)
        if text.end in _FAULTS:
            fault = _reject(found, _FAULTS[text.end], text.detail)
            part = replace(part, rejects=(*part.rejects, fault))
        yield part

    def _nothing_follows(
        self, found: Found, status: os.stat_result, text: Text, records: Records
    ) -> bool:
        if text.end is not End.COMPLETE or not records.waiting:
            return False
        written_at = datetime.fromtimestamp(status.st_mtime, tz=UTC)
        return (
            found.gzipped
            or self._clock() - written_at >= self._limits.idle
            or (found.format == "jsonl" and records.rest_is_json())
        )

    @contextlib.contextmanager
    def _opened(self, found: Found) -> Iterator[tuple[Text, os.stat_result]]:
        with found.path.open("rb") as file:
            status = os.fstat(file.fileno())
            block_bytes = min(BLOCK_BYTES, self._limits.piece_bytes)
            if found.gzipped:
                max_bytes = self._limits.max_unpacked_bytes
                yield GzippedText(file, max_bytes, block_bytes=block_bytes), status
            else:
                yield PlainText(file, status.st_size, block_bytes=block_bytes), status


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """A CSV's first record, b"" while it is incomplete."""

    raw: bytes = b""
    fault: str = ""


def _header(text: Text, max_line_bytes: int) -> _Header:
    head = b""
    for block in text.blocks():
        head += block
        found = csv_boundaries(head, delimiter_of(head.partition(b"\n")[0]))
        if found.ends.size or len(head) > max_line_bytes:
            break
    else:
        return _Header()
    raw = head[: int(found.ends[0])] if found.ends.size else head
    if len(raw) > max_line_bytes:
        return _Header(fault=f"the header is longer than {max_line_bytes} bytes")
    if 0 in found.malformed:
        return _Header(fault=f"quotes of the header do not pair: {raw[:RAW_BYTES]!r}")
    try:
        raw.decode()
    except UnicodeDecodeError:
        return _Header(fault=f"the header is not UTF-8 text: {raw[:RAW_BYTES]!r}")
    return _Header(raw=raw)


def _unfit(found: Found, status: os.stat_result) -> str:
    """Why a file is not opened at all, else ""."""
    if not stat.S_ISREG(status.st_mode):
        return "not a regular file"  # opening a pipe would wait for its writer
    if not found.format:
        return "its name tells no format: set `format` to csv, jsonl or parquet"
    if found.format == "parquet" and found.gzipped:
        return "a gzipped Parquet file; Parquet is compressed inside"
    return ""


def _at(
    position: Position, status: os.stat_result, *, done: bool = False, fault: str = ""
) -> Position:
    return replace(
        position, size=status.st_size, mtime_ns=status.st_mtime_ns, done=done, fault=fault
    )


def _behind(records: Records) -> Position:
    return Position(offset=records.offset, line=records.line, tail=tail_hash(records.tail))


def _part(piece: Piece, line: int, records: Records, position: Position) -> Part:
    return Part(
        position=position,
        path=piece.close(),
        first_line=line + 1,
        n_bytes=piece.n_bytes,
        rejects=records.take_rejects(),
    )


def _reject(found: Found, reason: QuarantineReason, detail: str) -> Reject:
    return Reject(origin=found.origin, line=None, reason=reason, detail=detail)
