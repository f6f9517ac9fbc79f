"""Runs: scores that lie on one side for longer than chance lets them, hour by hour.

Page's cumulative sum over the residuals of an autoregression, for many series at once. The laws
kept here: the past alone decides, unknown hours change nothing, and mirroring the scores swaps the
two directions. Hours are correlated: summing the scores themselves would raise the alarm an order
of magnitude too often.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ALLOWANCE: Final = 0.5
"""Half of the shift, in standard deviations, that is found soonest."""
ALARM: Final = 8.0
LARGEST_CORRELATION: Final = 0.95
CLIP: Final = 4.0
"""Scores beyond it count as that much: one wild hour is no run."""
ROUNDING: Final = 1e-6
"""How far sums of the same values in another order may lie apart, and more."""
# Expected overshoot of a normal random walk beyond both boundaries.
OVERSHOOT: Final = 1.166


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """One-sided cumulative sums, shape (S, H) each.

    height: the sum in standard deviations, never below 0; onset: the hour (column) in which the
    present run began, that hour itself while the height is 0.
    """

    height: FloatArray
    onset: IntArray


def correlation(z: FloatArray) -> FloatArray:
    """Correlation of each series' neighbouring scores, in [0, 0.95], shape (S,); 0 if unknown.

    Negative correlations count as 0: they make runs rarer, not more frequent.

    References:
        The lag-1 moment estimate, with scores clipped so that single hours do not decide it.
    """
    clipped = np.clip(z, -CLIP, CLIP)
    pairs = _or_zero(clipped[:, 1:] * clipped[:, :-1])
    known = ~np.isnan(z)
    both = (known[:, 1:] & known[:, :-1]).sum(axis=1)
    power = _or_zero(clipped**2).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    raw = pairs.sum(axis=1) / np.maximum(both, 1) / np.where(power > 0, power, np.inf)
    return np.asarray(np.clip(raw, 0.0, LARGEST_CORRELATION))


def residuals(z: FloatArray, *, fit: int | None = None) -> FloatArray:
    """Scores without what the hour before already says, of unit variance, shape (S, H).

    Args:
        z: scores, nan = unknown, shape (S, H).
        fit: how many leading hours the autoregression is fitted to; all by default. Leave out
            the hours in which a change is looked for, or the change hides itself.

    References:
        ``e_t = (z_t - rho z_{t-1}) / sqrt(1 - rho^2)``. Their variance is half the mean square of
        successive differences (von Neumann 1941, Ann. Math. Statist. 12:367), which no shift of
        level inflates; series quieter than their scores say stay quiet.
    """
    rho = correlation(z[:, :fit])[:, None]
    before = np.full(z.shape, np.nan)
    before[:, 1:] = z[:, :-1]
    innovation = np.where(np.isnan(before), z, (z - rho * before) / np.sqrt(1.0 - rho**2))
    step = np.diff(np.clip(innovation[:, :fit], -CLIP, CLIP), axis=1)
    known = (~np.isnan(step)).sum(axis=1)
    variance = _or_zero(step**2).sum(axis=1) / (2.0 * np.maximum(known, 1))
    return np.asarray(innovation / np.sqrt(np.maximum(variance, 1.0))[:, None])


def _or_zero(values: FloatArray) -> FloatArray:
    """The values, 0 where unknown; ``nan_to_num`` also looks for what is infinite."""
    return np.where(np.isnan(values), 0.0, values)


def cusum(x: FloatArray, *, allowance: float = ALLOWANCE, clip: float = CLIP) -> Runs:
    """Upward runs: ``s <- max(0, s + x - allowance)``; downward ones are those of ``-x``.

    Args:
        x: standardised values, nan = unknown (the sum waits), shape (S, H).
        allowance: what a run must exceed on average, standard deviations.
        clip: values beyond it count as that much; inf for the plain sum.

    References:
        Page (1954), Continuous inspection schemes, Biometrika 41:100.

    Examples:
        >>> runs = cusum(np.array([[0.0, 3.0, 3.0, 3.0]]))
        >>> runs.height.tolist(), runs.onset.tolist()
        ([[0.0, 2.5, 5.0, 7.5]], [[0, 1, 1, 1]])
    """
    gains = _or_zero(np.minimum(x, clip) - allowance)
    height = np.zeros(x.shape)
    onset = np.zeros(x.shape, dtype=np.int64)
    level, began = np.zeros(len(x)), np.zeros(len(x), dtype=np.int64)
    for hour in range(x.shape[1]):
        gain = gains[:, hour]
        began = np.where(level > 0, began, hour)
        level = np.maximum(level + gain, 0.0)
        height[:, hour], onset[:, hour] = level, np.where(level > 0, began, hour)
    return Runs(height=height, onset=onset)


def high(x: FloatArray, height: float) -> IntArray:
    """The series whose upward run now is as high as that, within rounding; in order.

    References:
        The reflected walk without its recursion: the sum less the smallest it ever was, 0 included.

    Examples:
        >>> high(np.array([[0.0, 3.0, 3.0, 3.0], [3.0, 3.0, 3.0, 0.0]]), 7.5).tolist()
        [0]
    """
    walk = np.cumsum(_or_zero(np.minimum(x, CLIP) - ALLOWANCE), axis=1)
    now = walk[:, -1] - walk.min(axis=1, initial=0.0)
    return np.flatnonzero(now >= height - ROUNDING)


def hours_to_false_alarm(height: npt.ArrayLike, *, allowance: float = ALLOWANCE) -> FloatArray:
    """Mean hours until the sum of independent normal scores first reaches a height.

    References:
        Siegmund (1985), Sequential Analysis, eq. 2.56:
        ``(exp(2 k b) - 2 k b - 1) / (2 k^2)`` with ``b = h + 1.166``. Within 1 % of the solution of
        the integral equation for heights from 4 to 8 at k = 0.5.

    Examples:
        >>> hours_to_false_alarm([5.0, 8.0]).round().tolist()
        [938.0, 19112.0]
    """
    steps = 2.0 * allowance * (np.asarray(height, dtype=np.float64) + OVERSHOOT)
    return np.asarray((np.exp(np.minimum(steps, 700.0)) - steps - 1.0) / (2.0 * allowance**2))


def chance(height: npt.ArrayLike, *, hours: float, allowance: float = ALLOWANCE) -> FloatArray:
    """Probability that scores without a change reach this height within so many hours.

    References:
        The time to a false alarm is nearly exponential: ``1 - exp(-hours / mean)``.

    Examples:
        >>> chance([0.0, 8.0], hours=48).round(4).tolist()
        [1.0, 0.0025]
    """
    mean = hours_to_false_alarm(height, allowance=allowance)
    return np.asarray(-np.expm1(-hours / np.maximum(mean, 1e-300)))
