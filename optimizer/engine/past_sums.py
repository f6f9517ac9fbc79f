# ruff: noqa: S608 - SQL is put together from this package's own fragments; values are bound.
"""Sums over a log by target, arm and window, and by hash bucket of sessions.

One thread adds, in the order of the file, so that the same log gives the same bytes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import duckdb
import pandas as pd

from optimizer.engine.duck import connect, exact, literal
from optimizer.engine.past import Past
from optimizer.metrics import DAY_S, HOUR_S

VALUES: Final[Mapping[str, str]] = {
    "cost_usd": "cost_nusd * 1e-9",
    "quality": "score",
    "failure_rate": "failed::INTEGER::DOUBLE",
    "fallback_rate": "fallback::INTEGER::DOUBLE",
    "latency_exceedance": "CASE WHEN failed THEN 1.0 WHEN latency_ms > slow_ms THEN 1.0 "
    "WHEN latency_ms IS NOT NULL AND slow_ms IS NOT NULL THEN 0.0 END",
    "latency_ms": "CASE WHEN NOT failed THEN latency_ms END",
}
"""SQL of what one call measures, by metric; NULL = unknown."""

SLOW: Final = 0.95

CELL: Final = ("target", "arm", "cell_s")


@dataclass(frozen=True, slots=True)
class PastSums:
    """A log in which every call has its score, its latency threshold and its weight."""

    connection: duckdb.DuckDBPyConnection

    def propensities(self) -> pd.DataFrame:
        """By target, arm and hash bucket: calls, those with a propensity, and sum of 1/p."""
        return self.connection.execute(
            "SELECT target, arm, cluster, count(*) AS n, count(propensity) AS known, "
            "coalesce(sum(1.0 / propensity), 0.0) AS weight "
            "FROM rows GROUP BY ALL ORDER BY target, arm, cluster"
        ).df()

    def weigh(self, targets: list[str]) -> None:
        """Count every call of those targets by 1 / propensity from now on, others by 1."""
        given = pd.DataFrame({"target": pd.Series(targets, dtype="str")})
        self.connection.register("given_targets", given)
        self.connection.execute(
            "CREATE OR REPLACE TABLE weighed AS SELECT target, true AS yes FROM given_targets"
        )
        self.connection.unregister("given_targets")

    def calls(self) -> pd.DataFrame:
        """Calls by target and hour, and what those of known cost spent, USD."""
        return self.connection.execute(
            f"SELECT target, window_start_s // {HOUR_S} * {HOUR_S} AS cell_s, count(*) AS n, "
            "count(cost_nusd) AS n_cost, coalesce(sum(cost_nusd), 0)::DOUBLE * 1e-9 AS spend_usd "
            "FROM rows GROUP BY ALL ORDER BY target, cell_s"
        ).df()

    def cells(self, metric: str, width_s: int) -> pd.DataFrame:
        """By target, arm and window: known calls n, their sum, weight, and weighted sum."""
        return self.connection.execute(
            f"SELECT target, arm, cell_s, count(*) AS n, sum(y) AS total, sum(w) AS weight, "
            f"sum(w * y) AS weighted FROM ({_valued(metric, width_s)}) "
            "GROUP BY ALL ORDER BY target, arm, cell_s"
        ).df()

    def residuals(self, metric: str, width_s: int, wanted: pd.DataFrame) -> pd.DataFrame:
        """Linear combinations of deviations, by scenario, target, day and hash bucket.

        Args:
            metric: what is summed.
            width_s: width of the windows of ``wanted``, seconds.
            wanted: scenario, target, arm, cell_s, plain, weighted, centre: each call adds
                ``(plain + weighted * weight) * (value - centre)``.

        Returns:
            scenario, target, day_s, cluster, the sum ``z``, and ``load``, the sum of
            ``abs(weighted) * weight``.
        """
        self.connection.register("given_wanted", wanted)
        self.connection.execute("CREATE OR REPLACE TABLE wanted AS SELECT * FROM given_wanted")
        self.connection.unregister("given_wanted")
        return self.connection.execute(
            "WITH sums AS (SELECT target, arm, cell_s, cluster, count(*) AS n, sum(y) AS total, "
            "sum(w) AS weight, sum(w * y) AS heavy "
            f"FROM ({_valued(metric, width_s)}) GROUP BY ALL) "
            f"SELECT scenario, target, cell_s // {DAY_S} * {DAY_S} AS day_s, cluster, "
            "sum(plain * (total - n * centre) + weighted * (heavy - weight * centre)) AS z, "
            "sum(abs(weighted) * weight) AS load "
            f"FROM sums JOIN wanted USING ({', '.join(CELL)}) "
            "GROUP BY ALL ORDER BY scenario, target, day_s, cluster"
        ).df()


@contextmanager
def opened(
    past: Past, *, start_s: int, end_s: int, in_force: Mapping[str, str]
) -> Iterator[PastSums]:
    """Sums over the calls of ``[start_s, end_s)``; slow is beyond the p95 of the arm in force.

    Raises:
        UnavailableError: the disk or the memory did not suffice.
    """
    limits = replace(past.engine.limits, threads=1)
    with connect(limits, past.engine.temporary) as connection:
        arms = pd.DataFrame(
            {
                "target": pd.Series(list(in_force), dtype="str"),
                "arm": pd.Series(list(in_force.values()), dtype="str"),
            }
        )
        connection.register("given_arms", arms)
        connection.execute("CREATE TABLE in_force AS SELECT * FROM given_arms")
        connection.unregister("given_arms")
        calls, scores = (literal(exact(path)) for path in (past.calls, past.scores))
        span = f"window_start_s >= {start_s:d} AND window_start_s < {end_s:d}"
        connection.execute(
            "CREATE TABLE thresholds AS SELECT target, quantile_disc(latency_ms, ?) AS slow_ms "
            f"FROM read_parquet({calls}) JOIN in_force USING (target, arm) "
            f"WHERE {span} AND NOT failed AND latency_ms IS NOT NULL GROUP BY target",
            [SLOW],
        )
        connection.execute(
            "CREATE TABLE newest AS SELECT request_id, max_by(score, (ts, score)) AS judged "
            f"FROM read_parquet({scores}) WHERE {span} GROUP BY request_id"
        )
        connection.execute(
            "CREATE TABLE rows AS SELECT window_start_s, target, arm, cluster, cost_nusd, failed, "
            "fallback, latency_ms, slow_ms, propensity, coalesce(judged, quality) AS score "
            f"FROM read_parquet({calls}) LEFT JOIN newest USING (request_id) "
            f"LEFT JOIN thresholds USING (target) WHERE {span} "
            "ORDER BY window_start_s, target, arm, ts, request_id"
        )
        found = PastSums(connection)
        found.weigh([])
        yield found


def _valued(metric: str, width_s: int) -> str:
    """SQL of every call whose value ``y`` is known, with its weight ``w``."""
    return (
        f"SELECT target, arm, window_start_s // {width_s:d} * {width_s:d} AS cell_s, cluster, "
        f"{VALUES[metric]} AS y, CASE WHEN yes THEN 1.0 / propensity ELSE 1.0 END AS w "
        f"FROM rows LEFT JOIN weighed USING (target) WHERE ({VALUES[metric]}) IS NOT NULL"
    )
