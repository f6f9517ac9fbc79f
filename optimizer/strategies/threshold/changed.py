"""Changes of the arm in force against its own past, as analyzers have proven them.

Nothing is measured here. A shift that lasts for hours and is a discovery among all of them, and a
day of scores that its own days do not explain, are claims of the analyzers, with a p-value, a
number of rows and a duration; a single hour is none. An arm without a past has no such claim.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import pandas as pd

from optimizer.evidence import Insight, Scene, Severity
from optimizer.statistics import arms
from optimizer.strategies.threshold.settings import BY_NAME, Settings

SHIFT: Final = "behaviour_change"
DAY_OF_SCORES: Final = "quality_degradation"
TWICE: Final = 2.0
"""A change of so many times its limit is one level more severe."""

NOW: Final = ("failure_now", "quality_now", "latency_factor", "cost_factor")
"""What the arm in force does now: what a way out must be better than; nan = not what changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fired:
    """One trigger of one target.

    sentence: what is wrong, with numbers; since: when it began; now: the column of :data:`NOW` that
    it sets, with the value.
    """

    target: str
    trigger: str
    severity: Severity
    sentence: str
    since: datetime
    now: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reading:
    """A metric's trigger: how large a change is for it, and what a way out is compared with."""

    trigger: str
    size: Callable[[float, float], float]
    limit: Callable[[Settings], float]
    column: str
    level: Callable[[float, float], float]
    label: str


def _rise(before: float, after: float) -> float:
    return after / before - 1.0


def _ratio(before: float, after: float) -> float:
    return after / before


def _after(_before: float, after: float) -> float:
    return after


READINGS: Final[Mapping[str, _Reading]] = {
    "failure_rate": _Reading(
        trigger="failure_increase",
        size=lambda before, after: after - before,
        limit=lambda settings: settings.failure_increase,
        column="failure_now",
        level=_after,
        label="failures",
    ),
    "quality": _Reading(
        trigger="quality_drop",
        size=lambda before, after: 1.0 - after / before,
        limit=lambda settings: settings.quality_drop,
        column="quality_now",
        level=_after,
        label="quality",
    ),
    "latency_ms": _Reading(
        trigger="latency_increase",
        size=_rise,
        limit=lambda settings: settings.latency_increase,
        column="latency_factor",
        level=_ratio,
        label="latency, ms",
    ),
    "cost_usd": _Reading(
        trigger="cost_increase",
        size=_rise,
        limit=lambda settings: settings.cost_increase,
        column="cost_factor",
        level=_ratio,
        label="cost, USD a request",
    ),
}


def changed(
    scene: Scene, insights: Sequence[Insight], names: Sequence[str], settings: Settings
) -> Iterator[Fired]:
    """The triggers that fire on those targets, in the order of the insights.

    A claim about another arm than the one in force fires nothing, nor does one that is old.
    """
    idle = set(names)
    for insight in insights:
        reading = READINGS.get(insight.metric or "")
        if insight.target not in idle or reading is None:
            continue
        in_force = scene.baselines.get(insight.target, scene.targets[insight.target].baseline)
        if insight.arm == in_force and _is_fresh(scene, insight):
            fired = _fired(insight, reading, settings)
            if fired is not None:
                yield fired


def _is_fresh(scene: Scene, insight: Insight) -> bool:
    policy = scene.policies[insight.target]
    waits = policy.label_maturity if insight.metric == "quality" else timedelta(0)
    return scene.now - insight.end <= policy.data_lag_max + waits


def _fired(insight: Insight, reading: _Reading, settings: Settings) -> Fired | None:
    before, after = insight.limit, insight.value
    if insight.kind not in {SHIFT, DAY_OF_SCORES} or before is None or after is None:
        return None
    if not (before > 0 and math.isfinite(after)):
        return None
    size, limit = reading.size(before, after), reading.limit(settings)
    if not size >= limit:
        return None
    trigger, levels = BY_NAME[reading.trigger], list(Severity)
    more = not trigger.money and size >= TWICE * limit
    return Fired(
        target=insight.target,
        trigger=trigger.name,
        severity=levels[min(levels.index(trigger.severity) + more, len(levels) - 1)],
        sentence=f"{reading.label} {after:.4g} since {insight.start:%d %b %H:%M} UTC, usually "
        f"{before:.4g}, n = {insight.n}{_proof(insight)}",
        # A day of scores is compared as a whole: when in it the fall began is not known.
        since=insight.start if insight.kind == SHIFT else insight.end,
        now={reading.column: reading.level(before, after)},
    )


def _proof(insight: Insight) -> str:
    p_value, hours = (insight.metrics.get(name) for name in ("p_value", "hours_before"))
    told = "" if p_value is None else f", p = {p_value:.1g}"
    return told if hours is None else f"{told} against {hours:.0f} hours before"


def unknown_pasts(
    names: Sequence[str], seen: pd.DataFrame, recent: pd.DataFrame, settings: Settings
) -> Mapping[str, str]:
    """Why nothing can be said of a target's arm in force, by target; the others are known.

    Args:
        names: the targets.
        seen: what the arm in force did in its newest fresh hour, one row a target with any.
        recent: aggregates of their last days.
        settings: floors of rows and of hours.
    """
    fresh = dict(zip(seen["target"], seen["n"], strict=True))
    named = dict(zip(seen["target"], seen["in_force"], strict=True))
    own = arms.serving(recent, named)
    busy = own.groupby(["target", "window_start_s"])["n"].sum()
    busy = busy[busy >= settings.min_requests]
    hours = busy.groupby(level="target").size() if len(busy) else pd.Series(dtype=np.int64)
    told: dict[str, str] = {}
    for name in names:
        if fresh.get(name, 0) < settings.min_requests:
            told[name] = (
                f"{fresh.get(name, 0)} requests of its arm in force in the newest fresh hour, "
                f"{settings.min_requests} are needed: nothing is concluded"
            )
        elif hours.get(name, 0) < settings.min_hours:
            told[name] = (
                f"{named[name]} has {hours.get(name, 0)} of {settings.min_hours} hours of its own: "
                "whether it changed against its past is unknown"
            )
    return told
