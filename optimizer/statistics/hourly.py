"""Hours side by side: what every arm did in each hour, one matrix a sum, one row a series.

The law kept here is that of the aggregates: neither the order of rows nor the split of traffic into
slices changes a number. Hours without rows are zeros in the sums and nan in every measure.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.metrics import HOUR_S
from optimizer.statistics.arms import divide

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Z_P95: Final = 1.6448536269514722
MILLIONTH: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Hourly:
    """Sums of S series in H consecutive hours.

    keys: target and arm, S rows in key order; start_s: first second of each hour, Unix, shape (H,);
    sums: a matrix of shape (S, H) for each column that was asked for.
    """

    keys: pd.DataFrame
    start_s: IntArray
    sums: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measurement of every hour, on a log scale.

    log: its natural logarithm; error: standard error of that, from the hour's own rows; count: the
    rows it rests on. Shape (S, H) each; nan where the hour has no such rows.
    """

    log: FloatArray
    error: FloatArray
    count: FloatArray


def hourly(
    hours: pd.DataFrame,
    *,
    start_s: int,
    end_s: int,
    columns: Sequence[str],
    min_requests: int = 1,
    min_hours: int = 1,
) -> Hourly:
    """The hourly sums of each target x arm with enough of them; slices are added up.

    Args:
        hours: 1-hour aggregates whose windows lie in ``[start_s, end_s)``.
        start_s: a whole hour, Unix seconds.
        end_s: a whole hour, Unix seconds.
        columns: which sums; ``n`` is always among them.
        min_requests: requests from which an hour counts as busy.
        min_hours: busy hours a series needs to be kept.

    References:
        Sums stay below 2 ** 53 (one hour of one arm), so that float64 adds them exactly.
    """
    span = (end_s - start_s) // HOUR_S
    target, names = pd.factorize(hours["target"], sort=True)
    arm, arms = pd.factorize(hours["arm"], sort=True)
    present, series = np.unique(target * max(len(arms), 1) + arm, return_inverse=True)
    hour = (hours["window_start_s"].to_numpy() - start_s) // HOUR_S
    n = _summed(series * span + hour, hours["n"], (len(present), span))
    kept = (n >= min_requests).sum(axis=1) >= min_hours
    position = (np.cumsum(kept) - 1)[series]
    inside = kept[series]
    cell, few = (position * span + hour)[inside], hours[inside]
    shape = (int(kept.sum()), span)
    owner = present[kept]
    keys = pd.DataFrame(
        {
            "target": names.to_numpy()[owner // max(len(arms), 1)],
            "arm": arms.to_numpy()[owner % max(len(arms), 1)],
        }
    )
    return Hourly(
        keys=keys,
        start_s=start_s + HOUR_S * np.arange(span, dtype=np.int64),
        sums={"n": n[kept]}
        | {name: _summed(cell, few[name], shape) for name in columns if name != "n"},
    )


def _summed(cell: IntArray, values: pd.Series, shape: tuple[int, int]) -> FloatArray:
    total = np.bincount(
        cell, weights=values.to_numpy(dtype=np.float64), minlength=shape[0] * shape[1]
    )
    return np.asarray(total, dtype=np.float64).reshape(shape)


def failure_share(sums: Mapping[str, FloatArray]) -> Measure:
    """Failed requests, half a one more for a finite logarithm; error ``1/sqrt(k + 1/2)``."""
    n, failed = sums["n"], sums["n_failed"]
    log = np.log((failed + 0.5) / (n + 1.0))
    return _known(log, 1.0 / np.sqrt(failed + 0.5), n)


def latency(sums: Mapping[str, FloatArray]) -> Measure:
    """Mean log of latency: the geometric mean, ms, which no single slow request can move."""
    mean, variance, n = _log_latency(sums)
    return _known(mean, np.sqrt(divide(variance, n)), n)


def latency_tail(sums: Mapping[str, FloatArray]) -> Measure:
    """The p95 of a log-normal with the hour's log mean and variance, ms.

    References:
        ``mu + 1.645 s`` with variance ``s^2 (1 + 1.645^2 / 2) / n``, delta method for normal logs.
    """
    mean, variance, n = _log_latency(sums)
    error = np.sqrt(divide(variance, n) * (1.0 + Z_P95**2 / 2.0))
    return _known(mean + Z_P95 * np.sqrt(variance), error, n)


def _log_latency(sums: Mapping[str, FloatArray]) -> tuple[FloatArray, FloatArray, FloatArray]:
    n = sums["n_latency"]
    mean, variance = _log_moments(sums["log_latency_e6"], sums["log_latency_sq_e6"], n)
    return mean, variance, n


def cost(sums: Mapping[str, FloatArray]) -> Measure:
    """Mean log of the cost of requests that cost something: the geometric mean, USD."""
    n = sums["n_positive_cost"]
    mean, variance = _log_moments(sums["log_cost_e6"], sums["log_cost_sq_e6"], n)
    return _known(mean, np.sqrt(divide(variance, n)), n)


def quality(sums: Mapping[str, FloatArray]) -> Measure:
    """Mean score in [0, 1], with half a point of prior so that its logarithm is finite."""
    n, total = sums["n_quality"], sums["quality_e6"] * MILLIONTH
    mean = (total + 0.5) / (n + 1.0)
    squares = sums["quality_sq_e9"] * 1e-9
    variance = (np.maximum(squares - 2.0 * mean * total + n * mean**2, 0.0) + 0.25) / (n + 1.0)
    return _known(np.log(mean), np.sqrt(divide(variance, n)) / mean, n)


def input_tokens(sums: Mapping[str, FloatArray]) -> Measure:
    """Mean input tokens of a request."""
    return _tokens(sums["input_tokens"], sums["n_tokens"])


def output_tokens(sums: Mapping[str, FloatArray]) -> Measure:
    """Mean output tokens of a request."""
    return _tokens(sums["output_tokens"], sums["n_tokens"])


def _tokens(total: FloatArray, n: FloatArray) -> Measure:
    # No squares are kept: a coefficient of variation of 1 stands for them, less than most traffic.
    mean = divide(total, n)
    log = np.log(np.where(mean > 0, mean, np.nan))
    return _known(log, np.sqrt(divide(np.ones_like(n), n)), n)


def _log_moments(
    total: FloatArray, squares: FloatArray, n: FloatArray
) -> tuple[FloatArray, FloatArray]:
    mean = divide(total, n) * MILLIONTH
    spread = np.maximum(divide(squares, n) * MILLIONTH - mean**2, 0.0)
    # One extra row of variance 1 keeps the estimate above 0 where rows are few.
    return mean, (spread * n + 1.0) / (n + 1.0)


def _known(log: FloatArray, error: FloatArray, n: FloatArray) -> Measure:
    some = n > 0
    return Measure(log=np.where(some, log, np.nan), error=np.where(some, error, np.nan), count=n)


MEASURES: Final[Mapping[str, Callable[[Mapping[str, FloatArray]], Measure]]] = {
    "failure_share": failure_share,
    "latency_ms": latency,
    "latency_tail_ms": latency_tail,
    "cost_usd": cost,
    "quality": quality,
    "input_tokens": input_tokens,
    "output_tokens": output_tokens,
}
"""Every measure of an hour, by name."""

COLUMNS: Final = (
    "n",
    "n_failed",
    "n_units",
    "n_latency",
    "log_latency_e6",
    "log_latency_sq_e6",
    "n_positive_cost",
    "log_cost_e6",
    "log_cost_sq_e6",
    "n_quality",
    "quality_e6",
    "quality_sq_e9",
    "n_tokens",
    "input_tokens",
    "output_tokens",
)
"""The sums that the measures read."""
