"""The Mann-Whitney interval of a location shift, as R's ``wilcox.test`` finds it for large samples.

The interval holds every shift that the rank test with continuity and tie correction does not
refuse. R and the tools that follow it search its ends with an absolute tolerance, so where samples
are tied the answer depends on the search's path; :func:`zeroin` takes the same path.

References:
    Mann and Whitney (1947), Ann. Math. Stat. 18:50. Hodges and Lehmann (1963), Ann. Math. Stat.
    34:598. Brent (1973), Algorithms for Minimization without Derivatives, chapter 4.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]

TOLERANCE: Final = 1e-4
"""Absolute distance within which an end is found, R's default; metrics below it are not seen."""
EPSILON: Final = float(np.finfo(np.float64).eps)
STEPS: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How far x lies above y: two-sided limits and the Hodges-Lehmann estimate, in their unit."""

    lower: float
    upper: float
    estimate: float


@dataclass(frozen=True, slots=True)
class _Sample:
    """Distinct values, ascending, how often each occurs, and the sum of ``t^3 - t`` over ties."""

    values: FloatArray
    counts: FloatArray
    size: float
    ties: float


def shift_interval(x: npt.ArrayLike, y: npt.ArrayLike, *, confidence: float) -> Shift:
    """The location shift of x against y.

    Raises:
        ValueError: a sample is empty, or at some shift all observations are tied.

    Examples:
        >>> shift = shift_interval([10, 20, 30, 40], [1, 2, 3, 4], confidence=0.95)
        >>> shift.lower, shift.upper, shift.estimate
        (6.0, 39.0, 22.5)
    """
    above, below = _sample(x), _sample(y)
    low = float(above.values[0] - below.values[-1])
    high = float(above.values[-1] - below.values[0])
    ends = _deviate(above, below, low), _deviate(above, below, high)

    def crossing(quantile: float) -> float:
        return zeroin(
            lambda shift: _deviate(above, below, shift) - quantile,
            (low, high),
            (ends[0] - quantile, ends[1] - quantile),
        )

    def end(quantile: float) -> float:
        if ends[0] - quantile <= 0:
            return low
        return high if ends[1] - quantile >= 0 else crossing(quantile)

    z = float(special.ndtri((1.0 - confidence) / 2.0))
    return Shift(lower=end(-z), upper=end(z), estimate=crossing(0.0))


def deviate(x: npt.ArrayLike, y: npt.ArrayLike, *, shift: float = 0.0) -> float:
    """The standardised rank sum of ``x - shift`` against y; positive where x lies above.

    Raises:
        ValueError: a sample is empty, or all observations are tied.
    """
    return _deviate(_sample(x), _sample(y), shift)


def zeroin(
    function: Callable[[float], float],
    ends: tuple[float, float],
    at_ends: tuple[float, float],
) -> float:
    """A root of the function between two ends, within ``TOLERANCE / 2``, by Brent's method.

    Args:
        function: falls or rises through zero once.
        ends: where the search begins.
        at_ends: the function there.

    References:
        Brent (1973), section 4.2: inverse quadratic interpolation or secant where they shrink the
        bracket enough, bisection elsewhere.
    """
    (a, b), (fa, fb) = ends, at_ends
    if fa == 0:
        return a
    c, fc = a, fa
    for _ in range(STEPS):
        before = b - a
        if abs(fc) < abs(fb):
            a, b, c = b, c, b
            fa, fb, fc = fb, fc, fb
        nearest = 2.0 * EPSILON * abs(b) + TOLERANCE / 2.0
        step = (c - b) / 2.0
        if abs(step) <= nearest or fb == 0:
            break
        if abs(before) >= nearest and abs(fa) > abs(fb):
            p, q = _interpolated((a, b, c), (fa, fb, fc))
            room = 0.75 * (c - b) * q - abs(nearest * q) / 2.0
            step = p / q if p < min(room, abs(before * q / 2.0)) else step
        if abs(step) < nearest:
            step = nearest if step > 0 else -nearest
        a, fa = b, fb
        b += step
        fb = function(b)
        if fb * fc > 0:
            c, fc = a, fa
    return b


def _interpolated(
    points: tuple[float, float, float], values: tuple[float, float, float]
) -> tuple[float, float]:
    """Numerator (zero or more) and denominator of the interpolated step from the middle point."""
    (a, b, c), (fa, fb, fc) = points, values
    slope = fb / fa
    if a == c:
        p, q = (c - b) * slope, 1.0 - slope
    else:
        left, right = fa / fc, fb / fc
        p = slope * ((c - b) * left * (left - right) - (b - a) * (right - 1.0))
        q = (left - 1.0) * (right - 1.0) * (slope - 1.0)
    return (p, -q) if p > 0 else (-p, q)


def _sample(values: npt.ArrayLike) -> _Sample:
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise ValueError("a sample is empty")
    distinct, counts = np.unique(data, return_counts=True)
    times = counts.astype(np.float64)
    return _Sample(distinct, times, float(data.size), float(np.sum(times**3 - times)))


def _deviate(x: _Sample, y: _Sample, shift: float) -> float:
    moved = x.values - shift
    place = np.searchsorted(y.values, moved)
    below = np.concatenate([[0.0], np.cumsum(y.counts)])[place]
    # Where a moved value meets one of y's, both groups of ties become one.
    met = place < y.values.size
    met[met] = y.values[place[met]] == moved[met]
    own, other = x.counts[met], y.counts[place[met]]
    wins = float(x.counts @ below + own @ other / 2.0)
    ties = x.ties + y.ties + float(3.0 * (own * other) @ (own + other))
    total = x.size + y.size
    variance = x.size * y.size / 12.0 * (total + 1.0 - ties / (total * (total - 1.0)))
    if variance <= 0:
        raise ValueError("all observations are tied")
    above = wins - x.size * y.size / 2.0
    return float((above - np.sign(above) * 0.5) / np.sqrt(variance))
