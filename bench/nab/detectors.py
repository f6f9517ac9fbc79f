"""Detectors of one series, point by point, each point scored from those before it alone.

The project's is the rules of the anomaly and drift analyzers on a single series: the seasonal score
of one point and of three in a row, and the cumulative sum over the residuals of an autoregression,
with the analyzers' own limits. The other one is the benchmark's windowed Gaussian.
"""

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from bench.nab.corpus import Labelled
from optimizer.metrics import DAY_S
from optimizer.statistics.anomalies import against_past, strengths
from optimizer.statistics.runs import ALARM, cusum, residuals

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Detector = Callable[[Labelled], FloatArray]

MEMORY: Final = pd.Timedelta(days=7)
"""How long an anomaly is remembered: one that is no stronger is not told again."""
SMALLEST: Final = 1e-6
"""The standard deviation of a window without any, as the benchmark has it."""


def analyzers(series: Labelled) -> FloatArray:
    """Strength of each point that is to be told, 1 = the analyzers' limits, 0 = nothing to tell.

    What is usual is learned anew every day from all that came before. Values are taken as they are,
    not by their logarithm, because they may be 0 and negative; they are scaled by their mean size
    so far, of which 2 % are then never unusual.
    """
    z, residual = _read(series)
    runs = np.maximum(*(cusum(side * residual[None]).height[0] for side in (1, -1))) / ALARM
    crossing = np.where((runs >= 1.0) & (np.append([0.0], runs[:-1]) < 1.0), runs, 0.0)
    return told_once(np.maximum(strengths(z[None])[0], crossing), series.at_s)


def _read(series: Labelled) -> tuple[FloatArray, FloatArray]:
    """The seasonal score of each point and its residual, from what was known at the day's start."""
    points, at_s = len(series.values), series.at_s
    cuts = np.unique(np.searchsorted(at_s, np.arange(at_s[0] + DAY_S, at_s[-1] + 1, DAY_S)))
    known = np.arange(points) < cuts[:, None]
    size = np.where(known, np.abs(series.values), 0.0).sum(axis=1) / cuts
    values = series.values / np.where(size > 0, size, 1.0)[:, None]
    scores = against_past(values, at_s, cut=cuts).z
    z, residual = np.full(points, np.nan), np.full(points, np.nan)
    for row, (cut, end) in enumerate(zip(cuts, [*cuts[1:], points], strict=True)):
        z[cut:end] = scores[row, cut:end]
        residual[cut:end] = residuals(scores[row : row + 1, :end], fit=int(cut))[0, cut:end]
    return z, residual


def told_once(strength: FloatArray, at_s: IntArray) -> FloatArray:
    """The strengths that exceed all of the week before; 0 where one as strong was told then."""
    index = pd.to_datetime(at_s, unit="s")
    before = pd.Series(strength, index=index).rolling(MEMORY, closed="left", min_periods=1).max()
    return np.where(strength > before.fillna(0.0).to_numpy(), strength, 0.0)


def windowed_gaussian(series: Labelled, *, window: int, step: int) -> FloatArray:
    """One less the tail probability of each point among the points of a window before it.

    References:
        The windowed Gaussian of the Numenta Anomaly Benchmark, release 1.1: until the window is
        full it grows with every point, then it moves on by ``step`` points at a time.
    """
    values = series.values
    found = np.zeros(len(values))
    mean, deviation = 0.0, 1.0
    for now, value in enumerate(values):
        if now:
            found[now] = 1.0 - special.erfc(abs(value - mean) / deviation / np.sqrt(2.0)) / 2.0
        if now < window or (now + 1 - window) % step == 0:
            seen = values[max(now + 1 - window, 0) : now + 1]
            mean, deviation = float(seen.mean()), float(seen.std()) or SMALLEST
    return found


OURS: Final = "anomaly and drift rules"
RELEASED: Final = "windowed Gaussian, 6,400 points by 100 (release 1.1)"
NARROW: Final = "windowed Gaussian, 1,000 points by 1 (earlier release)"
DETECTORS: Final[Mapping[str, Detector]] = {
    OURS: analyzers,
    RELEASED: lambda series: windowed_gaussian(series, window=6_400, step=100),
    NARROW: lambda series: windowed_gaussian(series, window=1_000, step=1),
}
"""The detectors that are compared, by name."""
