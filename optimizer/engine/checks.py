# ruff: noqa: S608 - SQL is put together from this package's own fragments; values are bound.
"""Raw rows into good rows and rows that are set aside, all of it in SQL.

Law: every raw row becomes exactly one of good, duplicate or quarantined.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import duckdb
import pandas as pd

from optimizer.aggregates import N_CLUSTERS
from optimizer.engine import rules
from optimizer.engine.columns import Plan
from optimizer.engine.duck import EngineLimits, literal, quoted
from optimizer.engine.moments import moment
from optimizer.metrics import GRAIN_S
from optimizer.observations import Kind
from optimizer.targets import Price, Target

_NUSD_PER_TOKEN: Final = 1e9 / 1e6
"""Nano-dollars per token for one dollar per million tokens."""

Prices = Mapping[tuple[str, str], Price]
"""(target, arm) -> price, for arms that have none of their own."""


def check(
    connection: duckdb.DuckDBPyConnection,
    plan: Plan,
    limits: EngineLimits,
    *,
    source: str,
    received_at: datetime,
) -> None:
    """Table ``judged``: each row's spool columns, ``problem``, ``key``, input_no and ordinal.

    ``problem`` is NULL for a good row; ``key`` tells good rows that are the same. The view ``good``
    shows the good rows. The table ``arms`` must be there (:func:`arms_table`).
    """
    parsed = ", ".join(f"{rules.number(plan, name)} AS x_{name}" for name in rules.numbers(plan))
    zone = moment(plan.mapped.timezone)
    known = "raw.*"
    joined = ""
    if plan.kind is Kind.CALLS:
        known += (
            ", raw.target IN (SELECT target FROM arms) AS is_target, arms.arm IS NOT NULL AS is_arm"
            ", model, input_nusd, output_nusd, cached_nusd"
        )
        joined = "LEFT JOIN arms ON arms.target = raw.target AND arms.arm = raw.arm"
    columns = _calls(plan) if plan.kind is Kind.CALLS else _feedback(plan)
    connection.execute(
        "CREATE OR REPLACE TABLE judged AS WITH parsed AS ("
        f"SELECT {known}, {zone} AS moment, {parsed}, ?::TIMESTAMPTZ AS not_after, "
        f"?::TIMESTAMPTZ AS not_before, ?::VARCHAR AS source FROM raw {joined}), "
        f"ruled AS (SELECT *, {rules.problem(rules.rules_for(plan))} AS problem FROM parsed), "
        f"{columns}",
        [received_at + limits.max_ahead, received_at - limits.max_age, source],
    )
    connection.execute("CREATE OR REPLACE VIEW good AS SELECT * FROM judged WHERE problem IS NULL")


def arms_table(
    connection: duckdb.DuckDBPyConnection, targets: Mapping[str, Target], prices: Prices
) -> None:
    """Table ``arms``: target, arm, model and prices in nano-dollars per token, NULL = unknown.

    An arm's own price comes before the price book's.
    """
    rows = [
        (target.name, arm.name, arm.config.model, *_nusd(arm.price or prices.get((name, arm.name))))
        for name, target in targets.items()
        for arm in target.arms
    ]
    names = ["target", "arm", "model", "input_nusd", "output_nusd", "cached_nusd"]
    frame = pd.DataFrame(rows, columns=names)
    for position, name in enumerate(names):
        frame[name] = frame[name].astype("str" if position < 3 else "float64")  # noqa: PLR2004
    connection.register("arms_frame", frame)
    connection.execute("CREATE OR REPLACE TABLE arms AS SELECT * FROM arms_frame")
    connection.unregister("arms_frame")


def row_text(plan: Plan, table: str) -> str:
    """SQL of a text that tells rows of different content apart."""
    names = ", ".join(f"{table}.{quoted(column.name)}" for column in plan.columns)
    return f"CAST(to_json([{names}]) AS VARCHAR)"


def _nusd(price: Price | None) -> tuple[float | None, float | None, float | None]:
    if price is None:
        return None, None, None
    cached = price.cached_input_usd_per_mtok
    return (
        price.input_usd_per_mtok * _NUSD_PER_TOKEN,
        price.output_usd_per_mtok * _NUSD_PER_TOKEN,
        (price.input_usd_per_mtok if cached is None else cached) * _NUSD_PER_TOKEN,
    )


def _calls(plan: Plan) -> str:
    """The spool's rows of calls. Money is rounded once, half away from zero, to nano-dollars."""
    ok, timed_out = (", ".join(map(literal, names)) for names in (rules.OK, rules.TIMED_OUT))
    cached = "coalesce(x_cached_tokens, 0)"
    priced = (
        f"greatest(x_input_tokens - {cached}, 0) * input_nusd + {cached} * cached_nusd "
        "+ x_output_tokens * output_nusd"
    )
    whole = ", ".join(
        f"TRY_CAST({value} AS BIGINT) AS {name}"
        for name, value in {
            "latency_us": "round(known_ms * 1e3)",
            "input_tokens": "x_input_tokens",
            "output_tokens": "x_output_tokens",
            "cached_tokens": "x_cached_tokens",
            "cost_nusd": f"round(coalesce(x_cost_usd * 1e9, {priced}))",
        }.items()
    )
    return f"""
named AS (
    SELECT *, regexp_replace(lower(coalesce(status, 'ok')), '\\.0$', '') AS outcome,
        CASE WHEN problem IS NULL
            THEN coalesce(request_id, 'row-' || md5({row_text(plan, "ruled")})) END AS id,
        CASE WHEN x_latency_ms > 0 THEN x_latency_ms END AS known_ms
    FROM ruled
)
SELECT id AS request_id, moment AS ts,
    (epoch_us(moment) // {GRAIN_S * 1_000_000} * {GRAIN_S})::BIGINT AS window_start_s,
    target, arm, lower(coalesce(slice, 'baseline')) AS slice,
    coalesce(session_id, id) AS session_id,
    (md5_number_lower('cluster:' || coalesce(session_id, id)) % {N_CLUSTERS})::UTINYINT AS cluster,
    outcome NOT IN ({ok}) AS failed, outcome IN ({timed_out}) AS timeout,
    coalesce(served_model <> model, false) AS fallback,
    known_ms AS latency_ms, {whole},
    {rules.unit_score(plan.mapped.scale, "x_quality")} AS quality, x_propensity AS propensity,
    source, id AS key, problem, input_no, ordinal
FROM named
"""


def _feedback(plan: Plan) -> str:
    """The spool's rows of feedback; an event is told by its content."""
    score = rules.unit_score(plan.mapped.scale, "x_score")
    event = "[request_id, epoch_us(moment)::VARCHAR, unit_score::VARCHAR, coalesce(scorer, source)]"
    return f"""
named AS (SELECT *, {score} AS unit_score FROM ruled)
SELECT request_id, moment AS ts, unit_score AS score, coalesce(scorer, source) AS scorer, source,
    CASE WHEN problem IS NULL THEN md5(CAST(to_json({event}) AS VARCHAR)) END AS key,
    problem, input_no, ordinal
FROM named
"""
