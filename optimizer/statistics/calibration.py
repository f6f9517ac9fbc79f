"""Whether promised intervals hold what they promise: expected against realised, one by one.

A promise is an estimate with limits; so is what was measured afterwards. If both are honest, their
difference has the variance of both together, and lies beyond the limits of that in a known share of
decisions. More misses than that are evidence against the promises, added up in an e-value that may
be read after every decision.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from optimizer.statistics.evalues import closed_form_log_evalue

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

NOMINAL: Final = 0.05
"""Share of honest promises that are missed."""

ALLOWED: Final = 0.10
"""Share of misses that is still called honest: traffic changes between promise and measurement."""


def deviates(
    expected: npt.ArrayLike,
    expected_half: npt.ArrayLike,
    actual: npt.ArrayLike,
    actual_half: npt.ArrayLike,
    *,
    confidence: float = 0.95,
) -> FloatArray:
    """Realised less expected, in standard errors of their difference; nan where one is unknown.

    Args:
        expected: promised values, any shape, in the unit of the others.
        expected_half: half widths of their intervals.
        actual: measured values.
        actual_half: half widths of their intervals.
        confidence: of both intervals.

    References:
        Both estimates are independent, since what is measured afterwards is other traffic: Cox and
        Hinkley (1974). Theoretical Statistics, section 7.2 (prediction intervals).

    Examples:
        >>> deviates([40.0, 40.0], [3.0, 3.0], [36.0, np.nan], [4.0, 4.0]).round(2)
        array([-1.57,   nan])
    """
    z = special.ndtri(0.5 + confidence / 2.0)
    halves = np.hypot(
        np.asarray(expected_half, dtype=np.float64), np.asarray(actual_half, dtype=np.float64)
    )
    gap = np.asarray(actual, dtype=np.float64) - np.asarray(expected, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = np.where(gap == 0.0, 0.0, gap * z / halves)
    return np.where(np.isnan(halves), np.nan, found)


def missed(found: npt.ArrayLike, *, nominal: float = NOMINAL) -> BoolArray:
    """Whether a decision broke its promise, all its metrics together.

    Args:
        found: deviates, shape (decisions, metrics); nan = a metric without promise or measurement.
        nominal: chance that an honest decision is counted as missed; shared evenly by the metrics
            that are known (Bonferroni).

    Returns:
        Shape (decisions,); False where nothing is known, which is no promise kept either.

    Examples:
        >>> missed([[2.1, np.nan], [2.1, 0.0], [np.nan, np.nan]]).tolist()
        [True, False, False]
    """
    table = np.atleast_2d(np.asarray(found, dtype=np.float64))
    known = np.isfinite(table) | np.isinf(table)
    count = known.sum(axis=1)
    with np.errstate(divide="ignore"):
        limit = -special.ndtri(nominal / 2.0 / np.maximum(count, 1))
    beyond = known & (np.abs(np.where(known, table, 0.0)) > limit[:, None])
    return np.asarray(beyond.any(axis=1), dtype=np.bool_)


def log_evidence(misses: int, kept: int, *, allowed: float = ALLOWED) -> float:
    """Log e-value against "at most ``allowed`` of the promises are missed".

    While that holds, the chance that it ever reaches ``log(1 / alpha)`` is at most alpha, however
    often it is looked at.

    References:
        Bernoulli e-process with a truncated beta prior: :func:`closed_form_log_evalue`.

    Examples:
        >>> log_evidence(0, 30) < 0 < log_evidence(6, 6)
        True
    """
    return float(closed_form_log_evalue(misses, kept, allowed))
