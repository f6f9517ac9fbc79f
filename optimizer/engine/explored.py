# ruff: noqa: S608 - SQL is put together from this package's own fragments; values are bound.
"""Scored calls with the chance they were given, summed: what off-policy estimates rest on.

Calls of one hour, arm, chance and hash bucket of sessions are alike in all but their scores, so
that their sums say what they say. Everything summed is a whole number: no order of files or threads
shows in a result.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import duckdb
import pandas as pd

from optimizer.engine.duck import EngineLimits, literal
from optimizer.engine.grains import scored_calls
from optimizer.engine.intake import overlapping
from optimizer.engine.spool import Spool
from optimizer.metrics import HOUR_S
from optimizer.observations import EXPLORED
from optimizer.ports.intake_store import SpoolFile

_HOUR: Final = f"window_start_s // {HOUR_S} * {HOUR_S}"


def explored(
    connection: duckdb.DuckDBPyConnection,
    spool: Spool,
    limits: EngineLimits,
    hours: Mapping[str, Sequence[int]],
    *,
    calls: Sequence[SpoolFile],
    feedback: Sequence[SpoolFile],
) -> dict[str, pd.DataFrame]:
    """For each target its scored calls of those hours (starts, Unix seconds), summed.

    Columns: :data:`optimizer.observations.EXPLORED`, sorted by them; a target without any is left
    out.
    """
    wanted = pd.DataFrame(
        [(name, start) for name, starts in hours.items() for start in starts],
        columns=["target", "hour_start_s"],
    )
    span = (int(wanted["hour_start_s"].min()), int(wanted["hour_start_s"].max()) + HOUR_S)
    held = overlapping(calls, span)
    if not held:
        return {}
    connection.register("wanted_hours", wanted)
    connection.execute("CREATE OR REPLACE TABLE wanted AS SELECT * FROM wanted_hours")
    connection.unregister("wanted_hours")
    patterns = ", ".join(literal(pattern) for pattern in spool.patterns(held))
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW calls AS SELECT *, {_HOUR} AS hour_start_s "
        f"FROM read_parquet([{patterns}]) WHERE window_start_s >= {span[0]} "
        f"AND window_start_s < {span[1]} "
        f"AND (target, {_HOUR}) IN (SELECT (target, hour_start_s) FROM wanted)"
    )
    given = overlapping(feedback, span, before=limits.clock_slack, after=limits.feedback_horizon)
    scored_calls(connection, spool, limits, given)
    frame = connection.execute(
        "SELECT target, hour_start_s, arm, propensity, cluster, count(*) AS n, "
        "sum(round(score * 1e6)::BIGINT)::BIGINT AS quality_e6, "
        "sum(round(score * score * 1e9)::BIGINT)::BIGINT AS quality_sq_e9 "
        "FROM scored WHERE score IS NOT NULL GROUP BY ALL ORDER BY ALL"
    ).df()
    return {
        str(name): rows[list(EXPLORED)].reset_index(drop=True)
        for name, rows in frame.groupby("target", observed=True)
    }
