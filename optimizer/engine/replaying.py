# ruff: noqa: S608 - SQL is put together from this package's own fragments; values are bound.
"""Quarantined rows into the table of text again, from what was kept of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import duckdb

from optimizer.engine import quarantine
from optimizer.engine.columns import Plan
from optimizer.engine.duck import literal, quoted
from optimizer.engine.spool import Spool
from optimizer.observations import Kind
from optimizer.ports.intake_store import SpoolFile
from optimizer.ports.sources import Mapped

_WHOLE: Final = ", ".join(map(literal, sorted(quarantine.WHOLE_FILE | quarantine.UNPARSED)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows of one source that were read with one mapping."""

    source: str
    kind: Kind
    mapping: str


def load_quarantine(
    connection: duckdb.DuckDBPyConnection,
    spool: Spool,
    files: Sequence[SpoolFile],
    *,
    sources: Sequence[str] | None,
    reasons: Sequence[str] | None,
) -> list[Group]:
    """Table ``held``: every row of the files, and whether it is ``tried`` again; the groups to try.

    ``sources`` and ``reasons`` narrow the choice; None = all. What speaks of a whole file, and
    lines that could not be parsed, cannot be tried from what was kept.
    """
    connection.execute(
        "CREATE OR REPLACE TABLE held AS SELECT *, "
        "row_number() OVER (ORDER BY id) - 1 AS place, "
        f"reason NOT IN ({_WHOLE}) AND (?::VARCHAR[] IS NULL OR list_contains(?, source)) "
        "AND (?::VARCHAR[] IS NULL OR list_contains(?, reason)) "
        "AND coalesce(json_valid(raw), false) AS tried FROM read_parquet(?)",
        [
            *(None if sources is None else list(sources),) * 2,
            *(None if reasons is None else list(reasons),) * 2,
            spool.patterns(files),
        ],
    )
    found = connection.execute(
        "SELECT DISTINCT source, kind, mapping FROM held WHERE tried ORDER BY ALL"
    ).fetchall()
    return [Group(source=source, kind=Kind(kind), mapping=text) for source, kind, text in found]


def plan_of(group: Group, mapped: Mapping[str, Mapped]) -> Plan:
    """How the group is read now: with its source's present mapping, else as it was then."""
    current = mapped.get(group.source)
    return Plan(
        kind=group.kind,
        mapped=quarantine.mapping_from(group.mapping) if current is None else current,
    )


def load_group(connection: duckdb.DuckDBPyConnection, plan: Plan, group: Group) -> None:
    """Table ``raw``: the group's rows; ``ordinal`` is their place in ``held``."""
    columns: list[str] = []
    values: list[object] = []
    for column in plan.columns:
        name = plan.source_of(column.name)
        if name is None:
            place = "?::VARCHAR"
            values.append(plan.mapped.constants[column.name])
        else:
            place = "json_extract_string(raw, ?::VARCHAR)"
            values.append("/" + name.replace("~", "~0").replace("/", "~1"))
        columns.append(f"nullif(trim({place}), '') AS {quoted(column.name)}")
    connection.execute(
        "CREATE OR REPLACE TABLE raw AS SELECT 0 AS input_no, place AS ordinal, line, "
        "NULL::VARCHAR AS bad_reason, NULL::VARCHAR AS bad_detail, NULL::VARCHAR AS bad_raw, "
        f"{', '.join(columns)} FROM held "
        "WHERE tried AND source = ? AND kind = ? AND mapping = ?",
        [*values, group.source, group.kind.value, group.mapping],
    )


def settle_group(connection: duckdb.DuckDBPyConnection) -> None:
    """In ``held``, rows that failed again have their newest reason; rows that passed are gone."""
    connection.execute(
        "UPDATE held SET reason = split_part(problem, ':', 1), "
        "detail = origin || coalesce(', line ' || held.line, '') || ': ' "
        "|| substr(problem, position(':' IN problem) + 1) "
        "FROM judged WHERE judged.ordinal = held.place AND problem IS NOT NULL"
    )
    connection.execute(
        "DELETE FROM held USING judged WHERE judged.ordinal = held.place AND problem IS NULL"
    )
