"""Strata weighed as planned: regions or tenants whose mix differs by chance between arms.

The laws kept here: the estimate is that of the planned mix, whichever mix came; strata that do not
differ change nothing; the order of strata changes nothing; a stratum that is planned for and was
not measured makes the whole unknown.

Strata must predate assignment. One that the arm can influence biases the result.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.statistics.clusters import MIN_UNITS, RatioEstimate
from optimizer.statistics.covariates import UnitSums, ratio_of_means, row_estimate

FloatArray = npt.NDArray[np.float64]

RATIO_PARTS: Final = 2


def post_stratified(estimate: RatioEstimate, weights: npt.ArrayLike) -> RatioEstimate:
    """One arm's mean with its strata weighed as planned, plain or adjusted.

    ``value = sum w R``, ``variance = sum w ** 2 V``: with weights planned ahead they carry no
    variance of their own.

    Args:
        estimate: the arm's mean per unit in each stratum, shape (..., S).
        weights: planned share of units of each stratum, >= 0, adding to 1, broadcast; the same for
            both arms.

    Returns:
        Estimate of shape (...); nan where a stratum with weight has no units or no variance.

    Raises:
        ValueError: the weights are negative or do not add to 1.

    References:
        Miratrix, Sekhon and Yu (2013), Adjusting treatment effect estimates by post-stratification
        in randomized experiments, JRSS B 75:369; Cochran (1977), Sampling Techniques, chapter 5.

    Examples:
        >>> value, variance, units = np.array([[1.0, 3.0], [0.1, 0.2], [40, 60]])
        >>> arm = RatioEstimate(value=value, variance=variance, clusters=units.astype(int))
        >>> found = post_stratified(arm, [0.5, 0.5])
        >>> float(found.value), round(float(found.variance), 4), int(found.clusters)
        (2.0, 0.075, 100)
    """
    w = _planned(weights)
    # A stratum that is not planned for may be empty.
    value = np.where(w > 0, estimate.value, 0.0)
    variance = np.where(w > 0, estimate.variance, 0.0)
    units = np.where(w > 0, estimate.clusters, 0)
    return RatioEstimate(
        value=(w * value).sum(axis=-1),
        variance=(w**2 * variance).sum(axis=-1),
        clusters=np.asarray(units.sum(axis=-1), dtype=np.int64),
    )


def post_stratified_ratio(
    strata: UnitSums, weights: npt.ArrayLike, *, min_units: int = MIN_UNITS
) -> RatioEstimate:
    """One arm's ratio with its strata weighed as planned, for metrics of units' requests.

    ``R = sum w mean Y / sum w mean D``; ``V = sum w ** 2 g' C g / n`` with the unit's covariance C
    and ``g = (1, -R) / sum w mean D``.

    Args:
        strata: sums of Y and D in each stratum, shape (..., S), 2 columns.
        weights: planned share of units of each stratum, >= 0, adding to 1, broadcast.
        min_units: units of a stratum below which the variance is nan.

    Returns:
        Estimate of shape (...).

    Raises:
        ValueError: the weights are negative or do not add to 1, or there are not 2 columns.

    References:
        As :func:`post_stratified`, with the delta method of Deng, Knoblich and Lu (2018).

    Examples:
        >>> from optimizer.statistics.covariates import unit_sums
        >>> rows = np.stack([np.arange(40.0), np.full(40, 10.0)], axis=-1)
        >>> one = unit_sums(np.stack([rows, rows + [10.0, 0.0]]))
        >>> round(float(post_stratified_ratio(one, [0.25, 0.75]).value), 3)
        2.7
    """
    if strata.total.shape[-1] != RATIO_PARTS:
        raise ValueError(f"2 columns, numerator and denominator, got {strata.total.shape[-1]}")
    w = _planned(weights)
    mean = np.where(w[..., None] > 0, strata.mean, 0.0)
    centre, slope = ratio_of_means((w[..., None] * mean).sum(axis=-2))
    gradient = slope[..., None, :]
    spread = np.einsum("...p,...pq,...q->...", gradient, strata.covariance, gradient)
    parts = row_estimate(mean[..., 0], spread, strata.n, min_units)
    variance = np.where(w > 0, parts.variance, 0.0)
    units = np.where(w > 0, parts.clusters, 0)
    return RatioEstimate(
        value=centre,
        variance=(w**2 * variance).sum(axis=-1),
        clusters=np.asarray(units.sum(axis=-1), dtype=np.int64),
    )


def _planned(weights: npt.ArrayLike) -> FloatArray:
    w = np.asarray(weights, dtype=np.float64)
    if not (np.all(w >= 0) and np.allclose(w.sum(axis=-1), 1.0, rtol=0.0, atol=1e-9)):
        raise ValueError("planned weights are zero or more and add to 1 over the strata")
    return w
