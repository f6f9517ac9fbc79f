"""Confidence sequences: intervals that cover at every look at once.

The law they keep: with chance at least ``1 - alpha`` the true value lies inside the interval at
every window together, however often and whenever one looks. They need no planned end.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# The bet may not exceed this, so that psi(lambda) stays finite (eq. 15 of the source uses 1/2).
LARGEST_BET: Final = 0.5
# Units of both arms at which the asymptotic sequence is tightest: early for roll-backs, a quarter
# of a rollout of 20,000 for promotions. Fixed ahead of the data, as the sequence requires; one
# place, because a plan that is tuned otherwise than its judge promises a wrong time.
TIGHTEST_ROLLBACK: Final = 2_000.0
TIGHTEST_PROMOTE: Final = 5_000.0
# Halvings of [0, 1]: beyond the spacing of doubles near any limit that counts can produce.
HALVINGS: Final = 64


def asymptotic_rho2(
    alpha: npt.ArrayLike, tightest_at: npt.ArrayLike, *, two_sided: bool
) -> FloatArray:
    """The tuning constant that makes the asymptotic sequence tightest at a given sample size.

    Args:
        alpha: error over all looks together, in (0, 1); below 1/2 if one-sided.
        tightest_at: units of both arms together at which it should be tightest, > 0.
        two_sided: whether both directions share alpha.

    Returns:
        rho squared per unit, the broadcast shape.

    Raises:
        ValueError: alpha or tightest_at is outside its range.

    References:
        Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas. Time-uniform central limit theory and
        asymptotic confidence sequences. arXiv 2103.06476.

    Examples:
        >>> round(float(asymptotic_rho2(0.05, 5000, two_sided=False)), 9)
        0.001265772
    """
    error = np.asarray(alpha, dtype=np.float64) * (1.0 if two_sided else 2.0)
    planned = np.asarray(tightest_at, dtype=np.float64)
    if not (np.all((error > 0) & (error < 1)) and np.all(planned > 0)):
        raise ValueError(
            "alpha lies in (0, 1), in (0, 1/2) if one-sided, and tightest_at is positive"
        )
    log_error = -2.0 * np.log(error)
    return np.asarray((log_error + np.log1p(log_error)) / planned)


def half_width_multiplier(
    units: npt.ArrayLike, *, alpha: npt.ArrayLike, tightest_at: npt.ArrayLike, two_sided: bool
) -> FloatArray:
    """Standard errors from the estimate to the limit of the asymptotic confidence sequence.

    The half-width is this times the estimate's standard error; a cluster-robust standard error
    makes it valid for clustered units. Asymptotic: it needs at least 100 units and 20 clusters an
    arm.

    Args:
        units: units of both arms together so far, > 0; nan where there are none.
        alpha: error over all looks together.
        tightest_at: units of both arms together at which it should be tightest.
        two_sided: whether both directions share alpha.

    Returns:
        Multiplier, dimensionless, the broadcast shape; nan where units is not positive.

    References:
        Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas. arXiv 2103.06476 (two-sided boundary and
        its one-sided companion).

    Examples:
        >>> at = [500, 5000, 21600]
        >>> multiplier = half_width_multiplier(at, alpha=0.05, tightest_at=5000, two_sided=False)
        >>> [round(float(value), 4) for value in multiplier]
        [3.6791, 2.7791, 2.8773]
    """
    size = np.asarray(units, dtype=np.float64)
    error = np.asarray(alpha, dtype=np.float64)
    q = np.where(size > 0, size, np.nan) * asymptotic_rho2(error, tightest_at, two_sided=two_sided)
    root = np.sqrt(q + 1.0)
    bound = np.log(root / error) if two_sided else np.log1p(root / (2.0 * error))
    return np.asarray(np.sqrt(2.0 * (q + 1.0) / q * bound))


def bounded_mean_sequence(
    n: npt.ArrayLike, total: npt.ArrayLike, total_squares: npt.ArrayLike, *, alpha: float
) -> tuple[FloatArray, FloatArray]:
    """Limits for the mean of scores in [0, 1] after each window, valid at any sample size.

    Everything the bet depends on is fixed when a window starts, so window sums are all it needs.

    Args:
        n: units in each window, shape (..., W), W in time order; zero for an empty window.
        total: sum of the units' scores (one score in [0, 1] a unit), same shape.
        total_squares: sum of their squares, same shape.
        alpha: error over all windows together, both directions, in (0, 1).

    Returns:
        Lower and upper limits after each window, shape (..., W); 0 and 1 before the first unit.

    Raises:
        ValueError: alpha is outside (0, 1), or the sums cannot come from scores in [0, 1].

    References:
        Waudby-Smith and Ramdas (2024). Estimating means of bounded random variables by betting.
        arXiv 2010.09686, Theorem 2 (predictable plug-in empirical Bernstein).

    Examples:
        >>> lower, upper = bounded_mean_sequence([50, 50], [35, 35], [32.5, 32.5], alpha=0.05)
        >>> [round(float(limit), 5) for limit in lower], [round(float(limit), 5) for limit in upper]
        ([0.45658, 0.55124], [0.94342, 0.84876])
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha lies in (0, 1), got {alpha}")
    size, score, square = np.broadcast_arrays(
        np.asarray(n, dtype=np.float64),
        np.asarray(total, dtype=np.float64),
        np.asarray(total_squares, dtype=np.float64),
    )
    # Scores in [0, 1] have 0 <= sum of squares <= sum <= n; the slack is for rounding.
    slack = 1e-9 * (1.0 + size)
    if not np.all((square >= -slack) & (square <= score + slack) & (score <= size + slack)):
        raise ValueError("total_squares <= total <= n is broken: scores must lie in [0, 1]")
    past_n, past_score, past_square = (_before(sums) for sums in (size, score, square))
    mean = (0.5 + past_score) / (past_n + 1.0)
    spread = past_square - 2.0 * mean * past_score + past_n * mean**2
    variance = (0.25 + np.maximum(spread, 0.0)) / (past_n + 1.0)
    horizon = past_n + size
    log_two = np.log(2.0 / alpha)
    denominator = variance * horizon * np.log1p(horizon)
    bet = np.full_like(denominator, LARGEST_BET)
    np.divide(2.0 * log_two, denominator, out=bet, where=denominator > 0)
    bet = np.minimum(LARGEST_BET, np.sqrt(bet))
    weight = np.cumsum(bet * size, axis=-1)
    weighted = np.cumsum(bet * score, axis=-1)
    deviation = np.maximum(square - 2.0 * mean * score + size * mean**2, 0.0)
    # 4 * psi(lambda), psi(lambda) = (-log(1 - lambda) - lambda) / 4.
    cost = np.cumsum((-np.log1p(-bet) - bet) * deviation, axis=-1)
    known = weight > 0
    centre = np.divide(weighted, weight, out=np.full_like(weight, 0.5), where=known)
    half = np.divide(log_two + cost, weight, out=np.full_like(weight, np.inf), where=known)
    return np.clip(centre - half, 0.0, 1.0), np.clip(centre + half, 0.0, 1.0)


def bernoulli_interval(
    k: npt.ArrayLike, n: npt.ArrayLike, *, alpha: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Limits for one arm's chance of failure, from its counts, valid at every look together.

    Args:
        k: failures so far, any shape, 0 <= k <= n.
        n: units so far; with none the limits are 0 and 1.
        alpha: error over all looks together, both directions, in (0, 1).

    Returns:
        Lower and upper limits, the broadcast shape, in [0, 1]. Rounding widens them, never narrows.

    Raises:
        ValueError: a count or alpha is outside its range.

    References:
        Mixture of Bernoulli likelihood ratios over a Beta(1/2, 1/2) prior, inverted; Waudby-Smith
        and Ramdas (2024), arXiv 2010.09686; Robbins (1970) for the mixture method.

    Examples:
        >>> lower, upper = bernoulli_interval([0, 950], [50, 1000], alpha=0.05)
        >>> [round(float(limit), 5) for limit in lower], [round(float(limit), 5) for limit in upper]
        ([0.0, 0.92076], [0.10464, 0.97128])
    """
    return bernoulli_lower(k, n, alpha=alpha), bernoulli_upper(k, n, alpha=alpha)


def bernoulli_lower(k: npt.ArrayLike, n: npt.ArrayLike, *, alpha: npt.ArrayLike) -> FloatArray:
    """The lower limit of :func:`bernoulli_interval` alone."""
    rate, failures, units, error = _counted(k, n, alpha)
    return _last_rejected(np.zeros_like(rate), rate, failures, units, error)


def bernoulli_upper(k: npt.ArrayLike, n: npt.ArrayLike, *, alpha: npt.ArrayLike) -> FloatArray:
    """The upper limit of :func:`bernoulli_interval` alone."""
    rate, failures, units, error = _counted(k, n, alpha)
    return _last_rejected(np.ones_like(rate), rate, failures, units, error)


def bernoulli_exceeds(
    k: npt.ArrayLike, n: npt.ArrayLike, chance: npt.ArrayLike, *, alpha: npt.ArrayLike
) -> BoolArray:
    """Whether the lower limit of :func:`bernoulli_interval` lies above a chance.

    One evaluation instead of an inversion. Arguments as there; chance lies in [0, 1].

    Examples:
        >>> lower, _ = bernoulli_interval(950, 1000, alpha=0.05)
        >>> bernoulli_exceeds(950, 1000, [float(lower) - 1e-9, float(lower) + 1e-9], alpha=0.05)
        array([ True, False])
    """
    rate, failures, units, error = _counted(k, n, alpha)
    claimed = np.asarray(chance, dtype=np.float64)
    mixture = _mixture(failures, units)
    return np.asarray((rate > claimed) & ~_accepted(claimed, failures, units, mixture, error))


def _counted(
    k: npt.ArrayLike, n: npt.ArrayLike, alpha: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Rate, failures, units and error, broadcast and checked; 1/2 is the rate of no units."""
    failures, units, error = np.broadcast_arrays(
        np.asarray(k, dtype=np.float64),
        np.asarray(n, dtype=np.float64),
        np.asarray(alpha, dtype=np.float64),
    )
    if not np.all((failures >= 0) & (failures <= units) & (error > 0) & (error < 1)):
        raise ValueError("0 <= k <= n and alpha in (0, 1) are required")
    rate = np.divide(failures, units, out=np.full(failures.shape, 0.5), where=units > 0)
    return rate, failures, units, error


def _before(sums: FloatArray) -> FloatArray:
    """Running sums over the last axis that exclude the current entry."""
    return np.asarray(np.cumsum(sums, axis=-1) - sums)


def _last_rejected(
    outside: FloatArray, inside: FloatArray, k: FloatArray, n: FloatArray, alpha: FloatArray
) -> FloatArray:
    """The rejected chance nearest to the accepted set; the edge itself where it is accepted."""
    mixture = _mixture(k, n)
    edge_accepted = _accepted(outside, k, n, mixture, alpha)
    rejected, accepted = outside.copy(), inside.copy()
    for _ in range(HALVINGS):
        middle = 0.5 * (rejected + accepted)
        inner = _accepted(middle, k, n, mixture, alpha)
        accepted = np.where(inner, middle, accepted)
        rejected = np.where(inner, rejected, middle)
    return np.where(edge_accepted, outside, rejected)


def _mixture(k: FloatArray, n: FloatArray) -> FloatArray:
    """Log likelihood of the counts' order, mixed over the prior of the chance."""
    return np.asarray(special.betaln(0.5 + k, 0.5 + n - k) - special.betaln(0.5, 0.5))


def _accepted(
    p: FloatArray, k: FloatArray, n: FloatArray, mixture: FloatArray, alpha: FloatArray
) -> BoolArray:
    log_evalue = mixture - special.xlogy(k, p) - special.xlog1py(n - k, -p)
    return np.asarray(log_evalue < -np.log(alpha))
