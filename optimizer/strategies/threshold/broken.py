"""Absolute limits of the policy that the arm in force provably breaks in its newest fresh hour."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from optimizer.evidence import Scene
from optimizer.metrics import DAY_S, HOUR_S
from optimizer.statistics import arms
from optimizer.statistics.outlook import Z_95
from optimizer.statistics.planning import wilson_interval
from optimizer.statistics.quantiles import snap_to_edge
from optimizer.strategies.threshold.settings import Settings

TAIL: Final = 0.05
"""Share of requests that may lie beyond a p95."""

ENDLESS_MS: Final = 1e12
"""Beyond every histogram: a limit that is never broken."""

SENTENCES: Final[Mapping[str, str]] = {
    "failure_rate": "failures {r.failure_rate:.4f} (low {r.failure_low:.4f}) > {r.failure_max:g}, "
    "n = {r.n}",
    "quality": "quality {r.quality:.4f} (high {r.quality_high:.4f}) < {r.quality_min:g}, "
    "n {r.n_quality}",
    "latency": "p95 {r.p95_ms:.0f} ms above {r.p95_max:g} ms, n = {r.n_latency}",
    "request_budget": "{r.cost_usd:.6g} USD a request above {r.request_max:g}, n = {r.n_cost}",
    "hourly_budget": "{r.hour_usd:.6g} USD in the last hour above {r.hourly_max:g}",
    "daily_budget": "{r.day_usd:.6g} USD since midnight UTC above {r.daily_max:g}",
}
"""What each broken limit says."""


def limits_of(scene: Scene, names: Sequence[str]) -> pd.DataFrame:
    """One row a target: its limits, infinite where there is none, and its times in Unix seconds."""
    now_s = int(scene.now.timestamp())
    rows = []
    for name in names:
        policy, target = scene.policies[name], scene.targets[name]
        safety, budget = policy.safety, policy.budget
        quality = next((g for g in policy.guardrails if g.metric == "quality"), None)
        rows.append(
            (
                name,
                scene.baselines.get(name, target.baseline),
                safety.failure_rate_max,
                safety.latency_p95_ms_max,
                safety.quality_min,
                *(
                    np.inf if limit is None else limit
                    for limit in (budget.per_request_usd, budget.hourly_usd, budget.daily_usd)
                ),
                np.inf if quality is None else quality.margin,
                now_s - int(policy.data_lag_max.total_seconds()),
                now_s - int(policy.label_maturity.total_seconds()),
            )
        )
    columns = [
        "target",
        "in_force",
        "failure_max",
        "p95_max",
        "quality_min",
        "request_max",
        "hourly_max",
        "daily_max",
        "margin",
        "fresh_s",
        "mature_s",
    ]
    return pd.DataFrame(rows, columns=columns)


def measured(scene: Scene, recent: pd.DataFrame, limits: pd.DataFrame) -> pd.DataFrame:
    """One row for each target with a fresh hour: what its arm in force did in it, and its limits.

    Args:
        scene: the hour's scene.
        recent: aggregates of the last days of those targets.
        limits: of the same.
    """
    now_s = int(scene.now.timestamp())
    fresh = arms.newest(recent, dict(zip(limits["target"], limits["fresh_s"], strict=True)))
    spent = fresh.groupby("target")["cost_nusd"].sum() * 1e-9
    today = arms.within(recent, start_s=now_s // DAY_S * DAY_S, end_s=now_s)
    day = today.groupby("target")["cost_nusd"].sum() * 1e-9
    in_force = dict(zip(limits["target"], limits["in_force"], strict=True))
    served = arms.pooled(arms.serving(fresh, in_force), ("target",))
    ripe = arms.serving(recent, in_force)
    cuts = dict(zip(limits["target"], limits["mature_s"], strict=True))
    oldest = {name: cut - HOUR_S for name, cut in cuts.items()}
    scored = arms.measured(
        arms.pooled(arms.newest(arms.mature(ripe, cuts), oldest), ("target",), latency=False)
    )
    seen = arms.measured(served).drop(columns=["n_quality", "quality", "quality_variance"])
    seen = seen.merge(limits, on="target").merge(
        scored[["target", "n_quality", "quality", "quality_variance"]], on="target", how="left"
    )
    slower = arms.slower_than(
        served, snap_to_edge(np.minimum(seen["p95_max"].to_numpy(), ENDLESS_MS))
    )
    spread = np.sqrt(seen["quality_variance"])
    return seen.assign(
        slow_low=wilson_interval(slower, seen["n_latency"])[0],
        quality_high=np.minimum(1.0, seen["quality"] + Z_95 * spread),
        cost_low=seen["cost_usd"] * np.exp(-Z_95 * np.sqrt(seen["log_cost_variance"])),
        hour_usd=seen["target"].map(spent),
        day_usd=seen["target"].map(day),
    )


def broken(seen: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The rows that break something, with the first thing they break in ``trigger``."""
    tests = {
        "failure_rate": (seen["n"] >= settings.min_requests)
        & (seen["failure_low"] > seen["failure_max"]),
        "quality": (seen["n_quality"] >= settings.min_labels)
        & (seen["quality_high"] < seen["quality_min"]),
        "latency": (seen["n_latency"] >= settings.min_requests) & (seen["slow_low"] > TAIL),
        "request_budget": (seen["n_cost"] >= settings.min_requests)
        & (seen["cost_low"] > seen["request_max"]),
        "hourly_budget": seen["hour_usd"] > seen["hourly_max"],
        "daily_budget": seen["day_usd"] > seen["daily_max"],
    }
    trigger = np.select(
        [test.to_numpy(dtype=np.bool_) for test in tests.values()], list(tests), default=""
    )
    named: pd.DataFrame = seen.assign(trigger=trigger)[trigger != ""]
    return named
