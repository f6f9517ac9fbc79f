"""What becomes of a request on an arm: score, cost, latency and failure, as published.

Every request brings its own uniform numbers, drawn before it is known which arm serves it, so that
arms differ by what was published about them and by nothing else.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from optimizer.integrations.simulated.published import PublishedArm

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

MINUTE_S = 60
Z_95 = 1.6448536269514722
LUCK = ("quality", "cost", "latency", "failure")
"""The uniform numbers of a request, each in (0, 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """One value a request; cost and tokens of a failed request are 0, its latency is nan."""

    quality: FloatArray
    cost_usd: FloatArray
    output_tokens: IntArray
    latency_ms: FloatArray
    failed: BoolArray
    refused: BoolArray


def outcomes(arm: PublishedArm, luck: Mapping[str, FloatArray], at_s: FloatArray) -> Outcomes:
    """Outcomes of requests that began at ``at_s`` (Unix seconds) and were all served by the arm.

    The published refusal rate applies when as many requests run at once as in the measurement;
    below that it falls with the load: requests a second times median latency (Little's law).
    """
    busy = _concurrency(at_s, arm.latency_p50_ms / 1000)
    refusal = arm.refused_rate * np.minimum(1.0, busy / arm.refused_at_concurrency)
    refused = luck["failure"] < refusal
    failed = refused | (luck["failure"] > 1.0 - arm.failure_rate)
    cost = _lognormal(arm.cost_usd, arm.cost_sd, luck["cost"])
    made = np.maximum(1, np.rint(arm.output_tokens * cost / arm.cost_usd)).astype(np.int64)
    sigma = math.log(arm.latency_p95_ms / arm.latency_p50_ms) / Z_95
    latency = arm.latency_p50_ms * np.exp(sigma * special.ndtri(luck["latency"]))
    return Outcomes(
        quality=_score(arm, luck["quality"]),
        cost_usd=np.where(failed, 0.0, cost),
        output_tokens=np.where(failed, 0, made),
        latency_ms=np.where(failed, np.nan, latency),
        failed=failed,
        refused=refused,
    )


def _concurrency(at_s: FloatArray, latency_s: float) -> FloatArray:
    minute = (at_s // MINUTE_S).astype(np.int64)
    if not minute.size:
        return np.zeros(0)
    minute -= minute.min()
    return np.asarray(np.bincount(minute)[minute] / MINUTE_S * latency_s)


def _score(arm: PublishedArm, luck: FloatArray) -> FloatArray:
    means = np.array([mean for mean, _ in arm.quality_points])
    sizes = np.array([size for _, size in arm.quality_points])
    edges = np.cumsum(sizes) / sizes.sum()
    part = np.minimum(np.searchsorted(edges, luck, side="right"), len(means) - 1)
    return np.asarray(means[part])


def _lognormal(mean: float, sd: float, luck: FloatArray) -> FloatArray:
    """Values with that mean and sd, a constant where sd is 0."""
    variance = math.log1p((sd / mean) ** 2)
    return np.asarray(mean * np.exp(math.sqrt(variance) * special.ndtri(luck) - variance / 2))
