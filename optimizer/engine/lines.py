"""Where a row stands in its file: looked up only for rows that are set aside.

The readers number the rows they could read. Here such an ordinal is turned into the line of the
file, by one plain pass over it, together with the beginning of the line's text.
"""

import csv
import gzip
import shutil
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final, cast

from optimizer.ports.sources import FileInput

PREFIX_CHARS: Final = 200
"""How much of a line that cannot be parsed is kept; it may hold what nobody mapped."""

DELIMITERS: Final = (",", ";", "\t", "|")
_GZIP: Final = b"\x1f\x8b"
_BOM: Final = b"\xef\xbb\xbf"
_CHUNK: Final = 1 << 20


def open_text(path: Path) -> BinaryIO:
    """The file's bytes, decompressed where it is gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    return cast("BinaryIO", gzip.open(path)) if packed else path.open("rb")


def without_bom(path: Path, copy: Path) -> Path:
    """A file that does not begin with a byte order mark: the path itself, or a copy of it."""
    with open_text(path) as source:
        if source.read(3) != _BOM:
            return path
        with copy.open("wb") as target:
            shutil.copyfileobj(source, target, _CHUNK)
    return copy


def without_line(path: Path, line: int, copy: Path) -> Path:
    """A copy of the file in which the physical line is empty; every other keeps its number."""
    with open_text(path) as source, copy.open("wb") as target:
        target.writelines(
            b"\n" if number == line else text for number, text in enumerate(source, start=1)
        )
    return copy


def csv_header(path: Path) -> tuple[tuple[str, ...], str, int]:
    """Column names of a CSV file, its delimiter, and the physical line its data begin on.

    The delimiter is the one of comma, semicolon, tab and bar that is most often in the first line;
    an empty file has no names.

    Raises:
        UnicodeDecodeError: the header is not UTF-8.
    """
    with open_text(path) as file:
        first = file.readline().decode("utf-8-sig")
        delimiter = max(DELIMITERS, key=first.count)
        rest = (text.decode() for text in file)
        reader = csv.reader(chain([first], rest), delimiter=delimiter)
        names = tuple(name.strip() for name in next(reader, []))
        return names, delimiter, reader.line_num + 1


def lines_at(path: Path, offsets: Sequence[int]) -> dict[int, int]:
    """Physical line of the first record at or after each byte offset; blank lines are no record."""
    found: dict[int, int] = {}
    waiting = sorted(set(offsets))
    end = 0
    with open_text(path) as file:
        for number, text in enumerate(file, start=1):
            end += len(text)
            while waiting and end > waiting[0] and text.strip(b"\r\n"):
                found[waiting.pop(0)] = number
            if not waiting:
                break
    return found


def locate(
    given: FileInput, path: Path, ordinals: Sequence[int], skipped: frozenset[int]
) -> list[tuple[int, int, str]]:
    """Ordinal, line in the origin and the line's beginning, for those that can be found.

    Args:
        given: the input as the source handed it over.
        path: the text that was really read.
        ordinals: positions among the rows that were read, ascending.
        skipped: physical lines whose records the reader refused.
    """
    wanted = set(ordinals)
    records = _csv_records(path, skipped) if given.format == "csv" else _json_records(path)
    found: list[tuple[int, int, str]] = []
    for ordinal, (line, text) in enumerate(records):
        if ordinal in wanted:
            found.append((ordinal, given.first_line + line, text))
            if len(found) == len(wanted):
                break
    return found


def _json_records(path: Path) -> Iterator[tuple[int, str]]:
    with open_text(path) as file:
        for number, text in enumerate(file):
            if text.strip():
                yield number, _prefix(text)


def _csv_records(path: Path, skipped: frozenset[int]) -> Iterator[tuple[int, str]]:
    """Data records, as far as the csv module can follow: lines behind the first one's, and text."""
    _, delimiter, first = csv_header(path)
    with open_text(path) as file:
        texts = (text.decode("utf-8", "replace").replace("\0", "") for text in file)
        reader = csv.reader(texts, delimiter=delimiter)
        begins = 1
        try:
            for record in reader:
                if record and begins >= first and begins not in skipped:
                    yield begins - first, ""
                begins = reader.line_num + 1
        except csv.Error:
            return


def _prefix(text: bytes) -> str:
    return text[: 4 * PREFIX_CHARS].decode("utf-8", "replace").strip()[:PREFIX_CHARS]
