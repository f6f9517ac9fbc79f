# ruff: noqa: S608 - SQL is put together from this package's own fragments; values are bound.
"""Spool files into the finest aggregates: one pass over the calls for each need.

Everything summed is a whole number, rounded row by row, so that no order of files, threads or hours
shows in a result.
"""

from collections.abc import Sequence
from typing import Final

import duckdb
import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer import aggregates as ag
from optimizer.bucket_edges import EDGES, LAST_BUCKET, RATIO
from optimizer.engine.duck import EngineLimits, literal
from optimizer.engine.intake import in_time, overlapping
from optimizer.engine.spool import Spool
from optimizer.metrics import GRAIN_S
from optimizer.ports.intake_store import SpoolFile

_KEYS: Final = ", ".join(ag.KEYS)
_TOKENS_KNOWN: Final = "input_tokens IS NOT NULL AND output_tokens IS NOT NULL"
_TIMED: Final = "NOT failed AND latency_us IS NOT NULL"
_LN_MS: Final = f"CASE WHEN {_TIMED} THEN ln(latency_ms) END"
_LN_USD: Final = "CASE WHEN cost_nusd > 0 THEN ln(cost_nusd / 1e9) END"

_SUMS: Final = {
    "n": "count(*)",
    "n_failed": "count(*) FILTER (failed)",
    "n_timeout": "count(*) FILTER (timeout)",
    "n_fallback": "count(*) FILTER (fallback)",
    "n_latency": f"count(*) FILTER ({_TIMED})",
    "latency_us": f"sum(latency_us) FILTER ({_TIMED})",
    "log_latency_e6": f"sum(round({_LN_MS} * 1e6)::BIGINT)",
    "log_latency_sq_e6": f"sum(round(({_LN_MS}) * ({_LN_MS}) * 1e6)::BIGINT)",
    "n_cost": "count(cost_nusd)",
    "cost_nusd": "sum(cost_nusd)",
    "log_cost_e6": f"sum(round({_LN_USD} * 1e6)::BIGINT)",
    "log_cost_sq_e6": f"sum(round(({_LN_USD}) * ({_LN_USD}) * 1e6)::BIGINT)",
    "n_positive_cost": "count(*) FILTER (cost_nusd > 0)",
    "input_tokens": f"sum(input_tokens) FILTER ({_TOKENS_KNOWN})",
    "output_tokens": f"sum(output_tokens) FILTER ({_TOKENS_KNOWN})",
    "cached_tokens": f"sum(cached_tokens) FILTER ({_TOKENS_KNOWN})",
    "n_tokens": f"count(*) FILTER ({_TOKENS_KNOWN})",
    "n_quality": "count(score)",
    "quality_e6": "sum(round(score * 1e6)::BIGINT)",
    "quality_sq_e9": "sum(round(score * score * 1e9)::BIGINT)",
}

_FIRST_EXPONENT: Final = LAST_BUCKET // 2
_BUCKET: Final = (
    "(edges.bucket + (latency_ms > edges.high)::INTEGER - (latency_ms <= edges.low)::INTEGER)"
)
"""Two logarithms may differ in their last bit; the literal edges decide."""


def aggregate(
    connection: duckdb.DuckDBPyConnection,
    spool: Spool,
    limits: EngineLimits,
    windows: Sequence[int],
    *,
    calls: Sequence[SpoolFile],
    feedback: Sequence[SpoolFile],
) -> pd.DataFrame:
    """Grains of the windows, sorted by key; windows without calls have none."""
    if not windows:
        return ag.empty()
    span = (min(windows), max(windows) + GRAIN_S)
    held = overlapping(calls, span)
    if not held:
        return ag.empty()
    starts = pd.DataFrame({"window_start_s": np.unique(np.asarray(windows, dtype=np.int64))})
    connection.register("wanted_windows", starts)
    connection.execute("CREATE OR REPLACE TABLE wanted AS SELECT * FROM wanted_windows")
    connection.unregister("wanted_windows")
    patterns = ", ".join(literal(pattern) for pattern in spool.patterns(held))
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW calls AS SELECT * FROM read_parquet([{patterns}]) "
        f"WHERE window_start_s BETWEEN {span[0]} AND {span[1] - GRAIN_S} "
        "AND window_start_s IN (SELECT window_start_s FROM wanted)"
    )
    given = overlapping(feedback, span, before=limits.clock_slack, after=limits.feedback_horizon)
    scored_calls(connection, spool, limits, given)
    grains = _sums(connection)
    grains[ag.HISTOGRAM] = pd.Series(_histograms(connection, len(grains)), dtype="object")
    grains[ag.CLUSTERS] = pd.Series(_clusters(connection, len(grains)), dtype="object")
    return grains[[*ag.KEYS, *ag.SUMS, ag.HISTOGRAM, ag.CLUSTERS]]


def scored_calls(
    connection: duckdb.DuckDBPyConnection,
    spool: Spool,
    limits: EngineLimits,
    feedback: Sequence[SpoolFile],
) -> None:
    """View ``scored``: those of ``calls`` with ``score``, the newest feedback's, else their own."""
    if not feedback:
        connection.execute(
            "CREATE OR REPLACE TEMP VIEW scored AS SELECT *, quality AS score FROM calls"
        )
        return
    connection.execute(
        "CREATE OR REPLACE TABLE newest AS "
        "SELECT request_id, max_by(score, (feedback.ts, score)) AS judged "
        "FROM read_parquet(?) AS feedback JOIN (SELECT request_id, ts FROM calls) AS judged_calls "
        f"USING (request_id) WHERE {in_time('feedback', 'judged_calls', limits)} "
        "GROUP BY request_id",
        [spool.patterns(feedback)],
    )
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW scored AS SELECT calls.*, coalesce(judged, quality) AS score "
        "FROM calls LEFT JOIN newest USING (request_id)"
    )


def _sums(connection: duckdb.DuckDBPyConnection) -> pd.DataFrame:
    """One row per key; table ``groups`` numbers them in order."""
    sums = ", ".join(f"coalesce({sql}, 0)::BIGINT AS {name}" for name, sql in _SUMS.items())
    connection.execute(
        f"CREATE OR REPLACE TABLE summed AS SELECT {_KEYS}, {sums} FROM scored GROUP BY {_KEYS}"
    )
    connection.execute(
        f"CREATE OR REPLACE TABLE units AS SELECT {_KEYS}, count(*) AS n_units FROM "
        f"(SELECT DISTINCT {_KEYS}, session_id FROM calls) GROUP BY {_KEYS}"
    )
    connection.execute(
        f"CREATE OR REPLACE TABLE groups AS SELECT {_KEYS}, "
        f"row_number() OVER (ORDER BY {_KEYS}) - 1 AS position FROM summed"
    )
    frame = connection.execute(
        f"SELECT summed.*, n_units FROM summed JOIN units USING ({_KEYS}) ORDER BY {_KEYS}"
    ).df()
    names = dict.fromkeys(ag.KEYS[:-1], "str")
    return frame.astype({**names, "window_start_s": "int64", **dict.fromkeys(ag.SUMS, "int64")})


def _histograms(connection: duckdb.DuckDBPyConnection, n_groups: int) -> npt.NDArray[np.object_]:
    edges = pd.DataFrame(
        {
            "bucket": np.arange(LAST_BUCKET + 1),
            "low": np.r_[0.0, EDGES[:-1]],
            # The last bucket is open above.
            "high": np.r_[EDGES[:-1], np.inf],
        }
    )
    connection.register("given_edges", edges)
    connection.execute("CREATE OR REPLACE TABLE edges AS SELECT * FROM given_edges")
    connection.unregister("given_edges")
    guess = (
        f"least(greatest(ceil(ln(latency_ms) / ln({RATIO})) + {_FIRST_EXPONENT}, 0), {LAST_BUCKET})"
    )
    found = connection.execute(
        f"WITH timed AS (SELECT {_KEYS}, latency_ms, {guess}::BIGINT AS guess FROM calls "
        f"WHERE {_TIMED}), counted AS (SELECT {_KEYS}, {_BUCKET} AS bucket, count(*) AS count "
        "FROM timed JOIN edges ON edges.bucket = timed.guess GROUP BY ALL) "
        f"SELECT position, bucket, count FROM counted JOIN groups USING ({_KEYS})"
    ).fetchnumpy()
    return ag.pack_histograms(found["position"], found["bucket"], found["count"], n_groups=n_groups)


def _clusters(connection: duckdb.DuckDBPyConnection, n_groups: int) -> npt.NDArray[np.object_]:
    sums = ", ".join(f"coalesce({_SUMS[name]}, 0)::BIGINT AS {name}" for name in ag.CLUSTER_FIELDS)
    found = connection.execute(
        f"SELECT position, cluster, {', '.join(ag.CLUSTER_FIELDS)} FROM (SELECT {_KEYS}, cluster, "
        f"{sums} FROM scored WHERE slice IN ('control', 'canary', 'experiment') GROUP BY ALL) "
        f"JOIN groups USING ({_KEYS})"
    ).fetchnumpy()
    rows, inverse = np.unique(found["position"], return_inverse=True)
    cells = np.zeros((len(rows), len(ag.CLUSTER_FIELDS), ag.N_CLUSTERS), dtype=np.int64)
    for place, name in enumerate(ag.CLUSTER_FIELDS):
        cells[inverse, place, found["cluster"]] = found[name]
    codes = np.full(n_groups, b"", dtype=object)
    for row, table in zip(rows, cells, strict=True):
        codes[row] = ag.pack_clusters(table)
    return codes
