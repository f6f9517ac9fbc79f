"""CSV files into a table of text, and the records that do not fit, each with its line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb

from optimizer.engine import lines
from optimizer.engine.duck import exact
from optimizer.observations import QuarantineReason

MAX_LINE_BYTES: Final = 16 << 20
_MAX_REPAIRS: Final = 20
"""How many unpaired quotes of one file are cut out before the rest of it is refused."""

_UNPAIRED: Final = "UNQUOTED VALUE"
_READ: Final = """
CREATE OR REPLACE TABLE piece AS SELECT * FROM read_csv(
    ?, auto_detect = false, header = true, delim = ?, quote = '"', escape = '"',
    columns = {columns}, max_line_size = ?, store_rejects = true, rejects_table = 'refused',
    rejects_scan = 'refused_scans', rejects_limit = 0)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A record that does not fit: its physical line, and the beginning of its text."""

    line: int
    reason: QuarantineReason
    detail: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Column names of a CSV file, what separates them, and the line its data begin on."""

    names: tuple[str, ...]
    delimiter: str
    first_line: int

    def column(self, name: str) -> str:
        """The column of the table ``piece`` that holds ``name``; of two, the first."""
        return f"c{self.names.index(name)}"


def read_header(path: Path) -> Header:
    """The file's header; no names for an empty file.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    names, delimiter, first_line = lines.csv_header(path)
    return Header(names=names, delimiter=delimiter, first_line=first_line)


def read_records(
    connection: duckdb.DuckDBPyConnection, path: Path, header: Header, scratch: Path
) -> tuple[Path, list[Refused]]:
    """The table ``piece`` holds the file's records; returns the text read and what was refused.

    A quote that is opened and never closed would swallow all that follows: its line is refused, and
    the file is read again without it. Lines keep their numbers.

    Raises:
        duckdb.Error: the file cannot be read.
    """
    cut: list[Refused] = []
    while True:
        _read(connection, path, header)
        refused = _refused(connection, path)
        swallowing = next((r for r in refused if r.detail.startswith(_UNPAIRED)), None)
        if swallowing is None or len(cut) == _MAX_REPAIRS:
            return path, cut + refused
        cut.append(swallowing)
        path = lines.without_line(path, swallowing.line, scratch / f"cut{len(cut) % 2}.csv")


def _read(connection: duckdb.DuckDBPyConnection, path: Path, header: Header) -> None:
    columns = ", ".join(f"c{position}: 'VARCHAR'" for position in range(len(header.names)))
    for leftover in ("refused", "refused_scans"):
        connection.execute(f"DROP TABLE IF EXISTS {leftover}")
    connection.execute(
        _READ.format(columns=f"{{{columns}}}"), [exact(path), header.delimiter, MAX_LINE_BYTES]
    )


def _refused(connection: duckdb.DuckDBPyConnection, path: Path) -> list[Refused]:
    found = connection.execute(
        "SELECT line_byte_position, min(error_type::VARCHAR), min(error_message), min(csv_line) "
        "FROM refused GROUP BY line_byte_position ORDER BY line_byte_position"
    ).fetchall()
    places = lines.lines_at(path, [int(offset) for offset, *_ in found])
    return [
        Refused(
            line=places.get(int(offset), 0),
            reason=(
                QuarantineReason.LINE_TOO_LONG
                if kind == "LINE SIZE OVER MAXIMUM"
                else QuarantineReason.BAD_LINE
            ),
            detail=f"{kind}: {str(message).splitlines()[0]}",
            text=str(text or "").lstrip("\r\n").partition("\n")[0][: lines.PREFIX_CHARS],
        )
        for offset, kind, message, text in found
    ]
