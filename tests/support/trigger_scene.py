"""A target whose small arm was promoted over the large one, and the claims that fire on it."""

import dataclasses
from datetime import timedelta
from typing import Any

from optimizer.evidence import Considered, Insight, Past, Scene, Severity
from optimizer.policy import Policy
from optimizer.strategies.threshold import Response, Settings, Threshold
from optimizer.targets import Target
from scenes import LARGE, NOW, SMALL, Traffic, World

HOUR = timedelta(hours=1)
LONG = 120
TARGET = "support"
PROMOTED = NOW - 60 * HOUR
POLICY = Policy(label_maturity=timedelta(0), hold_expires_after=timedelta(hours=72))
KINDS = {
    "failure_increase": ("failure_rate", 0.01, 0.04),
    "quality_drop": ("quality", 0.9, 0.78),
    "latency_increase": ("latency_ms", 800.0, 1080.0),
    "cost_increase": ("cost_usd", 0.002, 0.0034),
}


def shift(trigger: str, *, arm: str = "small", hours: int = 6, **changes: Any) -> Insight:  # noqa: ANN401 - fields of Insight
    """The claim of an analyzer that fires the trigger."""
    metric, before, after = KINDS[trigger]
    first = Insight(
        analyzer="drift",
        kind="behaviour_change",
        severity=Severity.WARNING,
        target=TARGET,
        arm=arm,
        metric=metric,
        title="it changed",
        description="it changed",
        value=after,
        limit=before,
        n=6_000,
        start=NOW - hours * HOUR,
        end=NOW,
        metrics={"p_value": 1e-9, "hours_before": 100.0},
    )
    return dataclasses.replace(first, **changes)


def promotion(**changes: Any) -> Past:  # noqa: ANN401 - fields of Past
    first = Past(
        target=TARGET,
        arm="small",
        state="completed",
        ended_at=PROMOTED + 6 * HOUR,
        reason="",
        strategy="cost_performance",
        before="large",
        deployed_at=PROMOTED,
    )
    return dataclasses.replace(first, **changes)


def way_out(ago: timedelta, **changes: Any) -> Past:  # noqa: ANN401 - fields of Past
    first = promotion(
        arm="large",
        before="small",
        state="rolled_back",
        strategy="threshold",
        deployed_at=None,
        ended_at=NOW - ago,
    )
    return dataclasses.replace(first, **changes)


def scene(
    *past: Past,
    fallback: str | None = None,
    policy: Policy = POLICY,
    small: Traffic | None = None,
    large: Traffic | None = None,
    span: int = LONG,
    **extra: Any,  # noqa: ANN401 - parts of a scene
) -> Scene:
    """The small arm in force, after large was; both with traffic of their own."""
    cheap = small or Traffic(cost_usd=0.002)
    made = World(
        traffic={(TARGET, "small"): cheap, (TARGET, "large"): large or Traffic(n=400)},
        arms={TARGET: (SMALL, LARGE)},
        policy=policy,
        span=span,
        extra={"past": past, **extra},
    ).scene()
    target = Target(name=TARGET, arms=(SMALL, LARGE), baseline="large", fallback=fallback)
    return dataclasses.replace(made, targets={TARGET: target}, baselines={TARGET: "small"})


def considered(
    given: Scene, *insights: Insight, chosen: Settings | None = None
) -> Considered | None:
    found = Threshold(settings=chosen or Settings()).consider(given, insights)
    return found[0] if found else None


def everywhere(response: Response) -> Settings:
    levels = (Severity.CRITICAL, Severity.ERROR, Severity.WARNING)
    return Settings(responses=dict.fromkeys(levels, response))


BACK = everywhere(Response.ROLL_BACK)
