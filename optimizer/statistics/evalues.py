"""Log e-values for counts: evidence that may be looked at after every window, forever.

Given a window's sizes and its total failures, the canary's failures are hypergeometric when canary
and control fail alike, whatever the common failure rate does; each function here prices that claim.
The law they keep: while the claim is true, the expected e-value is at most 1, so the chance that it
ever reaches ``1 / alpha`` is at most alpha, under any schedule of looks.

Counts must come from randomly assigned units in disjoint, closed windows. Sizes must not depend on
outcomes; a late row belongs to the window in which it arrives.

References:
    Ramdas, Gruenwald, Vovk and Shafer (2023). Game-theoretic statistics and safe anytime-valid
    inference. arXiv 2210.01948.
"""

from enum import Enum
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

FloatArray = npt.NDArray[np.float64]

GRID_SIZE: Final = 16
GRID_FIRST: Final = 1.1
GRID_LAST: Final = 8.0
# The prior's weight in pseudo-failures; the reference values are made with it.
PRIOR_FAILURES: Final = 16.0
SRM_CONCENTRATION: Final = 1000.0
# Keeps the logarithm finite; the e-value is far below 1 where it acts.
SMALLEST_TAIL: Final = 1e-300
# Terms of the hypergeometric sums held in memory at once, about 256 kB an array.
TERMS_AT_ONCE: Final = 32_768
# Powers of psi up to this logarithm, and their inverses, stay well within the range of doubles.
LARGEST_LOG: Final = 600.0


class Side(Enum):
    """The side of control's failure rate on which the canary is suspected to lie."""

    HIGHER = "higher"
    LOWER = "lower"
    EITHER = "either"


def closed_form_log_evalue(
    k_e: npt.ArrayLike,
    k_c: npt.ArrayLike,
    theta0: npt.ArrayLike = 0.5,
    *,
    side: Side = Side.HIGHER,
) -> FloatArray:
    """Log e-value of all failures so far, where the canary's share of requests never changed.

    Args:
        k_e: failures of the canary, any shape.
        k_c: failures of control, broadcast with k_e.
        theta0: the canary's share ``n_e / (n_e + n_c)``, strictly between 0 and 1.
        side: the suspected side; ``EITHER`` is the even mixture of the two.

    Returns:
        Log e-value, the broadcast shape of the arguments.

    Raises:
        ValueError: a count is negative or not whole, or theta0 is outside (0, 1).

    References:
        Beta prior with a = 16 theta0, b = 16 (1 - theta0), truncated to theta > theta0; counts in
        practice: Lindon and Malek (2022). arXiv 2011.03567.

    Examples:
        >>> round(float(closed_form_log_evalue(10, 2)), 6)
        1.546243
        >>> round(float(closed_form_log_evalue(5, 2, 0.1)), 6)
        3.390198
    """
    failures_e, failures_c = _counts("k_e", k_e), _counts("k_c", k_c)
    share = np.asarray(theta0, dtype=np.float64)
    _require(bool(np.all((share > 0) & (share < 1))), "theta0 lies strictly between 0 and 1")
    if side is Side.HIGHER:
        return _truncated_beta(failures_e, failures_c, share)
    if side is Side.LOWER:
        return _truncated_beta(failures_c, failures_e, 1.0 - share)
    higher = _truncated_beta(failures_e, failures_c, share)
    lower = _truncated_beta(failures_c, failures_e, 1.0 - share)
    return np.asarray(np.logaddexp(higher, lower) - np.log(2.0))


def odds_ratios(side: Side) -> FloatArray:
    """The grid of alternative odds ratios canary : control, equal weights, shape (P,).

    P is 16 for one side, log-spaced from 1.1 to 8 (or their reciprocals), and 32 for ``EITHER``.

    Examples:
        >>> [round(float(psi), 3) for psi in odds_ratios(Side.HIGHER)[[0, -1]]]
        [1.1, 8.0]
        >>> odds_ratios(Side.EITHER).shape
        (32,)
    """
    higher = np.geomspace(GRID_FIRST, GRID_LAST, GRID_SIZE)
    if side is Side.HIGHER:
        return higher
    if side is Side.LOWER:
        return 1.0 / higher
    return np.concatenate([higher, 1.0 / higher])


def binomial_increments(
    k_e: npt.ArrayLike,
    n_e: npt.ArrayLike,
    k_c: npt.ArrayLike,
    n_c: npt.ArrayLike,
    *,
    side: Side = Side.HIGHER,
) -> FloatArray:
    """Each window's addition to the log likelihood ratios of the grid, binomial form.

    Cheap, and conservative at any rate: the hypergeometric mean of ``psi ** J`` never exceeds the
    binomial one (Hoeffding 1963). It is close to the exact form for rare failures. For first
    failures of sessions, the sizes are the sessions at risk (ter Schure, Perez-Ortiz, Ly and
    Gruenwald 2020, Safe logrank, arXiv 2011.06931).

    Args:
        k_e: failures of the canary in each window, any shape, usually (..., W).
        n_e: requests (or sessions at risk) of the canary, same shape.
        k_c: failures of control.
        n_c: requests (or sessions at risk) of control.
        side: the suspected side.

    Returns:
        Increments, shape (..., W, P); zero for an empty window. Sums over windows are the whole
        state.

    Raises:
        ValueError: a count is negative or not whole, or failures exceed their size.

    Examples:
        >>> state = binomial_increments(8, 1000, 0, 1000)
        >>> round(float(log_evalue(state)), 4)
        3.5663
    """
    failures_e, size_e, failures_c, size_c = _windows(k_e, n_e, k_c, n_c)
    size = size_e + size_c
    share = np.divide(size_e, size, out=np.zeros_like(size), where=size > 0)
    psi = odds_ratios(side)
    price = np.log1p(share[..., None] * (psi - 1.0))
    return np.asarray(
        failures_e[..., None] * np.log(psi) - (failures_e + failures_c)[..., None] * price
    )


def exact_increments(
    k_e: npt.ArrayLike,
    n_e: npt.ArrayLike,
    k_c: npt.ArrayLike,
    n_c: npt.ArrayLike,
    *,
    side: Side = Side.HIGHER,
) -> FloatArray:
    """Each window's addition to the log likelihood ratios of the grid, exact at any failure rate.

    The price of ``psi`` is ``log E[psi ** J]`` with J hypergeometric given the window's sizes and
    its total failures, so the e-value of one window has mean exactly 1 when both arms fail alike.

    Args:
        k_e: failures (or successes) of the canary in each window, any shape, usually (..., W).
        n_e: requests of the canary, same shape.
        k_c: failures (or successes) of control.
        n_c: requests of control.
        side: the suspected side.

    Returns:
        Increments, shape (..., W, P); zero for an empty window. Sums over windows are the whole
        state.

    Raises:
        ValueError: a count is negative or not whole, or failures exceed their size.

    References:
        Turner, Ly and Gruenwald (2021). Generic e-variables for exact sequential k-sample tests
        that allow for optional stopping. arXiv 2106.02693.

    Examples:
        >>> round(float(log_evalue(exact_increments(18, 20, 12, 20))), 6)
        2.030613
    """
    failures_e, size_e, failures_c, size_c = _windows(k_e, n_e, k_c, n_c)
    log_psi = np.log(odds_ratios(side))
    cases = np.stack([failures_e + failures_c, size_e, size_c], axis=-1).reshape(-1, 3)
    price = _log_mean_power(cases, log_psi)
    return np.asarray(
        failures_e[..., None] * log_psi - price.reshape(*failures_e.shape, log_psi.size)
    )


def log_evalue(state: npt.ArrayLike) -> FloatArray:
    """Log e-value of summed increments: the log mean over the grid, shape (...) from (..., P).

    Examples:
        >>> float(log_evalue(np.zeros(16)))
        0.0
    """
    summed = np.asarray(state, dtype=np.float64)
    mixed: FloatArray = np.asarray(special.logsumexp(summed, axis=-1))
    return np.asarray(mixed - np.log(summed.shape[-1]))


def log_evalue_path(increments: npt.ArrayLike) -> FloatArray:
    """Log e-value after each window, shape (..., W) from increments of shape (..., W, P).

    The last entry equals ``log_evalue(increments.sum(axis=-2))``. The chance that any entry, now or
    later, reaches ``log(1 / alpha)`` without harm is at most alpha (Ville's inequality). A running
    maximum must not be handed on to a procedure for multiple testing.

    Examples:
        >>> increments = exact_increments([3, 5], [100, 100], [1, 0], [100, 100])
        >>> [round(float(value), 3) for value in log_evalue_path(increments)]
        [0.4, 2.545]
    """
    return log_evalue(np.cumsum(np.asarray(increments, dtype=np.float64), axis=-2))


def beta_binomial_log_evalue(
    k: npt.ArrayLike, n: npt.ArrayLike, p: npt.ArrayLike, *, concentration: float
) -> FloatArray:
    """Log e-value against "each of n units is a success with chance p", after k successes.

    A Beta(c p, c (1 - p)) mixture over the chance, c the concentration; convex in k.

    Args:
        k: successes, any shape.
        n: units, broadcast with k.
        p: the claimed chance, strictly between 0 and 1.
        concentration: c, in units; larger suspects smaller deviations.

    Returns:
        Log e-value, the broadcast shape.

    References:
        Howard and Ramdas (2022). Sequential estimation of quantiles with applications to A/B
        testing and best-arm identification. arXiv 1906.09712, beta-binomial mixture.

    Examples:
        >>> round(float(beta_binomial_log_evalue(5200, 10000, 0.5, concentration=1000.0)), 4)
        6.0758
    """
    successes, units, chance = np.broadcast_arrays(
        np.asarray(k, dtype=np.float64),
        np.asarray(n, dtype=np.float64),
        np.asarray(p, dtype=np.float64),
    )
    first, second = concentration * chance, concentration * (1.0 - chance)
    failures = units - successes
    return np.asarray(
        special.betaln(first + successes, second + failures)
        - special.betaln(first, second)
        - successes * np.log(chance)
        - failures * np.log1p(-chance)
    )


def srm_log_evalue(
    units_e: npt.ArrayLike, units_c: npt.ArrayLike, *, control_ratio: npt.ArrayLike = 1.0
) -> FloatArray:
    """Log e-value against "units split between control and canary as planned" (ratio mismatch).

    Args:
        units_e: units first seen in the canary so far, any shape.
        units_c: units first seen in control so far.
        control_ratio: planned control units to one canary unit, > 0.

    Returns:
        Log e-value, the broadcast shape; the customary alarm is at ``log(1000)``.

    Raises:
        ValueError: a count is negative or not whole, or control_ratio is not positive.

    References:
        Lindon and Malek (2022). arXiv 2011.03567. Fabijan et al. (2019). Diagnosing sample ratio
        mismatch in online controlled experiments. KDD.

    Examples:
        >>> round(float(srm_log_evalue(5100, 4900)), 4)
        0.6193
    """
    canary, control = _counts("units_e", units_e), _counts("units_c", units_c)
    ratio = np.asarray(control_ratio, dtype=np.float64)
    _require(bool(np.all((ratio > 0) & np.isfinite(ratio))), "control_ratio is positive")
    return beta_binomial_log_evalue(
        canary, canary + control, 1.0 / (1.0 + ratio), concentration=SRM_CONCENTRATION
    )


def _require(holds: bool, law: str) -> None:  # noqa: FBT001 - an assertion with its own words
    if not holds:
        raise ValueError(f"{law}: the argument breaks this")


def _counts(name: str, values: npt.ArrayLike) -> FloatArray:
    counts = np.asarray(values, dtype=np.float64)
    whole = np.isfinite(counts) & (counts >= 0) & (counts == np.floor(counts))
    _require(bool(np.all(whole)), f"{name} holds whole numbers, zero or more")
    return counts


def _windows(
    k_e: npt.ArrayLike, n_e: npt.ArrayLike, k_c: npt.ArrayLike, n_c: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    failures_e, size_e, failures_c, size_c = np.broadcast_arrays(
        _counts("k_e", k_e), _counts("n_e", n_e), _counts("k_c", k_c), _counts("n_c", n_c)
    )
    _require(bool(np.all(failures_e <= size_e)), "k_e is at most n_e")
    _require(bool(np.all(failures_c <= size_c)), "k_c is at most n_c")
    return failures_e, size_e, failures_c, size_c


def _truncated_beta(k_e: FloatArray, k_c: FloatArray, theta0: FloatArray) -> FloatArray:
    """Log e-value of the closed form for "canary higher", from checked arguments."""
    a, b = PRIOR_FAILURES * theta0, PRIOR_FAILURES * (1.0 - theta0)
    return np.asarray(
        _log_upper_beta(a + k_e, b + k_c, theta0)
        - _log_upper_beta(a, b, theta0)
        - k_e * np.log(theta0)
        - k_c * np.log1p(-theta0)
    )


def _log_upper_beta(u: FloatArray, v: FloatArray, theta0: FloatArray) -> FloatArray:
    """Log of the integral of ``t ** (u - 1) * (1 - t) ** (v - 1)`` over t > theta0."""
    tail = np.maximum(special.betainc(v, u, 1.0 - theta0), SMALLEST_TAIL)
    return np.asarray(special.betaln(u, v) + np.log(tail))


def _log_mean_power(cases: FloatArray, log_psi: FloatArray) -> FloatArray:
    """Log of ``E[psi ** J]`` for hypergeometric J, shape (M, P) from cases (K, n_e, n_c), (M, 3).

    Cases are taken in blocks of similar support, so memory stays bounded however many there are.
    """
    failures, size_e, size_c = cases.T
    length = np.minimum(failures, size_e) - np.maximum(0.0, failures - size_c) + 1.0
    reach = 0.5 * float(np.ptp(np.append(log_psi, 0.0)))
    short = length * reach <= LARGEST_LOG
    price = np.zeros((len(cases), log_psi.size))
    for chosen, method in ((short, _by_polynomial), (~short, _by_logarithms)):
        order = np.flatnonzero(chosen)[np.argsort(-length[chosen], kind="stable")]
        while order.size:
            width = int(length[order[0]])
            rows, order = np.split(order, [max(1, TERMS_AT_ONCE // width)])
            price[rows] = method(cases[rows], log_psi, width)
    return price


def _by_polynomial(cases: FloatArray, log_psi: FloatArray, width: int) -> FloatArray:
    """The same for supports of at most ``width`` values: polynomials in psi, by Horner's scheme.

    Weights are tilted to the middle of the grid, so that what is left of psi is small, and taken
    relative to the largest. A case's price does not depend on the others: their longer supports
    only add leading zeros to its polynomial.
    """
    failures, size_e, size_c = (column[:, None] for column in cases.T)
    lowest = np.maximum(0.0, failures - size_c)
    # The last column is psi = 1, whose sum all others are divided by.
    grid = np.append(log_psi, 0.0)
    middle = 0.5 * (grid.min() + grid.max())
    j = lowest + np.arange(width - 1, dtype=np.float64)
    # The ratio of one weight to the one before; 0 ends the support.
    ratio = np.maximum((failures - j) * (size_e - j), 0.0)
    ratio /= (j + 1.0) * (size_c - failures + j + 1.0)
    with np.errstate(divide="ignore"):
        log_weight = np.cumsum(np.log(ratio) + middle, axis=1)
    log_weight = np.concatenate([np.zeros_like(lowest), log_weight], axis=1)
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    total = np.zeros((grid.size, len(cases)))  # A row a grid point: steps run along the cases.
    factor = np.exp(grid - middle)[:, None]
    for term in np.ascontiguousarray(weight.T)[::-1]:
        total *= factor
        total += term
    log_total = np.log(total).T
    return np.asarray(log_total[:, :-1] - log_total[:, -1:] + lowest * log_psi)


def _by_logarithms(cases: FloatArray, log_psi: FloatArray, width: int) -> FloatArray:
    """The same for supports of any length: a sum of exponentials for each psi."""
    failures, size_e, size_c = (column[:, None] for column in cases.T)
    lowest = np.maximum(0.0, failures - size_c)
    highest = np.minimum(failures, size_e)
    inside = lowest + np.arange(width) <= highest
    j = np.minimum(lowest + np.arange(width), highest)
    # Log probability, up to a constant of the case.
    log_weight = -(
        special.gammaln(j + 1.0)
        + special.gammaln(size_e - j + 1.0)
        + special.gammaln(failures - j + 1.0)
        + special.gammaln(size_c - failures + j + 1.0)
    )
    log_weight[~inside] = -np.inf
    total = special.logsumexp(log_weight, axis=-1)
    sums = [special.logsumexp(log_weight + j * step, axis=-1) for step in log_psi]
    return np.stack(sums, axis=-1) - total[:, None]
