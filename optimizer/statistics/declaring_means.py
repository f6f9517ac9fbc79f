"""When one arm of several may be called the best by scores that are not just yes or no.

Each ordered pair of arms is compared hour by hour, and the hours are put together with weights that
depend on sizes alone: shares of traffic that move with the evidence, and a drift that all arms
share, then cancel. Variances are those of whole units (hash buckets), because the requests of a
unit resemble each other. The laws kept here: an arm is declared only if the lower limit of its lead
over every other arm is above zero at every look together; scaling all scores changes nothing; a
variance that cannot be trusted declares nobody. It is asymptotic, hence the floors.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from optimizer.statistics.anytime import half_width_multiplier
from optimizer.statistics.clusters import (
    MIN_CLUSTERS,
    RatioEstimate,
    effective_clusters,
    equally_clustered,
    welch,
)
from optimizer.statistics.declaring import DELTA, NONE

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

MIN_SCORED: Final = 100
"""Scored requests of every arm before any may be declared and before the split may be uneven."""
TIGHTEST: Final = 1_000.0
"""Requests of both arms at which the sequence is tightest: most experiments end between a few
hundred and a few thousand of them."""
LARGEST_ALPHA: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Leads:
    """What each arm's scores say, and by how much each leads each other.

    rows: scored requests of each arm, shape (K,); clusters: what its units are worth, (K,); mean:
    of its scores, (K,); posterior_variance: of that mean, smoothed and clustered, (K,); lead: of
    the row's arm over the column's, from hours both served, shape (K, K); lower, upper: its limits
    at every look together, each side at its own error, nan where unknown.
    """

    rows: FloatArray
    clusters: IntArray
    mean: FloatArray
    posterior_variance: FloatArray
    lead: FloatArray
    lower: FloatArray
    upper: FloatArray


def leads(
    scores: npt.ArrayLike,
    counts: npt.ArrayLike,
    squares: npt.ArrayLike,
    *,
    rivals: int,
    delta: float = DELTA,
) -> Leads:
    """By how much each arm leads each other one after W hours.

    ``D_ij = sum_w h_w (mean_iw - mean_jw) / H`` with ``h_w = n_iw n_jw / (n_iw + n_jw)`` and H
    their sum. With ``c_w = h_w / (H n_iw)`` and ``m`` the h-weighted mean of arm i, its part of the
    variance is ``G / (G - 1) sum_b (sum_w c_w (y_iwb - m n_iwb)) ** 2``, at least that of
    independent rows with smoothed spread, at the larger design effect of both arms.

    Args:
        scores: sum of scores of each hour, arm and hash bucket, shape (W, K, B).
        counts: scored requests of the same, same shape.
        squares: sum of squared scores of each hour and arm, shape (W, K).
        rivals: wrong pairs that share delta.
        delta: chance ever to declare an arm that is worse than another, in (0, 1).

    References:
        Mantel and Haenszel (1959) for the weights; Deng, Knoblich and Lu (2018), arXiv 1803.06336,
        for the variance over units; Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, arXiv
        2103.06476, for the limits.

    Examples:
        >>> x = np.full((1, 2, 64), 10.0)
        >>> y = x * np.array([0.8, 0.5])[:, None] + np.tile([1.0, -1.0], 32)
        >>> found = leads(y, x, (y**2 / x).sum(axis=-1) + 20.0, rivals=1)
        >>> round(float(found.lead[0, 1]), 3), bool(found.lower[0, 1] > 0)
        (0.3, True)
    """
    y, x = np.asarray(scores, dtype=np.float64), np.asarray(counts, dtype=np.float64)
    rows, total = x.sum(axis=(0, 2)), y.sum(axis=(0, 2))
    clusters = effective_clusters(x.sum(axis=0))
    mean = _divide(total, rows)
    spread = _spread(rows, total, np.asarray(squares, dtype=np.float64).sum(axis=0))
    size = rows.size
    lead, lower, upper = (np.full((size, size), np.nan) for _ in range(3))
    alpha = min(delta / rivals, LARGEST_ALPHA)
    for i in range(size):
        for j in range(size):
            if i == j:
                continue
            lead[i, j], half = _pair((y[:, i], y[:, j]), (x[:, i], x[:, j]), spread[[i, j]], alpha)
            lower[i, j], upper[i, j] = lead[i, j] - half, lead[i, j] + half
    known = (rows >= MIN_SCORED) & (clusters >= MIN_CLUSTERS)
    both = known[:, None] & known[None, :]
    lower, upper = np.where(both, lower, np.nan), np.where(both, upper, np.nan)
    own = _own_variance(y.sum(axis=0), x.sum(axis=0), spread)
    return Leads(
        rows=rows,
        clusters=clusters,
        mean=mean,
        posterior_variance=np.where(known, own, np.nan),
        lead=lead,
        lower=lower,
        upper=upper,
    )


def declared_mean(found: Leads) -> int:
    """The arm whose lead over each other one is proven; -1 where there is none.

    Examples:
        >>> x = np.full((1, 2, 64), 10.0)
        >>> y = x * np.array([0.8, 0.5])[:, None] + np.tile([1.0, -1.0], 32)
        >>> declared_mean(leads(y, x, (y**2 / x).sum(axis=-1) + 20.0, rivals=1))
        0
    """
    lower = found.lower.copy()
    np.fill_diagonal(lower, np.inf)
    with np.errstate(invalid="ignore"):
        proven = np.all(lower > 0, axis=1)
    return int(proven.argmax()) if proven.any() else NONE


def _pair(
    y: tuple[FloatArray, FloatArray],
    x: tuple[FloatArray, FloatArray],
    spread: FloatArray,
    alpha: float,
) -> tuple[float, float]:
    """Lead of the first arm over the second, and the half-width of its limits."""
    n = [each.sum(axis=-1) for each in x]
    weight = _divide(n[0] * n[1], n[0] + n[1])
    weight = np.nan_to_num(weight)
    whole = float(weight.sum())
    if whole <= 0:
        return np.nan, np.nan
    arms, independent = [], []
    for scored, counted, size, deviation in zip(y, x, n, spread, strict=True):
        c = np.where(weight > 0, weight / whole / np.where(size > 0, size, 1.0), 0.0)
        mean = float((c * scored.sum(axis=-1)).sum())
        parts = (c[:, None] * (scored - mean * counted)).sum(axis=0)
        g = np.count_nonzero(counted.sum(axis=0) > 0)
        rows = float((deviation * c**2 * size).sum())
        clustered = float((parts**2).sum()) * g / max(g - 1.0, 1.0)
        independent.append(np.asarray(rows))
        arms.append(
            RatioEstimate(
                value=np.asarray(mean),
                variance=np.asarray(max(clustered, rows)),
                clusters=effective_clusters(counted.sum(axis=0)),
            )
        )
    lead = float(arms[0].value - arms[1].value)
    if not all(float(each) > 0 for each in independent):
        return lead, np.nan
    first, second = equally_clustered((arms[0], arms[1]), (independent[0], independent[1]))
    variance, df = welch(first, second)
    multiplier = half_width_multiplier(
        n[0].sum() + n[1].sum(), alpha=alpha, tightest_at=TIGHTEST, two_sided=False
    )
    # With few clusters the limit lies where t, not the normal deviate, has the same tail.
    deviate = stats.t.isf(special.ndtr(-multiplier), df)
    return lead, float(deviate * np.sqrt(variance))


def _spread(rows: FloatArray, total: FloatArray, squares: FloatArray) -> FloatArray:
    """Variance of one score of each arm, smoothed by that of all arms: never 0 while they differ.

    ``s2 = (2 s0 ** 2 + SS) / (n + 1)`` with s0 the spread of all arms' scores together.
    """
    n = float(rows.sum())
    pooled = max(float(squares.sum()) / n - (float(total.sum()) / n) ** 2, 0.0) if n > 0 else np.nan
    within = np.maximum(squares - np.nan_to_num(_divide(total**2, rows)), 0.0)
    return np.asarray((2.0 * pooled + within) / (rows + 1.0))


def _own_variance(y: FloatArray, x: FloatArray, spread: FloatArray) -> FloatArray:
    """Variance of each arm's own mean, clustered, at least that of independent rows, (K,)."""
    rows = x.sum(axis=-1)
    mean = _divide(y.sum(axis=-1), rows)
    parts = np.nan_to_num(y - mean[:, None] * x)
    clustered = _divide((parts**2).sum(axis=-1), rows**2)
    return np.asarray(np.fmax(clustered, _divide(spread, rows)))


def _divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """The quotient, nan where the denominator is not positive."""
    return np.asarray(numerator / np.where(denominator > 0, denominator, np.nan))
