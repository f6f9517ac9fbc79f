"""Whether the latencies of the last day have another shape than those of every day before.

Whole days are compared, so that the hours of the day weigh alike. The laws kept here: days with too
few sessions are not compared, and a day is unlike the others only if it is more so than any of them
ever was, because days differ by more than their sampling error.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.metrics import DAY_S, HOUR_S
from optimizer.statistics import distributions
from optimizer.statistics.arms import Pool, divide, pooled
from optimizer.statistics.hourly import Hourly

FloatArray = npt.NDArray[np.float64]

MIN_DAYS: Final = 4
"""Earlier days that show how much days differ."""
SCREEN: Final = 0.02
"""Divergence of two log-normals below which the histograms themselves are not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reshaped:
    """A series whose last day is unlike the days before.

    psi: stability index against all earlier days; usual_psi: largest index of an earlier day
    against the others; limit: what it had to exceed; distance, p_value: Kolmogorov-Smirnov over
    sessions; n: answered requests of the last day; days: earlier days compared.
    """

    target: str
    arm: str
    psi: float
    usual_psi: float
    limit: float
    distance: float
    p_value: float
    n: int
    days: int


def reshaped(series: Hourly, hours: pd.DataFrame) -> list[Reshaped]:
    """The series whose last day has another distribution of latency, in key order.

    Histograms are opened only where mean and variance of log latency moved: a shape that keeps
    both goes unseen.

    Args:
        series: sums of the hours up to now, of n_latency, n_units and the log latencies.
        hours: the aggregates these were made of.
    """
    last = series.start_s >= series.start_s[-1] + HOUR_S - DAY_S
    moved = np.flatnonzero(_divergence(series, last) >= SCREEN)
    if not moved.size:
        return []
    end_s = int(series.start_s[-1]) + HOUR_S
    chosen = hours.merge(series.keys.iloc[moved], on=["target", "arm"], how="inner")
    day = (end_s - 1 - chosen["window_start_s"]) // DAY_S
    pool = pooled(chosen.assign(day=day), ("target", "arm", "day"))
    found = [_compared(frame, counts) for frame, counts in _parts(pool)]
    return [each for each in found if each is not None]


def _divergence(series: Hourly, last: npt.NDArray[np.bool_]) -> FloatArray:
    """Symmetric divergence of log-normals with the moments of the last day and the days before.

    nan where either holds too few sessions: the index over histograms would not be believed.

    References:
        Jeffreys (1946), Proc. R. Soc. A 186:453, for two normals.
    """
    sums, moments, few = series.sums, [], np.zeros(len(series.keys), dtype=np.bool_)
    for part in (last, ~last):
        n = sums["n_latency"][:, part].sum(axis=1)
        mean = divide(sums["log_latency_e6"][:, part].sum(axis=1), n) * 1e-6
        square = divide(sums["log_latency_sq_e6"][:, part].sum(axis=1), n) * 1e-6
        moments.append((mean, np.maximum(square - mean**2, 1e-6)))
        few |= sums["n_units"][:, part].sum(axis=1) < distributions.MIN_SIZE
    (mean, variance), (mean_before, variance_before) = moments
    ratio = variance / variance_before
    shift = (mean - mean_before) ** 2 * (1 / variance + 1 / variance_before)
    return np.where(few, np.nan, 0.5 * (ratio + 1 / ratio - 2.0 + shift))


def _parts(pool: Pool) -> Iterator[tuple[pd.DataFrame, FloatArray]]:
    """The days of each series, newest first, with their counts over common buckets."""
    starts = np.searchsorted(pool.group, np.arange(len(pool.frame) + 1))
    for _, frame in pool.frame.groupby(["target", "arm"], sort=True):
        first, last = starts[frame.index[0]], starts[frame.index[-1] + 1]
        _, column = np.unique(pool.bucket[first:last], return_inverse=True)
        counts = np.zeros((len(frame), int(column.max(initial=0)) + 1))
        counts[pool.group[first:last] - frame.index[0], column] = pool.count[first:last]
        yield frame, counts


def _compared(frame: pd.DataFrame, counts: FloatArray) -> Reshaped | None:
    units = np.minimum(frame["n_units"].to_numpy(dtype=np.float64), counts.sum(axis=1))
    full = units >= distributions.MIN_SIZE
    if frame["day"].iloc[0] != 0 or not full[0] or full.sum() <= MIN_DAYS:
        return None
    counts, units = counts[full], units[full]
    earlier, size = counts[1:].sum(axis=0), units[1:].sum()
    cells = distributions.quantile_cells(earlier)
    binned = np.stack([np.bincount(cells, weights=row) for row in counts])
    rest = binned[1:].sum(axis=0)
    index = float(distributions.psi(rest, binned[0]))
    usual = float(distributions.psi(rest - binned[1:], binned[1:]).max())
    limit = float(distributions.psi_limit(size, units[0], bins=binned.shape[1]))
    if not index > max(limit, usual):
        return None
    test = distributions.ks_counts(earlier, counts[0], n=size, m=units[0])
    return Reshaped(
        target=str(frame["target"].iloc[0]),
        arm=str(frame["arm"].iloc[0]),
        psi=index,
        usual_psi=usual,
        limit=max(limit, usual),
        distance=float(test.distance),
        p_value=float(test.p_value),
        n=int(counts[0].sum()),
        days=int(full.sum()) - 1,
    )
