# ruff: noqa: S608 - SQL is put together from this package's own fragments; values are bound.
"""Files and frames into one table of text: every canonical column, nothing judged yet.

Schemas are explicit: no type is guessed from data, so that the same row reads the same in every
file. A line that cannot be read becomes a row with its reason; a file that cannot be read becomes
one such row and stops no other file.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

import duckdb

from optimizer.engine import csv_files, lines
from optimizer.engine.columns import Plan
from optimizer.engine.duck import exact, quoted
from optimizer.engine.frames import ready
from optimizer.observations import QuarantineReason
from optimizer.ports.sources import FileInput, FrameInput

_DETAIL_CHARS: Final = 500


@dataclass(slots=True)
class Loaded:
    """An input in the table: the text that was read, and the lines the reader refused."""

    given: FileInput | FrameInput
    text: Path | None = None
    refused_lines: frozenset[int] = frozenset()


@dataclass(slots=True)
class Loader:
    """Fills the table ``raw``: input_no, ordinal, line, bad_*, then the canonical columns as text.

    ``ordinal`` counts the readable rows of an input from 0, and is below 0 for what was refused
    outright; ``line`` is set where it is known at once; ``bad_reason``, ``bad_detail`` and
    ``bad_raw`` are set for what could not be read.
    """

    connection: duckdb.DuckDBPyConnection
    plan: Plan
    scratch: Path
    loaded: list[Loaded] = field(default_factory=list)
    refusals: Iterator[int] = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        """Create the empty table."""
        names = ", ".join(f"{quoted(column.name)} VARCHAR" for column in self.plan.columns)
        self.connection.execute(
            "CREATE TABLE raw (input_no INTEGER, ordinal BIGINT, line BIGINT, "
            f"bad_reason VARCHAR, bad_detail VARCHAR, bad_raw VARCHAR, {names})"
        )

    def load(self, given: FileInput | FrameInput) -> None:
        """Append one input."""
        self.loaded.append(Loaded(given=given))
        if isinstance(given, FrameInput):
            self._frame(given)
            return
        readers = {"csv": self._csv, "jsonl": self._json, "parquet": self._parquet}
        try:
            if given.path.stat().st_size:
                readers[given.format](given)
        except duckdb.OutOfMemoryException:
            raise
        except UnicodeDecodeError as reason:
            self._refuse(QuarantineReason.BAD_HEADER, f"the header is not UTF-8: {reason}")
        except (OSError, EOFError, duckdb.Error) as reason:
            self._refuse(QuarantineReason.UNREADABLE_FILE, _plain(reason))

    def _csv(self, given: FileInput) -> None:
        header = csv_files.read_header(given.path)
        if not header.names or self._lacks(header.names):
            return
        folder = self.scratch / f"{len(self.loaded)}"
        folder.mkdir()
        text, refused = csv_files.read_records(self.connection, given.path, header, folder)
        loaded = self.loaded[-1]
        loaded.text, loaded.refused_lines = text, frozenset(record.line for record in refused)
        for record in refused:
            line = given.first_line + record.line - header.first_line
            self._refuse(record.reason, record.detail, line, record.text)
        self._insert(
            "piece",
            "rowid",
            {name: header.column(name) for name in self.plan.sources if name in header.names},
        )

    def _json(self, given: FileInput) -> None:
        text = lines.without_bom(given.path, self.scratch / f"{len(self.loaded)}.jsonl")
        self.loaded[-1].text = text
        # Lines are read whole: one that is no JSON becomes NULL and keeps its place.
        self.connection.execute(
            "CREATE OR REPLACE TABLE piece AS SELECT json FROM read_ndjson_objects(?, "
            "ignore_errors = true, compression = ?, maximum_object_size = ?)",
            [exact(text), _compression(text), csv_files.MAX_LINE_BYTES],
        )
        is_object = "json_type(json) = 'OBJECT'"
        self.connection.execute(
            "INSERT INTO raw BY NAME SELECT ? AS input_no, rowid AS ordinal, ? AS bad_reason, "
            "CASE WHEN json IS NULL THEN 'is not valid JSON' ELSE 'is not a JSON object' END "
            f"AS bad_detail FROM piece WHERE ({is_object}) IS NOT TRUE",
            [self._number, QuarantineReason.BAD_LINE.value],
        )
        pointers: list[str] = []
        columns: dict[str, str] = {}
        for name in self.plan.sources:
            # A key that holds a dot comes before a path of the same spelling.
            ways = ["/" + _escaped(name)]
            if "." in name:
                ways.append("/" + "/".join(_escaped(part) for part in name.split(".")))
            places = [f"cells[{len(pointers) + way + 1}]" for way in range(len(ways))]
            columns[name] = f"coalesce({', '.join(places)})"
            pointers += ways
        cells = f"json_extract_string(json, {_pointers(pointers)}) AS cells"
        self._insert(
            f"(SELECT rowid AS ordinal, {cells} FROM piece WHERE {is_object})", "ordinal", columns
        )

    def _parquet(self, given: FileInput) -> None:
        source = "read_parquet(?, file_row_number = true)"
        types = self.connection.execute(
            f"DESCRIBE SELECT * FROM {source}", [exact(given.path)]
        ).fetchall()
        present = {str(name) for name, *_ in types} - {"file_row_number"}
        columns = {
            name: place
            for name in self.plan.sources
            if (place := _struct_place(name, present)) is not None
        }
        if not self._lacks(columns):
            self._insert(source, "file_row_number", columns, [exact(given.path)])

    def _frame(self, given: FrameInput) -> None:
        present = [name for name in self.plan.sources if name in given.frame.columns]
        if not len(given.frame) or self._lacks(present, shown=list(map(str, given.frame.columns))):
            return
        self.connection.register("given_frame", ready(given.frame, present))
        places = {name: f"c{position}" for position, name in enumerate(present)}
        self._insert("given_frame", "ordinal", places)
        self.connection.unregister("given_frame")

    @property
    def _number(self) -> int:
        return len(self.loaded) - 1

    def _insert(
        self, source: str, ordinal: str, places: Mapping[str, str], given: Sequence[object] = ()
    ) -> None:
        """Append the rows of a table, given where each of the source's columns is found."""
        constants: list[object] = []
        columns: list[str] = []
        for column in self.plan.columns:
            name = self.plan.source_of(column.name)
            if name is None:
                constants.append(self.plan.mapped.constants[column.name])
            place = "?" if name is None else places.get(name)
            if place is not None:
                columns.append(
                    f"nullif(trim(CAST({place} AS VARCHAR)), '') AS {quoted(column.name)}"
                )
        self.connection.execute(
            f"INSERT INTO raw BY NAME SELECT ? AS input_no, {ordinal} AS ordinal, "
            f"{', '.join(columns)} FROM {source}",
            [self._number, *constants, *given],
        )

    def _lacks(self, present: Collection[str], *, shown: Collection[str] | None = None) -> bool:
        """Whether a required column is missing; then the whole input is refused."""
        missing = self.plan.missing(present)
        if missing:
            there = ", ".join(sorted(present if shown is None else shown))
            self._refuse(
                QuarantineReason.BAD_HEADER,
                f"lacks the required columns {', '.join(missing)}; it has {there or 'none'}",
            )
        return bool(missing)

    def _refuse(
        self, reason: QuarantineReason, detail: str, line: int | None = None, raw: str = ""
    ) -> None:
        self.connection.execute(
            "INSERT INTO raw BY NAME SELECT ? AS input_no, ? AS ordinal, ?::BIGINT AS line, "
            "? AS bad_reason, ? AS bad_detail, ? AS bad_raw",
            [self._number, -next(self.refusals), line, reason.value, detail, raw],
        )


def _escaped(part: str) -> str:
    """A key inside a JSON pointer (RFC 6901, section 3)."""
    return part.replace("~", "~0").replace("/", "~1")


def _pointers(pointers: list[str]) -> str:
    texts = ("'" + pointer.replace("'", "''") + "'" for pointer in pointers)
    return f"[{', '.join(texts)}]"


def _compression(path: Path) -> str:
    with path.open("rb") as file:
        return "gzip" if file.read(2) == b"\x1f\x8b" else "none"


def _struct_place(name: str, present: Collection[str]) -> str | None:
    """The column of that name, or the field that a dotted path leads to."""
    if name in present:
        return quoted(name)
    head, *path = name.split(".")
    if head in present and path:
        return ".".join(quoted(part) for part in (head, *path))
    return None


def _plain(reason: Exception) -> str:
    return (str(reason).splitlines() or [type(reason).__name__])[0][:_DETAIL_CHARS]
