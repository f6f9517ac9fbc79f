"""The words for an anomaly: of one arm, of a target's traffic, of many at once, or unknown."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from optimizer.analyzers.anomaly.scopes import Scope
from optimizer.evidence import Insight, Severity
from optimizer.metrics import HOUR_S, at
from optimizer.statistics import arms
from optimizer.statistics.arms import Row

NAME: Final = "anomaly"
TRAFFIC: Final = "requests_per_hour"
SEVERE: Final = 10.0
"""Score from which an anomaly for the worse is an error."""
LISTED: Final = 10
"""Arms that a description names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a measure is to a reader.

    metric: its name in a policy, None = none; worse: sides that are for the worse.
    """

    label: str
    metric: str | None = None
    worse: tuple[int, ...] = ()


ABOUT: Final[Mapping[str, About]] = {
    TRAFFIC: About(label="requests an hour", worse=(-1, 1)),
    "failure_share": About(label="failure share", metric="failure_rate", worse=(1,)),
    "fallback_share": About(label="fallback share", metric="fallback_rate", worse=(1,)),
    "latency_ms": About(label="typical latency, ms", metric="latency_ms", worse=(1,)),
    "latency_tail_ms": About(label="p95 latency, ms", metric="latency_ms", worse=(1,)),
    "cost_usd": About(label="typical cost, USD", metric="cost_usd", worse=(1,)),
    "quality": About(label="quality", metric="quality", worse=(-1,)),
    "input_tokens": About(label="input tokens a request"),
    "output_tokens": About(label="output tokens a request"),
}
SHARED: Final = {
    "provider": ("provider {}", "the provider is the likely cause"),
    "model": ("model {}", "the model or its provider is the likely cause"),
    "application": ("{}", "the callers, or a source that is late, are the likely cause"),
}
HOLIDAY: Final = "wrong if this hour is a holiday or an event that the days before did not have"
LATE: Final = "wrong if rows of this hour are still to come, or traffic was moved on purpose"


def alone(row: Row) -> Insight:
    """The anomaly of one arm, or of one target's traffic."""
    about, change = ABOUT[row.measure], row.value / row.before - 1.0
    kind = "anomaly"
    if row.measure == TRAFFIC:
        kind = "traffic_drop" if row.z < 0 else "traffic_spike"
    who = f"{row.arm} of {row.target}" if row.arm else row.target
    return Insight(
        analyzer=NAME,
        kind=kind,
        severity=_severity(row),
        target=row.target,
        arm=row.arm or None,
        metric=about.metric,
        title=f"{about.label} {row.value:.4g} in one hour, usually {row.before:.4g} "
        f"({change:+.0%}, z = {row.z:.1f})",
        description=f"{who}: further from its usual value than any of {row.hours} hours at the "
        f"same times of day; {row.lasted} hours in a row beyond the lasting limit",
        value=row.value,
        limit=row.before,
        n=row.n,
        start=at(row.start_s),
        end=at(row.start_s + HOUR_S),
        caveat=LATE if row.measure == TRAFFIC else HOLIDAY,
        metrics=_numbers(row),
    )


def together(scope: Scope) -> Insight:
    """Anomalies of arms that share something, as one; it names the arm that is furthest away."""
    ordered = scope.rows.sort_values("z", key=np.abs, ascending=False, kind="stable")
    rows = list(arms.rows(ordered))
    first, about = rows[0], ABOUT[rows[0].measure]
    change = float(np.median(ordered["value"] / ordered["before"])) - 1.0
    names = [f"{row.arm} of {row.target}" if row.arm else row.target for row in rows]
    more = len(names) - LISTED
    where, cause = SHARED[scope.level]
    return Insight(
        analyzer=NAME,
        kind="correlated_anomaly",
        severity=max(map(_severity, rows), key=list(Severity).index),
        target=first.target,
        arm=first.arm or None,
        metric=about.metric,
        title=f"{about.label} unusual at once in {len(rows)} of {scope.judged} series of "
        f"{where.format(scope.name)} ({change:+.0%} in the middle one)",
        description=f"{', '.join(names[:LISTED])}{f' and {more} more' if more > 0 else ''}: all "
        f"on one side, {first.target} furthest with {first.value:.4g}, usually "
        f"{first.before:.4g}; {cause}",
        value=first.value,
        limit=first.before,
        n=int(ordered["n"].sum()),
        start=at(int(ordered["start_s"].min())),
        end=at(int(ordered["start_s"].max()) + HOUR_S),
        caveat=f"wrong if they differ in the same way by chance or by a shared event; {HOLIDAY}",
        metrics=_numbers(first)
        | {
            "series": float(len(rows)),
            "judged": float(scope.judged),
            "targets": float(ordered["target"].nunique()),
            "median_change": change,
        },
    )


def insufficient(target: str, hours: int, needed: int, end_s: int) -> Insight:
    """A target whose newest hours cannot be judged yet: unknown, not fine."""
    return Insight(
        analyzer=NAME,
        kind="insufficient_data",
        severity=Severity.INFO,
        target=target,
        title=f"{hours} hours at these times of day, {needed} are needed to know what is usual",
        description=f"{target}: its newest hours are unknown to be usual or not",
        value=float(hours),
        limit=float(needed),
        start=at(end_s - HOUR_S),
        end=at(end_s),
        caveat="says nothing about the arms themselves",
    )


def _severity(row: Row) -> Severity:
    if np.sign(row.z) not in ABOUT[row.measure].worse:
        return Severity.INFO
    return Severity.ERROR if abs(row.z) >= SEVERE else Severity.WARNING


def _numbers(row: Row) -> dict[str, float]:
    return {
        "before": row.before,
        "after": row.value,
        "change": row.value / row.before - 1.0,
        "z": row.z,
        "lasted": float(row.lasted),
        "p_value": row.p_value,
        "hours_before": float(row.hours),
    }
