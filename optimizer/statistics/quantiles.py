"""Quantiles, exceedances and their confidence sequence from log-bucket histograms.

A histogram is a sparse pair: bucket indices of ``optimizer.bucket_edges`` and a count for each.
Histograms merge by adding counts and forget by subtracting them. The laws kept here: any quantile
lies within 1 % of the true value, at any size; and the number of values above an edge is exact, so
limits on ranks carry no histogram error.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.bucket_edges import EDGES, LAST_BUCKET, RATIO, ZERO_BUCKET
from optimizer.statistics.evalues import beta_binomial_log_evalue

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

RANK_CONCENTRATION: Final = 200.0
# Halvings of a rank range: enough for 2 ** 63 values.
HALVINGS: Final = 63

_EDGES: Final[FloatArray] = np.asarray(EDGES)
_EDGES.setflags(write=False)


def bucket_of(values: npt.ArrayLike) -> npt.NDArray[np.int16]:
    """The bucket index of each value, same shape: the smallest k with ``value <= EDGES[k]``.

    Zero and less go to ``ZERO_BUCKET``, values beyond the table to its first or last bucket.

    Raises:
        ValueError: a value is nan or infinite; such rows are counted as missing before this.

    Examples:
        >>> bucket_of([1.0, 1.01, 0.0]).tolist()
        [1048, 1049, -32768]
    """
    x = np.asarray(values, dtype=np.float64)
    if not np.all(np.isfinite(x)):
        raise ValueError("values must be finite: count nan and inf as missing before bucketing")
    index = np.minimum(np.searchsorted(_EDGES, x, side="left"), LAST_BUCKET)
    return np.where(x > 0, index, ZERO_BUCKET).astype(np.int16)


def lower_edge(buckets: npt.ArrayLike) -> FloatArray:
    """The exclusive lower edge of each bucket, same shape: -inf for zero or less, 0 for bucket 0.

    Examples:
        >>> lower_edge([1049, 0, -32768]).tolist()
        [1.0, 0.0, -inf]
    """
    index = _checked(buckets)
    below = np.where(index > 0, _EDGES[np.maximum(index - 1, 0)], 0.0)
    return np.where(index == ZERO_BUCKET, -np.inf, below)


def upper_edge(buckets: npt.ArrayLike) -> FloatArray:
    """The inclusive upper edge of each bucket, same shape: 0 for zero or less, inf for the last.

    Examples:
        >>> upper_edge([1048, 2096, -32768]).tolist()
        [1.0, inf, 0.0]
    """
    index = _checked(buckets)
    above = np.where(index == LAST_BUCKET, np.inf, _EDGES[np.maximum(index, 0)])
    return np.where(index == ZERO_BUCKET, 0.0, above)


def snap_to_edge(threshold: npt.ArrayLike) -> FloatArray:
    """The nearest bucket edge at or above each threshold, same shape, at most 2 % above it.

    Counts above a snapped threshold are exact in every histogram.

    Raises:
        ValueError: a threshold is nan or infinite.

    Examples:
        >>> snap_to_edge([1.01, 0.0]).tolist()
        [1.02, 0.0]
    """
    return upper_edge(bucket_of(threshold))


def exceedance_count(
    buckets: npt.ArrayLike, counts: npt.ArrayLike, edge: npt.ArrayLike
) -> IntArray:
    """The exact number of values above an edge.

    Args:
        buckets: bucket indices, shape (B,) or (..., B), in any order.
        counts: values in each bucket, shape (..., B), zero or more.
        edge: a bucket edge (as ``snap_to_edge`` returns it), shape (...) or broadcast to it.

    Returns:
        Counts, shape (...). Failed and timed-out requests are not in the histogram; add them.

    Raises:
        ValueError: edge is no bucket edge, so that the count would not be exact.

    Examples:
        >>> int(exceedance_count(bucket_of([1.0, 2.0, 3.0]), [4, 5, 6], snap_to_edge(2.0)))
        6
    """
    limit = np.asarray(edge, dtype=np.float64)
    if not np.all(
        np.isposinf(limit) | (limit == snap_to_edge(np.where(np.isinf(limit), 0.0, limit)))
    ):
        raise ValueError("edge must be a bucket edge: pass it through snap_to_edge first")
    index, weight = np.broadcast_arrays(_checked(buckets), _whole(counts))
    # A bucket lies wholly above an edge exactly when its lower edge does.
    above = lower_edge(index) >= limit[..., None]
    return np.asarray(np.where(above, weight, 0).sum(axis=-1))


def quantile(buckets: npt.ArrayLike, counts: npt.ArrayLike, q: npt.ArrayLike) -> FloatArray:
    """The q-quantile of each histogram: the value of rank ``ceil(q n)``, within 1 % of the truth.

    Args:
        buckets: bucket indices, shape (B,) or (..., B), in any order, repeats allowed.
        counts: values in each bucket, shape (..., B), zero or more.
        q: fraction in [0, 1], shape (...) or broadcast to it.

    Returns:
        The geometric middle of the bucket that holds the rank, shape (...); 0 for values of zero or
        less; nan for an empty histogram. The bound of 1 % holds for values from 1e-9 to 1e9.

    Raises:
        ValueError: q is outside [0, 1], a count is negative or a bucket does not exist.

    References:
        Hyndman and Fan (1996). Sample quantiles in statistical packages, definition 1. The middle
        ``edge / sqrt(1.02)`` is at most ``sqrt(1.02) - 1 = 0.995 %`` from any value of the bucket.

    Examples:
        >>> round(float(quantile(bucket_of([10.0, 20.0, 400.0]), [90, 6, 4], 0.95)), 2)
        20.09
    """
    fraction = np.asarray(q, dtype=np.float64)
    if not np.all((fraction >= 0) & (fraction <= 1)):
        raise ValueError("q lies in [0, 1]")
    weight = _whole(counts)
    n = weight.sum(axis=-1)
    # q n is taken as whole when only rounding keeps it from being so: 0.07 * 100 is rank 7, not 8.
    rank = np.clip(np.ceil(fraction * n * (1.0 - 1e-12)), 1, np.maximum(n, 1))
    holder = bucket_at_rank(buckets, weight, rank)
    # The last bucket has no upper edge of its own; its nominal one keeps the answer finite.
    middle = _EDGES[np.maximum(holder, 0)] / np.sqrt(RATIO)
    return np.where(n > 0, np.where(holder == ZERO_BUCKET, 0.0, middle), np.nan)


def bucket_at_rank(
    buckets: npt.ArrayLike, counts: npt.ArrayLike, rank: npt.ArrayLike
) -> npt.NDArray[np.int16]:
    """The bucket that holds the value of a rank, counted from 1 in ascending order.

    Args:
        buckets: bucket indices, shape (B,) or (..., B), in any order, repeats allowed.
        counts: values in each bucket, shape (..., B).
        rank: rank in 1..n, shape (...) or broadcast to it.

    Returns:
        Bucket indices, shape (...). A rank over n yields the highest bucket given (``ZERO_BUCKET``
        if none is), so callers keep ranks within 1..n.

    Raises:
        ValueError: a count is negative or a bucket does not exist.

    Examples:
        >>> int(bucket_at_rank(bucket_of([3.0, 1.0]), [5, 5], 5)) == int(bucket_of(1.0))
        True
    """
    index, weight = _checked(buckets), _whole(counts)
    if index.shape[-1] == 0:
        shape = np.broadcast_shapes(index.shape[:-1], weight.shape[:-1], np.shape(rank))
        return np.full(shape, ZERO_BUCKET, dtype=np.int16)
    order = np.argsort(index, axis=-1, kind="stable")
    if index.ndim == 1:
        index, weight = index[order], weight[..., order]
    else:
        index, weight, order = np.broadcast_arrays(index, weight, order)
        index = np.take_along_axis(index, order, axis=-1)
        weight = np.take_along_axis(weight, order, axis=-1)
    short = np.cumsum(weight, axis=-1) < np.asarray(rank, dtype=np.float64)[..., None]
    position = np.minimum(short.sum(axis=-1), index.shape[-1] - 1)
    if index.ndim == 1:
        return np.asarray(index[position], dtype=np.int16)
    index = np.broadcast_to(index, (*position.shape, index.shape[-1]))
    return np.take_along_axis(index, position[..., None], axis=-1)[..., 0].astype(np.int16)


def rank_bounds(
    n: npt.ArrayLike, *, p: float, alpha: npt.ArrayLike, concentration: float = RANK_CONCENTRATION
) -> tuple[IntArray, IntArray]:
    """First and last accepted rank of the p-quantile among n values, valid at every n together.

    Args:
        n: values so far, whole, zero or more, any shape.
        p: the quantile's fraction, strictly between 0 and 1.
        alpha: error over all looks together, in (0, 1/2].
        concentration: weight of the mixture in values; it is tightest near this n.

    Returns:
        k_lo and k_hi, shape of n: the number of values at or below the quantile lies in k_lo..k_hi.

    Raises:
        ValueError: an argument is outside its range.

    References:
        Howard and Ramdas (2022). Sequential estimation of quantiles with applications to A/B
        testing and best-arm identification. arXiv 1906.09712 (beta-binomial version).

    Examples:
        >>> lowest, highest = rank_bounds([100, 1000], p=0.95, alpha=0.05)
        >>> lowest.tolist(), highest.tolist()
        ([85, 928], [100, 969])
    """
    error = np.asarray(alpha, dtype=np.float64)
    size, error = np.broadcast_arrays(_whole(n), error)
    if not (0.0 < p < 1.0 and np.all((error > 0) & (error <= 0.5))):  # noqa: PLR2004 - a half
        raise ValueError("p lies in (0, 1) and alpha in (0, 1/2]")
    limit = -np.log(error)

    def accepted(k: IntArray) -> npt.NDArray[np.bool_]:
        e = beta_binomial_log_evalue(k, size, p, concentration=concentration)
        return np.asarray(e < limit)

    # The log e-value is convex in k and below log 2 at n p, so each side is one search.
    start = np.clip(np.rint(p * size), 0, size).astype(np.int64)
    return _outermost(accepted, start, np.zeros_like(start)), _outermost(accepted, start, size)


def quantile_sequence(
    buckets: npt.ArrayLike, counts: npt.ArrayLike, *, p: float, alpha: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Limits of the p-quantile from a cumulative histogram, valid at every look together.

    Args:
        buckets: bucket indices, shape (B,) or (..., B), in any order.
        counts: values in each bucket since the start, shape (..., B).
        p: the quantile's fraction, strictly between 0 and 1.
        alpha: error over all looks together, in (0, 1/2]; two arms take half of it each.

    Returns:
        Lower and upper limits, shape (...), in the values' unit. The lower one is -inf where even
        the smallest value may lie above the quantile, the upper one inf where the largest may lie
        below.

    Raises:
        ValueError: an argument is outside its range.

    References:
        Howard and Ramdas (2022). arXiv 1906.09712; ranks are exact at bucket edges.

    Examples:
        >>> lower, upper = quantile_sequence(bucket_of([10.0, 99.0]), [980, 20], p=0.95, alpha=0.05)
        >>> float(lower) < 10.0 <= float(upper)
        True
    """
    weight = _whole(counts)
    n = weight.sum(axis=-1)
    k_lo, k_hi = rank_bounds(n, p=p, alpha=alpha)
    lower = lower_edge(bucket_at_rank(buckets, weight, np.maximum(k_lo, 1)))
    upper = upper_edge(bucket_at_rank(buckets, weight, np.minimum(k_hi + 1, np.maximum(n, 1))))
    return np.where(k_lo > 0, lower, -np.inf), np.where(k_hi < n, upper, np.inf)


def _outermost(
    accepted: Callable[[IntArray], npt.NDArray[np.bool_]], start: IntArray, end: IntArray
) -> IntArray:
    """The accepted rank farthest from an accepted start towards end, the end included."""
    inside, outside = start, end + np.where(end > start, 1, -1)
    for _ in range(HALVINGS):
        middle = inside + (outside - inside) // 2
        inner = accepted(np.clip(middle, 0, np.maximum(start, end))) & (middle != outside)
        inside = np.where(inner, middle, inside)
        outside = np.where(inner, outside, middle)
    return inside


def _checked(buckets: npt.ArrayLike) -> IntArray:
    index = np.asarray(buckets, dtype=np.int64)
    if not np.all((index == ZERO_BUCKET) | ((index >= 0) & (index <= LAST_BUCKET))):
        raise ValueError(f"a bucket is {ZERO_BUCKET} or in 0..{LAST_BUCKET}")
    return index


def _whole(counts: npt.ArrayLike) -> IntArray:
    values = np.asarray(counts)
    if not np.all(np.isfinite(values) & (values >= 0) & (values == np.floor(values))):
        raise ValueError("counts are whole numbers, zero or more")
    return values.astype(np.int64)
