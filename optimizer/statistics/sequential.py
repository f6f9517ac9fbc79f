"""Boundaries for a planned ramp: group-sequential tests by error spending.

A plan has a known end. Each look may spend part of the error budget, by a function of the
information seen so far, and its boundary is the one that spends exactly that part. The laws kept
here: over all looks of a harmless rollout the chance of crossing equals what was spent; and a
boundary depends on earlier looks only, so boundaries are recomputed from the times of the looks and
never stored.

References:
    Lan and DeMets (1983). Discrete sequential boundaries for clinical trials. Biometrika 70:659.
    Armitage, McPherson and Rowe (1969). Repeated significance tests on accumulating data. JRSS A
    132:235, for the recursive integration.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, e, pi, sqrt
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

FloatArray = npt.NDArray[np.float64]

# A boundary this high spends nothing; a look that cannot afford less is clipped to it.
HIGHEST_BOUND: Final = 8.0
# The grid starts this many standard deviations below zero; the mass beyond is 1e-19.
LOWEST: Final = 9.0
SMALLEST_SPEND: Final = 1e-15
# Simpson intervals are twice this; fewer lose power silently.
SMALLEST_HALF_GRID: Final = 100
SMALLEST_P: Final = 1e-15
# A term this small changes no digit of the sum it would be added to.
NEGLIGIBLE: Final = 2.0**-54
# Looks whose paths are remembered: the next look of the same plan then costs one step.
REMEMBERED: Final = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paths:
    """Sub-density of the paths that have crossed no boundary: grid x, density times weight."""

    x: FloatArray
    mass: FloatArray

    def crossing(self, z: float, time: float, step: float) -> float:
        """The chance to reach z at time, step the next increment's standard deviation."""
        return float(self.mass @ special.ndtr((self.x - z * sqrt(time)) / step))

    def density(self, at: FloatArray, step: float) -> FloatArray:
        """The sub-density after one more increment, at the points of a new grid."""
        kernel = at[None, :] - self.x[:, None]
        kernel *= kernel
        kernel *= -0.5 / step**2
        np.exp(kernel, out=kernel)
        return np.asarray((self.mass @ kernel) / (step * sqrt(2.0 * pi)))


# Before the first look every path stands at zero.
_START: Final = _Paths(x=np.zeros(1), mass=np.ones(1))


def pocock_spending(fraction: npt.ArrayLike, *, alpha: npt.ArrayLike) -> FloatArray:
    """Error spent up to each information fraction, Pocock type: evenly, for early stops.

    Args:
        fraction: information fraction, >= 0, any shape; beyond 1 all of alpha is spent.
        alpha: the whole one-sided budget, broadcast with fraction.

    Returns:
        Cumulative error, the broadcast shape.

    References:
        Lan and DeMets (1983), ``alpha * log(1 + (e - 1) t)``, approximating Pocock (1977),
        Biometrika 64:191.

    Examples:
        >>> [round(float(spent), 5) for spent in pocock_spending([0.5, 1.0], alpha=0.05)]
        [0.03101, 0.05]
    """
    t = np.clip(np.asarray(fraction, dtype=np.float64), 0.0, 1.0)
    return np.asarray(np.asarray(alpha) * np.log1p((e - 1.0) * t))


def obrien_fleming_spending(fraction: npt.ArrayLike, *, alpha: npt.ArrayLike) -> FloatArray:
    """Error spent up to each information fraction, O'Brien-Fleming type: almost all of it late.

    Args:
        fraction: information fraction, >= 0, any shape; beyond 1 all of alpha is spent.
        alpha: the whole one-sided budget, broadcast with fraction.

    Returns:
        Cumulative error, the broadcast shape.

    References:
        Lan and DeMets (1983), ``2 Phi(-isf(alpha / 2) / sqrt(t))``.

    Examples:
        >>> [round(float(spent), 5) for spent in obrien_fleming_spending([0.5, 1.0], alpha=0.05)]
        [0.00557, 0.05]
    """
    t = np.clip(np.asarray(fraction, dtype=np.float64), 0.0, 1.0)
    root = np.sqrt(np.where(t > 0, t, np.nan))
    half = -special.ndtri(0.5 * np.asarray(alpha, dtype=np.float64))
    # Rounding must not spend more than all: a look that closes the plan spends exactly alpha.
    spent: FloatArray = np.minimum(2.0 * special.ndtr(-half / root), alpha)
    return np.where(t > 0, spent, 0.0)


def boundaries(fractions: Sequence[float], spending: Sequence[float]) -> FloatArray:
    """The z at or above which each look of a plan fails, one plan at a time.

    Args:
        fractions: information fractions of the looks, strictly increasing, > 0, shape (L,). A
            missed look is left out: the next one spends its share too.
        spending: cumulative one-sided error at those looks, never decreasing, in [0, 1), shape
            (L,).

    Returns:
        Bounds on z, shape (L,), within -9..8. A look held at 8 spends nothing; its share carries
        over.

    Raises:
        ValueError: shapes differ, times do not increase or the spending decreases.

    References:
        Armitage, McPherson and Rowe (1969); Jennison and Turnbull (2000), Group Sequential Methods,
        chapter 19. Grid steps stay at half the next increment's standard deviation or less.

    Examples:
        >>> looks = [0.2, 0.4, 0.6, 0.8, 1.0]
        >>> bounds = boundaries(looks, list(pocock_spending(looks, alpha=0.025)))
        >>> [round(float(bound), 3) for bound in bounds]
        [2.438, 2.427, 2.41, 2.397, 2.386]
    """
    times = np.asarray(fractions, dtype=np.float64)
    spend = np.asarray(spending, dtype=np.float64)
    _check_plan(times, spend)
    past, budget = tuple(times.tolist()), tuple(spend.tolist())
    looks = [_look(past[:end], budget[:end]) for end in range(1, times.size + 1)]
    return np.array([bound for bound, _ in looks])


def mid_p_z(
    k_e: npt.ArrayLike, n_e: npt.ArrayLike, k_c: npt.ArrayLike, n_c: npt.ArrayLike
) -> FloatArray:
    """The conditional normal deviate of the canary's failures; positive is more than control's.

    For independent requests only. Mid-p keeps its level at unequal arm sizes, where a pooled score
    test does not.

    Args:
        k_e: failures of the canary so far, any shape.
        n_e: requests of the canary so far.
        k_c: failures of control so far.
        n_c: requests of control so far.

    Returns:
        z, the broadcast shape, within -7.95..7.95; 0 without any failure, nan where an arm is
        empty.

    References:
        Lancaster (1961). Significance tests in discrete distributions. JASA 56:223.

    Examples:
        >>> round(float(mid_p_z(20, 1000, 10, 1000)), 4)
        1.8202
    """
    failures_e, size_e, failures_c, size_c = np.broadcast_arrays(
        *(np.asarray(counts, dtype=np.float64) for counts in (k_e, n_e, k_c, n_c))
    )
    canary, control = (failures_e, size_e), (failures_c, size_c)
    # The tail away from the mean is summed, which is the shorter one.
    above = failures_e * size_c >= failures_c * size_e
    farther = [np.where(above, *pair) for pair in zip(canary, control, strict=True)]
    nearer = [np.where(above, *pair) for pair in zip(control, canary, strict=True)]
    tail = _mid_tail(*farther, *nearer)
    deviate = -special.ndtri(np.maximum(tail, SMALLEST_P))
    signed = np.where(above, deviate, -deviate)
    return np.where((size_e > 0) & (size_c > 0), signed, np.nan)


def _mid_tail(
    k: FloatArray, size: FloatArray, k_other: FloatArray, size_other: FloatArray
) -> FloatArray:
    """The chance of more than k failures in one arm, plus half that of k, given the sum of both.

    The chance of k is a quotient of binomial ones, which keeps its digits at any size; those above
    follow by their ratios, until they no longer count.
    """
    failures, everyone = k + k_other, size + size_other
    rate = failures / np.maximum(everyone, 1.0)
    at = (
        stats.binom.pmf(k, size, rate)
        * stats.binom.pmf(k_other, size_other, rate)
        / stats.binom.pmf(failures, everyone, rate)
    )
    more, lost = np.maximum(size - k, 0.0), k + 1.0
    term, total = np.ones_like(rate), np.full_like(rate, 0.5)
    left, kept = k_other, size_other - k_other + 1.0
    step = 0
    while np.any(term > NEGLIGIBLE * total):
        term = term * (np.maximum(left - step, 0.0) * np.maximum(more - step, 0.0))
        term = term / ((lost + step) * (kept + step))
        total = total + term
        step += 1
    return np.asarray(at * total)


@lru_cache(maxsize=REMEMBERED)
def _look(times: tuple[float, ...], spend: tuple[float, ...]) -> tuple[float, float]:
    """The bound of the last of these looks, and the error spent up to and including it."""
    time, before = times[-1], times[-2] if len(times) > 1 else 0.0
    spent = _look(times[:-1], spend[:-1])[1] if len(times) > 1 else 0.0
    step = sqrt(time - before)
    bound = _bound(_survivors(times[:-1], spend[:-1], step), spend[-1] - spent, time, step)
    # No bound lies below that of a single look with all error; integration may miss it far out.
    lowest = min(HIGHEST_BOUND, -float(special.ndtri(spend[-1])))
    bound = max(bound, lowest)
    return bound, spend[-1] if bound < HIGHEST_BOUND else spent


def _survivors(times: tuple[float, ...], spend: tuple[float, ...], following: float) -> _Paths:
    """The paths that crossed no bound so far, on a grid fine enough for the step that follows."""
    if not times:
        return _START
    bound = _look(times, spend)[0]
    half_grid = max(SMALLEST_HALF_GRID, ceil((bound + LOWEST) * sqrt(times[-1]) / following))
    return _paths(times, spend, half_grid)


@lru_cache(maxsize=REMEMBERED)
def _paths(times: tuple[float, ...], spend: tuple[float, ...], half_grid: int) -> _Paths:
    time, before = times[-1], times[-2] if len(times) > 1 else 0.0
    step = sqrt(time - before)
    bound = _look(times, spend)[0]
    grid = np.linspace(-LOWEST * sqrt(time), bound * sqrt(time), 2 * half_grid + 1)
    earlier = _survivors(times[:-1], spend[:-1], step)
    return _Paths(x=grid, mass=_simpson_weights(grid) * earlier.density(grid, step))


def _bound(paths: _Paths, to_spend: float, time: float, step: float) -> float:
    if to_spend <= SMALLEST_SPEND or paths.crossing(HIGHEST_BOUND, time, step) >= to_spend:
        return HIGHEST_BOUND

    def excess(z: float) -> float:
        return paths.crossing(z, time, step) - to_spend

    return float(optimize.brentq(excess, -LOWEST, HIGHEST_BOUND, xtol=1e-12))


def _simpson_weights(grid: FloatArray) -> FloatArray:
    weights = np.full(grid.size, 2.0)
    weights[1::2] = 4.0
    weights[[0, -1]] = 1.0
    return np.asarray(weights * (grid[1] - grid[0]) / 3.0)


def _check_plan(times: FloatArray, spend: FloatArray) -> None:
    increasing = bool(np.all(np.diff(times, prepend=0.0) > 0))
    spending = bool(np.all(np.diff(spend, prepend=0.0) >= 0) and np.all(spend < 1))
    if times.shape != spend.shape or times.ndim != 1 or not (increasing and spending):
        raise ValueError(
            "fractions must increase from above 0 and spending must not decrease within [0, 1), "
            f"one value a look; got shapes {times.shape} and {spend.shape}"
        )
