"""What a request to an arm may turn out as: measured rows with their chances, as whole columns.

The rows are those of :mod:`optimizer.aggregates`, one request each, so that a window of any number
of requests is a count of each row times these columns: exact sums, without a row per request.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.aggregates import CLUSTER_FIELDS, SUMS
from optimizer.statistics.quantiles import bucket_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

NO_LATENCY: Final = -1
"""Bucket of a row whose latency is not known."""

CLUSTERED: Final = tuple(SUMS.index(name) for name in CLUSTER_FIELDS)
"""Where the fields that are kept per hash bucket stand among the sums."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """R possible rows of one arm.

    chance: shape (R,), sums to 1; sums: shape (len(SUMS), R), what one request adds; bucket: its
    latency bucket, shape (R,); quality and cost_usd: the true means, cost over rows with a known
    one.
    """

    chance: FloatArray
    sums: FloatArray
    bucket: IntArray
    quality: float
    cost_usd: float

    @property
    def quality_variance(self) -> float:
        """Variance of one request's score."""
        scores = self.sums[SUMS.index("quality_e6")] * 1e-6
        return float(self.chance @ scores**2 - (self.chance @ scores) ** 2)


def measured(
    *,
    score: npt.ArrayLike,
    cost_usd: npt.ArrayLike,
    latency_ms: npt.ArrayLike,
    input_tokens: npt.ArrayLike,
    output_tokens: npt.ArrayLike,
) -> Outcomes:
    """Outcomes of equally likely measured rows, each argument of shape (R,); nan = not known."""
    quality, cost, latency, given, made = (
        np.asarray(values, dtype=np.float64)
        for values in (score, cost_usd, latency_ms, input_tokens, output_tokens)
    )
    timed, priced = np.isfinite(latency), np.isfinite(cost)
    positive, counted = priced & (np.nan_to_num(cost) > 0), np.isfinite(given) & np.isfinite(made)
    log_latency = np.log(np.where(timed, latency, 1.0))
    log_cost = np.log(np.where(positive, cost, 1.0))
    one = np.ones(quality.size)
    columns = {
        "n": one,
        "n_units": one,
        "n_latency": timed,
        "latency_us": np.where(timed, latency, 0.0) * 1e3,
        "log_latency_e6": log_latency * 1e6,
        "log_latency_sq_e6": log_latency**2 * 1e6,
        "n_cost": priced,
        "cost_nusd": np.where(priced, cost, 0.0) * 1e9,
        "log_cost_e6": log_cost * 1e6,
        "log_cost_sq_e6": log_cost**2 * 1e6,
        "n_positive_cost": positive,
        "input_tokens": np.where(counted, given, 0.0),
        "output_tokens": np.where(counted, made, 0.0),
        "n_tokens": counted,
        "n_quality": one,
        "quality_e6": quality * 1e6,
        "quality_sq_e9": quality**2 * 1e9,
    }
    nothing = np.zeros(quality.size)
    sums = np.stack([np.rint(columns.get(name, nothing)).astype(np.float64) for name in SUMS])
    buckets = bucket_of(np.where(timed, latency, 1.0)).astype(np.int64)
    return Outcomes(
        chance=np.full(quality.size, 1.0 / quality.size),
        sums=sums,
        bucket=np.where(timed, buckets, NO_LATENCY),
        quality=float(quality.mean()),
        cost_usd=float(cost[priced].mean()) if priced.any() else float("nan"),
    )


def mixed(first: Outcomes, second: Outcomes, weight: float) -> Outcomes:
    """The arm that answers a share ``weight`` in [0, 1] of its requests as ``second`` does.

    Its true means lie between the two arms', so that a harm of any size up to theirs can be built
    of measured rows.

    Examples:
        >>> nothing = [float("nan")] * 2
        >>> arms = [measured(score=score, cost_usd=[1.0, 1.0], latency_ms=nothing,
        ...                  input_tokens=nothing, output_tokens=nothing)
        ...         for score in ([1.0, 1.0], [0.0, 1.0])]
        >>> mixed(*arms, 0.1).quality
        0.95
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"weight = {weight} lies outside [0, 1]")
    priced = [float(arm.chance @ arm.sums[SUMS.index("n_cost")]) for arm in (first, second)]
    shares = np.array([(1.0 - weight) * priced[0], weight * priced[1]])
    costs = np.nan_to_num([first.cost_usd, second.cost_usd])
    known = shares.sum() > 0
    return Outcomes(
        chance=np.concatenate([(1.0 - weight) * first.chance, weight * second.chance]),
        sums=np.concatenate([first.sums, second.sums], axis=1),
        bucket=np.concatenate([first.bucket, second.bucket]),
        quality=(1.0 - weight) * first.quality + weight * second.quality,
        cost_usd=float(shares @ costs / shares.sum()) if known else float("nan"),
    )
