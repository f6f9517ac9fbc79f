# ruff: noqa: S608 - SQL is put together from this package's own fragments; values are bound.
"""Rows that are set aside: kept with their reason, their place, and the columns that were mapped.

Nothing of a row is kept but the source's mapped columns, so that a prompt or an answer in the same
record never reaches the disk here; of a line that cannot be parsed, only its beginning is.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import duckdb
import pandas as pd

from optimizer.engine import lines
from optimizer.engine.columns import Plan
from optimizer.engine.duck import count, literal, quoted, single
from optimizer.engine.readers import Loaded
from optimizer.engine.spool import QUARANTINE, Spool
from optimizer.observations import QuarantineReason, ScoreScale
from optimizer.ports.intake_store import SpoolFile
from optimizer.ports.sources import FileInput, Mapped, Reject

RAW_BYTES: Final = 65_536
_VALUE_CHARS: Final = 4_000

Group = tuple[str, str, int, int, str]
"""Source, reason, rows, newest receipt and an example."""

COLUMNS: Final = (
    "id",
    "source",
    "kind",
    "origin",
    "line",
    "reason",
    "detail",
    "raw",
    "mapping",
    "received_s",
)

WHOLE_FILE: Final = frozenset(
    reason.value
    for reason in (
        QuarantineReason.UNREADABLE_FILE,
        QuarantineReason.TRUNCATED_FILE,
        QuarantineReason.BAD_HEADER,
    )
)
"""Reasons that speak of a file, not of a row in it."""

UNPARSED: Final = frozenset((QuarantineReason.BAD_LINE.value, QuarantineReason.LINE_TOO_LONG.value))
"""Reasons of lines of which only the beginning is kept."""


def collect(
    connection: duckdb.DuckDBPyConnection,
    spool: Spool,
    plan: Plan,
    *,
    source: str,
    loaded: Sequence[Loaded],
    rejects: Sequence[Reject],
    known: Sequence[SpoolFile],
    received_s: int,
) -> tuple[tuple[SpoolFile, ...], int, dict[str, int]]:
    """Write the rows of ``judged`` that break a rule, and the source's own rejects.

    Returns:
        The file, if there is one; how many rows were set aside in an earlier batch already; and how
        many are new, per reason.
    """
    # Most batches break no rule, and the query below takes its time to be planned.
    broken = count(connection, "judged WHERE problem IS NOT NULL")
    if not broken and not rejects:
        return (), 0, {}
    _places(connection, loaded)
    _reject_rows(connection, rejects)
    columns = list(plan.sources.items())
    keys = ", ".join(literal(name) for name, _ in columns)
    cells = ", ".join(f"left(raw.{quoted(column)}, {_VALUE_CHARS})" for _, column in columns)
    raw = f"CAST(to_json(map([{keys}], [{cells}])) AS VARCHAR)" if columns else "'{}'"
    connection.execute(
        f"""
CREATE OR REPLACE TABLE bad AS
WITH broken AS (
    SELECT origins.origin, coalesce(raw.line, places.line) AS line,
        split_part(problem, ':', 1) AS reason,
        substr(problem, position(':' IN problem) + 1) AS what,
        CASE WHEN bad_reason IS NULL THEN {raw}
            ELSE coalesce(bad_raw, places.text, '') END AS raw,
        raw.input_no, raw.ordinal
    FROM judged JOIN raw ON raw.input_no = judged.input_no AND raw.ordinal = judged.ordinal
    JOIN origins ON origins.input_no = raw.input_no
    LEFT JOIN places ON places.input_no = raw.input_no AND places.ordinal = raw.ordinal
    WHERE problem IS NOT NULL
    UNION ALL
    SELECT origin, line, reason, what, raw, NULL, ordinal FROM rejected
), bounded AS (
    SELECT *, CASE WHEN strlen(raw) <= {RAW_BYTES} THEN raw
        ELSE left(raw, {RAW_BYTES // 4}) END AS kept
    FROM broken
), numbered AS (
    SELECT *, row_number() OVER (
        PARTITION BY origin, line, kept ORDER BY input_no NULLS LAST, ordinal) AS occurrence
    FROM bounded
)
SELECT md5(CAST(to_json([?, origin, line::VARCHAR, kept, occurrence::VARCHAR]) AS VARCHAR)) AS id,
    ?::VARCHAR AS source, ?::VARCHAR AS kind, origin, line, reason,
    origin || coalesce(', line ' || line, '') || ': ' || what AS detail, kept AS raw,
    ?::VARCHAR AS mapping, ?::BIGINT AS received_s
FROM numbered
""",
        [source, source, plan.kind.value, mapping_text(plan.mapped), received_s],
    )
    n_all = count(connection, "bad")
    if known and n_all:
        connection.execute(
            "DELETE FROM bad USING (SELECT DISTINCT id FROM read_parquet(?)) AS seen "
            "WHERE seen.id = bad.id",
            [spool.patterns(known)],
        )
    by_reason = dict(
        connection.execute(
            "SELECT reason, count(*) FROM bad GROUP BY reason ORDER BY reason"
        ).fetchall()
    )
    n_new = sum(by_reason.values())
    return publish(connection, spool, "bad"), n_all - n_new, by_reason


def publish(
    connection: duckdb.DuckDBPyConnection, spool: Spool, table: str
) -> tuple[SpoolFile, ...]:
    """The table's rows as a file of the quarantine, none if it is empty."""
    n_rows, low, high, sources = single(
        connection,
        f"SELECT count(*), min(received_s), max(received_s), count(DISTINCT source) FROM {table}",
    )
    if not n_rows:
        return ()
    source = str(connection.execute(f"SELECT min(source) FROM {table}").fetchall()[0][0])

    def write(path: Path) -> None:
        connection.execute(
            f"COPY (SELECT {', '.join(COLUMNS)} FROM {table} ORDER BY ALL) "
            f"TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)"
        )

    return (
        spool.publish(
            QUARANTINE,
            source=source if sources == 1 else "*",
            n_rows=n_rows,
            min_s=low,
            max_s=high,
            write=write,
        ),
    )


def groups(
    connection: duckdb.DuckDBPyConnection, spool: Spool, files: Sequence[SpoolFile]
) -> list[Group]:
    """Source, reason, rows, newest receipt (Unix seconds) and one detail, the largest first."""
    if not files:
        return []
    return connection.execute(
        "SELECT source, reason, count(*), max(received_s), min(detail) FROM read_parquet(?) "
        "GROUP BY source, reason ORDER BY count(*) DESC, source, reason",
        [spool.patterns(files)],
    ).fetchall()


def rows(
    connection: duckdb.DuckDBPyConnection,
    spool: Spool,
    files: Sequence[SpoolFile],
    *,
    source: str | None,
    reason: str | None,
    limit: int,
) -> list[tuple[int, dict[str, Any]]]:
    """Receipt (Unix seconds) and fields of quarantined rows, newest first; None = any."""
    if not files:
        return []
    names = ("source", "kind", "origin", "line", "reason", "detail", "raw")
    found = connection.execute(
        f"SELECT received_s, {', '.join(names)} FROM read_parquet(?) "
        "WHERE (?::VARCHAR IS NULL OR source = ?) AND (?::VARCHAR IS NULL OR reason = ?) "
        "ORDER BY received_s DESC, origin, line, id LIMIT ?",
        [spool.patterns(files), source, source, reason, reason, limit],
    ).fetchall()
    return [(row[0], dict(zip(names, row[1:], strict=True))) for row in found]


def without_origin(
    connection: duckdb.DuckDBPyConnection,
    spool: Spool,
    files: Sequence[SpoolFile],
    *,
    source: str,
    origin: str,
) -> tuple[SpoolFile, ...]:
    """The rows but those that say that the source could not use the whole file ``origin``."""
    whole = ", ".join(map(literal, sorted(WHOLE_FILE)))
    connection.execute(
        "CREATE OR REPLACE TABLE held AS SELECT * FROM read_parquet(?) "
        f"WHERE NOT (source = ? AND origin = ? AND reason IN ({whole}))",
        [spool.patterns(files), source, origin],
    )
    return publish(connection, spool, "held")


def compact(
    connection: duckdb.DuckDBPyConnection, spool: Spool, files: Sequence[SpoolFile]
) -> tuple[SpoolFile, ...]:
    """The rows of the files as one file."""
    if not files:
        return ()
    connection.execute(
        "CREATE OR REPLACE TABLE held AS SELECT * FROM read_parquet(?)", [spool.patterns(files)]
    )
    return publish(connection, spool, "held")


def mapping_text(mapped: Mapped) -> str:
    """The mapping as canonical JSON; :func:`mapping_from` reads it."""
    return json.dumps(
        {
            "columns": dict(mapped.columns),
            "constants": dict(mapped.constants),
            "timezone": mapped.timezone,
            "scale": mapped.scale.value,
            "signals": dict(mapped.signals),
        },
        sort_keys=True,
    )


def mapping_from(text: str) -> Mapped:
    """The mapping a quarantined row was read with."""
    stored = json.loads(text)
    return Mapped(
        columns=MappingProxyType(stored["columns"]),
        constants=MappingProxyType(stored["constants"]),
        timezone=stored["timezone"],
        scale=ScoreScale(stored["scale"]),
        # Rows that were set aside before there were signals have none.
        signals=MappingProxyType(stored.get("signals", {})),
    )


def _places(connection: duckdb.DuckDBPyConnection, loaded: Sequence[Loaded]) -> None:
    """Tables ``origins`` (input_no, origin) and ``places`` (input_no, ordinal, line, text)."""
    origins = pd.DataFrame(
        {
            "input_no": pd.Series(range(len(loaded)), dtype="int64"),
            "origin": pd.Series([item.given.origin for item in loaded], dtype="str"),
        }
    )
    _table(connection, "origins", origins)
    wanted: dict[int, list[int]] = {}
    for number, ordinal in connection.execute(
        "SELECT raw.input_no, raw.ordinal FROM judged JOIN raw ON raw.input_no = judged.input_no "
        "AND raw.ordinal = judged.ordinal WHERE problem IS NOT NULL AND raw.ordinal >= 0"
    ).fetchall():
        wanted.setdefault(number, []).append(ordinal)
    found = [
        (number, *place)
        for number, ordinals in wanted.items()
        for place in _located(loaded[number], ordinals)
    ]
    places = pd.DataFrame(found, columns=["input_no", "ordinal", "line", "text"])
    types = {"input_no": "int64", "ordinal": "int64", "line": "int64", "text": "str"}
    _table(connection, "places", places.astype(types))


def _located(loaded: Loaded, ordinals: Sequence[int]) -> list[tuple[int, int, str]]:
    given = loaded.given
    if not isinstance(given, FileInput):
        return []
    if given.format == "parquet" or loaded.text is None:
        return [(ordinal, given.first_line + ordinal, "") for ordinal in ordinals]
    return lines.locate(given, loaded.text, ordinals, loaded.refused_lines)


def _reject_rows(connection: duckdb.DuckDBPyConnection, rejects: Sequence[Reject]) -> None:
    rows = [
        (position, item.origin, item.line, item.reason.value, item.detail, item.raw)
        for position, item in enumerate(rejects)
    ]
    names = ["ordinal", "origin", "line", "reason", "what", "raw"]
    types = {"ordinal": "int64", "line": "Int64", **dict.fromkeys(("origin", *names[3:]), "str")}
    _table(connection, "rejected", pd.DataFrame(rows, columns=names).astype(types))


def _table(connection: duckdb.DuckDBPyConnection, name: str, frame: pd.DataFrame) -> None:
    connection.register("given_rows", frame)
    connection.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM given_rows")
    connection.unregister("given_rows")
