"""Scenes with known truth: aggregates of arms whose shares, costs and latencies are stated."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from optimizer.aggregates import CLUSTERS, HISTOGRAM, KEYS, SUMS, pack_histogram
from optimizer.evidence import Scene
from optimizer.metrics import HOUR_S
from optimizer.policy import Policy
from optimizer.statistics.quantiles import bucket_of
from optimizer.targets import Arm, ModelConfig, Price, Prior, Target

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What one arm does in every hour: counts are per hour, values per request."""

    n: int = 1000
    failed: int = 10
    latency_ms: float = 800.0
    latency_sigma: float = 0.5
    cost_usd: float | None = 0.004
    cost_sigma: float = 0.5
    quality: float = 0.9
    labels: int = 200
    input_tokens: int = 900
    output_tokens: int = 200
    failed_priced: bool = False
    fallback: int = 0


@functools.cache
def summed(traffic: Traffic) -> dict[str, Any]:
    """The sums of one hour, whose moments are those of the stated distributions."""
    answered = traffic.n - traffic.failed
    points = special.ndtri((np.arange(answered) + 0.5) / max(answered, 1))
    latency = traffic.latency_ms * np.exp(traffic.latency_sigma * points)
    log_ms = np.round(np.log(latency) * 1e6).astype(np.int64)
    squares = np.round(np.log(latency) ** 2 * 1e6).astype(np.int64)
    bucket, count = np.unique(bucket_of(latency), return_counts=True)
    priced = 0 if traffic.cost_usd is None else (traffic.n if traffic.failed_priced else answered)
    usd = traffic.cost_usd or 0.0
    log_usd = np.log(usd) - traffic.cost_sigma**2 / 2 if usd > 0 else 0.0
    ones = traffic.quality * traffic.labels
    return dict.fromkeys(SUMS, 0) | {
        "n": traffic.n,
        "n_failed": traffic.failed,
        "n_fallback": traffic.fallback,
        "n_units": traffic.n,
        "n_latency": answered,
        "latency_us": int(np.round(latency * 1e3).sum()),
        "log_latency_e6": int(log_ms.sum()),
        "log_latency_sq_e6": int(squares.sum()),
        "n_cost": priced,
        "cost_nusd": round(usd * 1e9) * priced,
        "n_positive_cost": priced if usd > 0 else 0,
        "log_cost_e6": round(log_usd * 1e6) * priced,
        "log_cost_sq_e6": round((log_usd**2 + traffic.cost_sigma**2) * 1e6) * priced,
        "input_tokens": traffic.input_tokens * answered,
        "output_tokens": traffic.output_tokens * answered,
        "n_tokens": traffic.n if traffic.failed_priced else answered,
        "n_quality": traffic.labels,
        "quality_e6": round(ones * 1e6),
        # Scores of 0 and 1: the widest spread there is.
        "quality_sq_e9": round(ones * 1e9),
        HISTOGRAM: pack_histogram(bucket, count),
        CLUSTERS: b"",
    }


def hours(
    traffic: Mapping[tuple[str, str], Traffic | Sequence[Traffic | None]],
    *,
    now: datetime = NOW,
    span: int = 48,
    part: str = "baseline",
) -> pd.DataFrame:
    """Aggregates of the ``span`` hours before ``now``; a sequence is read as the newest hours."""
    rows = []
    for (target, arm), given in traffic.items():
        series = [given] * span if isinstance(given, Traffic) else list(given)
        first = int(now.timestamp()) - len(series) * HOUR_S
        for index, each in enumerate(series):
            if each is not None:
                start_s = first + index * HOUR_S
                key = {"target": target, "arm": arm, "slice": part, "window_start_s": start_s}
                rows.append(key | summed(each))
    columns = [*KEYS, *SUMS, HISTOGRAM, CLUSTERS]
    return pd.DataFrame(rows, columns=columns)


def arm(
    name: str,
    *,
    price: tuple[float, float] | None = None,
    quality: float | None = None,
    n: int = 1000,
    enabled: bool = True,
    source: str = "bench",
    **prior: float,
) -> Arm:
    """An arm with a price per million tokens and a prior where they are given."""
    known = quality is not None or prior
    return Arm(
        name=name,
        config=ModelConfig(model=name),
        enabled=enabled,
        price=None
        if price is None
        else Price(input_usd_per_mtok=price[0], output_usd_per_mtok=price[1]),
        prior=Prior(quality=quality, n=n, source=source, **prior) if known else None,
    )


LARGE = arm("large", price=(2.5, 10.0), quality=0.90)
SMALL = arm("small", price=(0.25, 1.0), quality=0.90)
WEAK = arm("weak", price=(0.05, 0.2), quality=0.60)


@dataclass(kw_only=True)
class World:
    """The parts of a scene, to be changed one at a time."""

    traffic: dict[tuple[str, str], Any] = field(
        default_factory=lambda: {("support", "large"): Traffic()}
    )
    arms: Mapping[str, tuple[Arm, ...]] = field(
        default_factory=lambda: {"support": (LARGE, SMALL, WEAK)}
    )
    policy: Policy = field(default_factory=lambda: Policy(hold_expires_after=timedelta(hours=72)))
    policies: dict[str, Policy] = field(default_factory=dict)
    now: datetime = NOW
    span: int = 48
    extra: dict[str, Any] = field(default_factory=dict)

    def scene(self) -> Scene:
        """The scene; every target's baseline is its first arm."""
        targets = {
            name: Target(name=name, arms=known, baseline=known[0].name)
            for name, known in self.arms.items()
        }
        values: dict[str, Any] = {
            "now": self.now,
            "targets": targets,
            "policies": {name: self.policies.get(name, self.policy) for name in targets},
            "baselines": {name: target.baseline for name, target in targets.items()},
            "hours": hours(self.traffic, now=self.now, span=self.span),
            "in_flight": {},
        }
        return Scene(**(values | self.extra))
