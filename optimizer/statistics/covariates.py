"""Sharper comparisons from what a unit did before: pre-period covariates (CUPED).

A unit's behaviour before it was assigned cannot depend on its arm, so the part of the outcome that
it predicts may be taken out. The laws kept here: what is estimated does not change; a covariate
that predicts nothing changes nothing; scaling the outcome scales the estimate and the covariate's
unit plays no part; a variance that cannot be trusted is nan.

Covariates must predate assignment. One that the arm can influence biases the result.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.statistics.clusters import (
    MIN_UNITS,
    NEAR_ZERO_SE,
    Difference,
    RatioEstimate,
    harm,
    t_to_z,
)

FloatArray = npt.NDArray[np.float64]

# A spread below this fraction of the squared sums is rounding of the subtraction: there is none.
ROUNDING: Final = 1e-12
MEAN_COLUMNS: Final = 2
RATIO_COLUMNS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitSums:
    """Sufficient sums over the units of one arm, of many targets or strata at once.

    The columns are ``Y`` or ``Y, D`` (outcome, or numerator and denominator of a ratio), then the
    same of the period before, ``X`` or ``X, E``, where there is one. They add: across windows that
    hold different units, and nothing else.

    Attributes:
        n: units, shape (...).
        total: sum of each column, shape (..., P).
        products: sums of products of each two columns, symmetric, shape (..., P, P).
    """

    n: FloatArray
    total: FloatArray
    products: FloatArray

    def __add__(self, other: "UnitSums") -> "UnitSums":
        """Both samples as one."""
        return UnitSums(
            n=self.n + other.n,
            total=self.total + other.total,
            products=self.products + other.products,
        )

    @property
    def mean(self) -> FloatArray:
        """Mean of each column, shape (..., P); nan without units."""
        return self.total / np.where(self.n > 0, self.n, np.nan)[..., None]

    @property
    def covariance(self) -> FloatArray:
        """Covariance of one unit's columns, n - 1 in the denominator, shape (..., P, P)."""
        outer = self.total[..., :, None] * self.mean[..., None, :]
        spread = self.products - outer
        at = np.arange(self.total.shape[-1])
        square = self.products[..., at, at]
        flat = spread[..., at, at] <= ROUNDING * square
        spread = np.where(flat[..., :, None] | flat[..., None, :], 0.0, spread)
        return spread / np.where(self.n > 1, self.n - 1.0, np.nan)[..., None, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjusted:
    """Two arms after the part that the period before predicts is taken out.

    Attributes:
        canary: the canary's estimate, shape (...); clusters are its units.
        control: control's.
        theta: how much of the covariate's deviation was taken out, in outcome per covariate.
        kept: variance of the difference that is left, as a share of the unadjusted; nan where
            unknown.
    """

    canary: RatioEstimate
    control: RatioEstimate
    theta: FloatArray
    kept: FloatArray


def unit_sums(rows: npt.ArrayLike) -> UnitSums:
    """The sums over units, from one row a unit, shape (..., N, P).

    Raises:
        ValueError: a value is not finite.

    Examples:
        >>> unit_sums([[1.0, 2.0], [3.0, 5.0]]).products.tolist()
        [[10.0, 17.0], [17.0, 29.0]]
    """
    table = np.asarray(rows, dtype=np.float64)
    if not np.all(np.isfinite(table)):
        raise ValueError(
            "a unit's value is not finite; units without history have sums of their own"
        )
    return UnitSums(
        n=np.full(table.shape[:-2], float(table.shape[-2])),
        total=table.sum(axis=-2),
        products=np.einsum("...np,...nq->...pq", table, table),
    )


def with_history_filled(known: UnitSums, new: UnitSums, at: npt.ArrayLike) -> UnitSums:
    """All units of an arm, those without history standing at the mean of those that have one.

    Such a unit then neither adds to the adjustment nor takes from it.

    Args:
        known: sums over units with a history, P columns, shape (...).
        new: sums over units without, of the outcome columns alone, P / 2 columns, shape (...).
        at: mean of the covariate columns over the known units of BOTH arms, shape (..., P / 2);
            each arm's own mean would hide the imbalance that is to be taken out.

    Raises:
        ValueError: the columns do not fit.

    Examples:
        >>> known, new = unit_sums([[1.0, 2.0], [3.0, 4.0]]), unit_sums([[5.0]])
        >>> filled = with_history_filled(known, new, [3.0])
        >>> float(filled.n), filled.mean.tolist()
        (3.0, [3.0, 3.0])
    """
    mean = np.asarray(at, dtype=np.float64)
    half = new.total.shape[-1]
    if known.total.shape[-1] != 2 * half or mean.shape[-1] != half:
        raise ValueError(
            f"{known.total.shape[-1]} columns with history do not go with {half} without and "
            f"{mean.shape[-1]} means"
        )
    # Where all units are new there is no mean; any constant serves, it predicts nothing.
    mean = np.where(np.isfinite(mean), mean, 0.0)
    cross = new.total[..., :, None] * mean[..., None, :]
    before = new.n[..., None, None] * mean[..., :, None] * mean[..., None, :]
    upper = np.concatenate([new.products, cross], axis=-1)
    lower = np.concatenate([np.swapaxes(cross, -1, -2), before], axis=-1)
    return known + UnitSums(
        n=new.n,
        total=np.concatenate([new.total, new.n[..., None] * mean], axis=-1),
        products=np.concatenate([upper, lower], axis=-2),
    )


def adjusted(canary: UnitSums, control: UnitSums, *, min_units: int = MIN_UNITS) -> Adjusted:
    """Means (2 columns Y, X) or ratios (4 columns Y, D, X, E) of two arms, adjusted by CUPED.

    ``value = R - theta (R_pre - R_pre of both arms)``, with ``R = mean Y`` or ``sum Y / sum D``;
    ``variance = (v_post - 2 theta c + theta ** 2 v_pre) / n``, with the unit's variances and
    covariance of the linearised ratios ``g' C g``, ``g = (1 / mean D, -R / mean D)``.

    Args:
        canary: the canary's sums, shape (...).
        control: control's, same shape.
        min_units: units below which a variance is nan.

    Returns:
        Both arms, shape (...). A covariate without any spread is left out (theta 0). The harm of
        the canary is ``clusters.harm(found.canary, found.control, ...)``.

    Raises:
        ValueError: there are neither 2 nor 4 columns.

    References:
        Deng, Xu, Kohavi and Walker (2013), Improving the sensitivity of online controlled
        experiments by utilizing pre-experiment data, WSDM; ratios by Deng, Knoblich and Lu (2018),
        arXiv 1803.06336. theta is ``Cov(Y, X) / Var(X)`` of both arms as one sample for means, and
        ``(c_e + c_c) / (v_pre_e + v_pre_c)`` for ratios, which are linear within an arm only.

    Examples:
        >>> x = np.arange(40.0)
        >>> rows = np.stack([x + np.tile([0.0, 1.0], 20), x], axis=-1)
        >>> found = adjusted(unit_sums(rows + [2.0, 0.0]), unit_sums(rows))
        >>> round(float(found.canary.value - found.control.value), 6), round(float(found.kept), 4)
        (2.0, 0.0019)
    """
    columns = canary.total.shape[-1]
    if columns not in {MEAN_COLUMNS, RATIO_COLUMNS} or control.total.shape[-1] != columns:
        raise ValueError(
            f"2 columns for means or 4 for ratios, got {columns} and {control.total.shape[-1]}"
        )
    arms = [_linear(canary), _linear(control)]
    if columns == MEAN_COLUMNS:
        joint = _linear(canary + control)
        theta = _quotient(joint.cross, joint.spread_pre)
    else:
        theta = _quotient(arms[0].cross + arms[1].cross, arms[0].spread_pre + arms[1].spread_pre)
    both = _linear(canary + control).pre
    estimates = [
        row_estimate(
            arm.post - theta * np.where(np.isfinite(arm.pre - both), arm.pre - both, 0.0),
            _left(arm, theta),
            arm.n,
            min_units,
        )
        for arm in arms
    ]
    plain = np.add(*(arm.spread_post / np.where(arm.n > 0, arm.n, np.nan) for arm in arms))
    left = estimates[0].variance + estimates[1].variance
    return Adjusted(
        canary=estimates[0],
        control=estimates[1],
        theta=theta,
        kept=left / np.where(plain > 0, plain, np.nan),
    )


def adjusted_lift(canary: UnitSums, control: UnitSums, *, min_units: int = MIN_UNITS) -> Difference:
    """The canary's adjusted change relative to control's unadjusted value, for display.

    ``value = D / R_c`` with the adjusted difference D; ``variance = (V_e + W_c) / R_c ** 2`` where
    W_c is the variance of ``(1 + value) R_c - theta R_pre,c``.

    Args:
        canary: the canary's sums, shape (...), as for :func:`adjusted`.
        control: control's.
        min_units: units below which a variance is nan.

    Returns:
        Difference of shape (...), dimensionless, with the degrees of freedom of the absolute one;
        nan where control lies within five standard errors of zero or a variance is unknown.

    References:
        Delta method: Deng, Knoblich and Lu (2018), arXiv 1803.06336.

    Examples:
        >>> x = np.arange(40.0)
        >>> rows = np.stack([x + np.tile([0.0, 1.0], 20), x], axis=-1)
        >>> lift = adjusted_lift(unit_sums(rows + [2.0, 0.0]), unit_sums(rows))
        >>> round(float(lift.value), 6), round(float(lift.variance) ** 0.5, 6)
        (0.1, 0.011004)
    """
    found = adjusted(canary, control, min_units=min_units)
    absolute = harm(found.canary, found.control, harm_sign=1)
    arm, theta = _linear(control), found.theta
    near = np.abs(arm.post) < NEAR_ZERO_SE * np.sqrt(arm.spread_post / arm.n)
    base = np.where(near, np.nan, arm.post)
    value = absolute.value / base
    m = 1.0 + value
    unit = m**2 * arm.spread_post - 2.0 * m * theta * arm.cross + theta**2 * arm.spread_pre
    known = np.isfinite(found.control.variance)
    variance = np.where(known, (found.canary.variance + unit / arm.n) / base**2, np.nan)
    df = np.where(np.isfinite(variance), absolute.df, np.nan)
    t = value / np.sqrt(variance)
    return Difference(value=value, variance=variance, df=df, t=t, z=t_to_z(t, df))


def ratio_of_means(mean: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A mean or a ratio of means, shape (...), and its gradient in the means, (..., 1 or 2)."""
    if mean.shape[-1] == 1:
        return mean[..., 0], np.ones_like(mean)
    below = np.where(mean[..., 1] > 0, mean[..., 1], np.nan)
    value = mean[..., 0] / below
    return value, np.stack([1.0 / below, -value / below], axis=-1)


def row_estimate(
    value: FloatArray, unit_variance: FloatArray, n: FloatArray, min_units: int
) -> RatioEstimate:
    """The estimate from one unit's variance; a variance not above 0, or of few units, is nan."""
    trusted = (n >= max(min_units, 2)) & (unit_variance > 0)
    return RatioEstimate(
        value=value,
        variance=np.where(trusted, unit_variance / np.where(n > 0, n, np.nan), np.nan),
        clusters=n.astype(np.int64),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Linear:
    """An arm as two numbers a unit, its linearised outcome and covariate; all shapes (...)."""

    n: FloatArray
    post: FloatArray
    pre: FloatArray
    spread_post: FloatArray
    spread_pre: FloatArray
    cross: FloatArray


def _linear(arm: UnitSums) -> _Linear:
    mean, covariance = arm.mean, arm.covariance
    half = mean.shape[-1] // 2
    post, slope_post = ratio_of_means(mean[..., :half])
    pre, slope_pre = ratio_of_means(mean[..., half:])
    blocks = {
        "spread_post": (slope_post, covariance[..., :half, :half], slope_post),
        "spread_pre": (slope_pre, covariance[..., half:, half:], slope_pre),
        "cross": (slope_post, covariance[..., :half, half:], slope_pre),
    }
    spread = {
        name: np.einsum("...p,...pq,...q->...", left, block, right)
        for name, (left, block, right) in blocks.items()
    }
    return _Linear(n=arm.n, post=post, pre=pre, **spread)


def _left(arm: _Linear, theta: FloatArray) -> FloatArray:
    """Variance of one adjusted unit; nan without spread: no covariate makes that certain."""
    unit = arm.spread_post - 2.0 * theta * arm.cross + theta**2 * arm.spread_pre
    return np.where(arm.spread_post > 0, unit, np.nan)


def _quotient(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """The quotient, 0 where the denominator is not positive or unknown: nothing to adjust by."""
    usable = (denominator > 0) & np.isfinite(numerator)
    return np.where(usable, numerator / np.where(usable, denominator, 1.0), 0.0)
