"""Upper limits of log e-values of counts: most cases are far from an alarm and need no exact price.

The law kept here: the limit is never below the log e-value, so that no alarm is missed.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.statistics.evalues import Side, odds_ratios

FloatArray = npt.NDArray[np.float64]

# Both sides are sums of rounded numbers.
ROUNDING: Final = 1e-6


def excess_and_variance(
    k_e: npt.ArrayLike, n_e: npt.ArrayLike, k_c: npt.ArrayLike, n_c: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """The canary's failures beyond those expected, and their variance, given each window's sizes.

    Args:
        k_e: failures of the canary in each window, any shape.
        n_e: requests of the canary, same shape.
        k_c: failures of control.
        n_c: requests of control.

    Returns:
        Mean and variance of the hypergeometric distribution, the first subtracted from k_e, same
        shape. Both add over windows.

    Examples:
        >>> [float(each) for each in excess_and_variance(8, 50, 2, 50)]
        [3.0, 2.272727...]
    """
    failures_e, size_e, failures_c, size_c = (
        np.asarray(each, dtype=np.float64) for each in (k_e, n_e, k_c, n_c)
    )
    failures, size = failures_e + failures_c, np.maximum(size_e + size_c, 1.0)
    share = size_e / size
    rest = (size - failures) / np.maximum(size - 1.0, 1.0)
    return failures_e - failures * share, failures * share * (size_c / size) * rest


def log_evalue_limit(excess: FloatArray, variance: FloatArray, *, side: Side) -> FloatArray:
    """An upper limit of the log e-value of :func:`optimizer.statistics.evalues.exact_increments`.

    Args:
        excess: the canary's failures beyond those expected, summed over windows, any shape.
        variance: their variance, summed alike.
        side: ``HIGHER`` or ``LOWER``.

    Returns:
        The limit, same shape: ``max over psi of t d - v (exp(-t) - 1 + t)``, t the absolute value
        of ``log psi`` and d the excess on the suspected side.

    References:
        A hypergeometric count is a sum of independent Bernoulli counts (Vatutin and Mikhailov 1982,
        Theory of Probability and its Applications 27:734). For one of these with chance p and
        variance v = p (1 - p), the second derivative in t of log E exp(t (J - p)) is
        ``v exp(t) / (1 - p + p exp(t)) ** 2``, at least ``v exp(-t)``, and value and slope are zero
        at t = 0; integrated twice: log E exp(t (J - p)) >= v (exp(-t) - 1 + t). A log mean is at
        most the largest term.

    Examples:
        >>> from optimizer.statistics.evalues import exact_increments, log_evalue
        >>> limit = log_evalue_limit(*excess_and_variance(18, 20, 12, 20), side=Side.HIGHER)
        >>> bool(log_evalue(exact_increments(18, 20, 12, 20)) <= limit)
        True
    """
    t = np.abs(np.log(odds_ratios(side)))
    beyond = excess if side is Side.HIGHER else -excess
    terms = beyond[..., None] * t - variance[..., None] * (np.exp(-t) - 1.0 + t)
    return np.asarray(terms.max(axis=-1) + ROUNDING)
