"""A file's text as blocks of bytes, unpacked where it is gzipped, never more than asked for.

What ends a text early is an outcome, not an exception: the blocks before it are good.
"""

import gzip
import zlib
from collections.abc import Iterator
from enum import Enum
from typing import BinaryIO, Protocol

from optimizer.integrations.files.position import TAIL_BYTES

BLOCK_BYTES = 4 << 20
_READ_BYTES = 256 << 10


class End(Enum):
    """Why a text gives no more bytes."""

    OPEN = "open"
    """not at its end yet"""
    COMPLETE = "complete"
    """its end, as far as the file itself can tell"""
    TRUNCATED = "truncated"
    """the compressed data stops in the middle"""
    CORRUPT = "corrupt"
    """the compressed data contradicts itself"""
    TOO_LARGE = "too_large"
    """more bytes than a file may have when unpacked"""


class Text(Protocol):
    """Blocks of a file's text from an offset on."""

    end: End
    detail: str

    def skip(self, offset: int) -> bytes | None:
        """Go to an offset; the last bytes before it, None when the text is shorter."""
        ...

    def blocks(self) -> Iterator[bytes]:
        """The rest in blocks; afterwards ``end`` and ``detail`` say why it ended."""
        ...


class PlainText:
    """The bytes of a file up to the size it had when it was opened."""

    def __init__(self, file: BinaryIO, size: int, *, block_bytes: int = BLOCK_BYTES) -> None:
        self._file = file
        self._block_bytes = block_bytes
        self._left = size
        self._size = size
        self.end = End.OPEN
        self.detail = ""

    def skip(self, offset: int) -> bytes | None:
        """Go to an offset; the last bytes before it, None when the text is shorter."""
        if offset > self._size:
            return None
        start = max(0, offset - TAIL_BYTES)
        self._file.seek(start)
        tail = self._file.read(offset - start)
        self._left = self._size - offset
        return tail

    def blocks(self) -> Iterator[bytes]:
        """The rest in blocks."""
        # Not beyond the size at the start: a file that grows faster than it is read would not end.
        while block := self._file.read(min(self._block_bytes, self._left)):
            self._left -= len(block)
            yield block
        self.end = End.COMPLETE


class GzippedText:
    """The unpacked bytes of a gzipped file, all of its members, at most ``max_bytes`` of them."""

    def __init__(self, file: BinaryIO, max_bytes: int, *, block_bytes: int = BLOCK_BYTES) -> None:
        self._block_bytes = block_bytes
        self._gzip = gzip.GzipFile(fileobj=file, mode="rb")
        self._max_bytes = max_bytes
        self._given = 0
        self.end = End.OPEN
        self.detail = ""

    def skip(self, offset: int) -> bytes | None:
        """Go to an offset; the last bytes before it, None when the text is shorter."""
        tail = b""
        left = offset
        while left and (piece := self._read(min(left, BLOCK_BYTES))):
            left -= len(piece)
            tail = (tail + piece)[-TAIL_BYTES:]
        return None if left else tail

    def blocks(self) -> Iterator[bytes]:
        """The rest in blocks, the last one shorter."""
        gathered = bytearray()
        while piece := self._read(self._block_bytes - len(gathered)):
            gathered += piece
            if len(gathered) == self._block_bytes:
                yield bytes(gathered)
                gathered.clear()
        if gathered:
            yield bytes(gathered)

    def _read(self, n_bytes: int) -> bytes:
        """Some bytes, at least one; none at the end, whatever it is."""
        if self.end is not End.OPEN:
            return b""
        if self._given > self._max_bytes:
            return self._ended(End.TOO_LARGE, f"more than {self._max_bytes} bytes when unpacked")
        try:
            # read1: read() would drop what it has gathered when the data ends in the middle.
            piece = self._gzip.read1(min(n_bytes, _READ_BYTES, self._max_bytes + 1 - self._given))
        except EOFError:
            return self._ended(End.TRUNCATED, "the compressed data stops in the middle")
        except (gzip.BadGzipFile, zlib.error) as error:
            return self._ended(End.CORRUPT, f"the compressed data is corrupt: {error}")
        self._given += len(piece)
        return piece or self._ended(End.COMPLETE, "")

    def _ended(self, end: End, detail: str) -> bytes:
        self.end, self.detail = end, detail
        return b""
