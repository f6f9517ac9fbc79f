"""Latency histograms, read a part of the rows at a time and reduced to what is asked of them.

A part ends where a case ends. Sums of latency are floats, whose last digit depends on the order in
which they are added: a case's rows are added in their order, whatever the parts.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.aggregates import unpack_histograms
from optimizer.bucket_edges import EDGES, LAST_BUCKET, RATIO

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

ROWS_AT_ONCE: Final = 512
"""Rows whose histograms are unpacked at once, or those of one case: about 1 MB."""

# The middle of each bucket; zero, whose bucket is negative, stands behind the last.
_MIDDLES: Final = np.append(np.asarray(EDGES)[: LAST_BUCKET + 1] / np.sqrt(RATIO), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramRows:
    """Rows with histograms, sorted by case: case, arm (0 control, 1 canary) and bytes."""

    case: IntArray
    arm: IntArray
    codes: npt.NDArray[np.object_]


def counted(rows: HistogramRows, limit: IntArray, asked: BoolArray) -> tuple[IntArray, FloatArray]:
    """What the histograms of N cases add up to.

    Args:
        rows: their rows.
        limit: bucket of each case's threshold, shape (N,).
        asked: whether a case's latency is asked for, shape (N,).

    Returns:
        The answered requests of each row beyond its case's bucket, shape (rows,); and count, sum
        and sum of squares of latency, each value within 1 %, zeros where it is not asked for, shape
        (3, N, 2).
    """
    above = np.zeros(rows.case.size, dtype=np.int64)
    moments = np.zeros((3, 2 * limit.size))
    for part in _parts(rows.case):
        row, bucket, count = unpack_histograms(rows.codes[part].tolist())
        size = part.stop - part.start
        over = bucket > limit[rows.case[part]][row]
        above[part] = np.bincount(row[over], weights=count[over], minlength=size)
        kept = asked[rows.case[part]][row]
        row, bucket, count = row[kept], bucket[kept], count[kept]
        cells = slice(2 * rows.case[part.start], 2 * rows.case[part.stop - 1] + 2)
        cell = (2 * rows.case[part] + rows.arm[part] - cells.start)[row]
        value = _MIDDLES[np.maximum(bucket, -1)]
        for moment, weight in zip(moments, (count, count * value, count * value**2), strict=True):
            moment[cells] = np.bincount(cell, weights=weight, minlength=cells.stop - cells.start)
    return above, moments.reshape(3, limit.size, 2)


def _parts(case: IntArray) -> Iterator[slice]:
    """Rows from the first one of a case to the last one of a case."""
    start, before = 0, 0
    for end in (np.flatnonzero(np.diff(case, append=-1)) + 1).tolist():
        if before > start and end - start > ROWS_AT_ONCE:
            yield slice(start, before)
            start = before
        before = end
    if before > start:
        yield slice(start, before)
