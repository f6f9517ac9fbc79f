"""What an hour usually looks like: median and MAD of the same hour of the week, on a log scale.

The laws kept here: multiplying all values by a constant changes no score, hours in any order give
the same scores, and an hour whose slot holds too few values has no score at all.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.metrics import HOUR_S
from optimizer.statistics.arms import MAD_TO_SD

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

ENOUGH: Final = 4
"""Values from which a slot has a median of its own."""
NOISE: Final = 0.02
"""Smallest spread of a log: differences of 2 % are never unusual."""
SHARED: Final = 20.0
"""How many values of its own a slot needs to count as much as the spread of the whole series."""
FEW: Final = 8
"""Values up to which neighbours are swapped in all columns at once, by Knuth's odd-even rounds."""

DAY_HOURS: Final = 24
WEEK_HOURS: Final = 168
# The Unix epoch was a Thursday; hour 0 of the week is Monday, 00:00 UTC.
EPOCH_HOUR: Final = 72
WEEKEND_HOUR: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Seasonal:
    """The usual value of every hour and how far each lies from it, shape (S, H) each.

    centre: median log of the hour's slot; spread: standard deviation of a log around it; count: the
    values of the slot; z: ``(log - centre) / spread``. nan, and count 0, in a slot too thin.
    """

    centre: FloatArray
    spread: FloatArray
    count: IntArray
    z: FloatArray


def hour_of_week(start_s: npt.ArrayLike) -> IntArray:
    """Hours since Monday, 00:00 UTC, in 0..167.

    Examples:
        >>> hour_of_week([0, 4 * 86_400]).tolist()  # a Thursday and a Monday
        [72, 0]
    """
    hours = np.asarray(start_s, dtype=np.int64) // HOUR_S
    return np.asarray((hours + EPOCH_HOUR) % WEEK_HOURS, dtype=np.int64)


def seasonal(
    log: FloatArray,
    start_s: npt.ArrayLike,
    *,
    error: npt.ArrayLike = 0.0,
    noise: float = NOISE,
    enough: int = ENOUGH,
) -> Seasonal:
    """How unusual each hour is for its series.

    A slot is the same hour of the week; with fewer than ``enough`` values the same hour of all
    weekdays or of all weekends, then with the hours before and after it. The spread of a slot is
    moderated by that of the whole series, because a MAD of four values is little better than
    chance, and is never below the hour's own sampling error or ``noise``.

    Args:
        log: logarithms, nan = unknown, shape (S, H).
        start_s: start of each hour, Unix seconds, shape (H,).
        error: standard error of each hour's log, broadcast to (S, H).
        noise: smallest spread of a log.
        enough: values from which a slot says anything.

    References:
        Median and MAD: Hampel (1974), JASA 69:383. Moderation of variances,
        ``(m s^2 + d s0^2) / (m + d)``: Smyth (2004), Stat. Appl. Genet. Mol. Biol. 3:3.

    Examples:
        >>> week = np.arange(168) * 3600
        >>> log = np.tile(np.sin(np.arange(24)), 7)[None, :]
        >>> log[0, 100] += 0.2
        >>> np.flatnonzero(seasonal(log, week).z[0] > 5).tolist()
        [100]
    """
    # Hours lie along the first axis here: a slot is then a few contiguous rows.
    values = np.ascontiguousarray(np.asarray(log, dtype=np.float64).T)
    usual = [np.full(values.shape, np.nan), np.full(values.shape, np.nan), np.zeros(values.shape)]
    for members, columns in _slots(hour_of_week(start_s), enough):
        waiting = np.isnan(usual[0][columns])
        series = np.flatnonzero(waiting.any(axis=0))
        if not series.size:
            continue
        every = series.size == values.shape[1]
        found = _median_and_mad(values[members] if every else values[np.ix_(members, series)])
        fresh = (waiting if every else waiting[:, series]) & (found[2] >= enough)
        for column, new in zip(columns, fresh, strict=True):
            at_once = every and new.all()
            for whole, part in zip(usual, found, strict=True):
                if at_once:
                    whole[column] = part
                else:
                    whole[column, series[new]] = part[new]
    certain = _certain(values, usual[2])
    centre, own, count = (np.ascontiguousarray(part.T) for part in usual)
    away = np.asarray(log, dtype=np.float64) - centre
    whole = _spread_of_all(away, certain)[:, None]
    moderated = np.sqrt((count * own**2 + SHARED * whole**2) / (count + SHARED))
    spread = np.fmax(np.fmax(moderated, noise), np.asarray(error, dtype=np.float64))
    spread = np.where(np.isnan(centre), np.nan, spread)
    return Seasonal(centre=centre, spread=spread, count=count.astype(np.int64), z=away / spread)


def _slots(week: IntArray, enough: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Which columns make up a slot and which read it, finest slots first."""
    day, weekend = week % DAY_HOURS, week >= WEEKEND_HOUR
    exact = [week == hour for hour in np.unique(week)]
    kinds = [(hour, kind) for kind in (False, True) for hour in range(DAY_HOURS)]
    same = [(day == hour) & (weekend == kind) for hour, kind in kinds]
    near = [
        np.isin(day, [(hour - 1) % DAY_HOURS, hour, (hour + 1) % DAY_HOURS]) & (weekend == kind)
        for hour, kind in kinds
    ]
    slots = [*zip(exact, exact, strict=True), *zip(same, same, strict=True)]
    for members, columns in [*slots, *zip(near, same, strict=True)]:
        if members.sum() >= enough and columns.any():
            yield np.flatnonzero(members), np.flatnonzero(columns)


def _median_and_mad(block: FloatArray) -> tuple[FloatArray, FloatArray, IntArray]:
    count = (~np.isnan(block)).sum(axis=0)
    middle = _median(block, count)
    return middle, _median(np.abs(block - middle), count) * MAD_TO_SD, count


def _median(block: FloatArray, count: IntArray) -> FloatArray:
    """The median of each column's known values, of which there are ``count``; nan if none."""
    size = len(block)
    if size <= FEW and (count == size).all():
        rows = _ordered(block)
        return np.asarray((rows[(size - 1) // 2] + rows[size // 2]) / 2.0)
    # Sorting puts nan last; numpy's nanmedian goes series by series.
    ordered = np.sort(block, axis=0)
    low = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None] // 2, axis=0)
    high = np.take_along_axis(ordered, np.minimum(count // 2, size - 1)[None], axis=0)
    return np.asarray((low + high)[0] / 2.0)


def _ordered(block: FloatArray) -> Sequence[FloatArray]:
    """The rows so that every column ascends; none of its values is nan."""
    rows = list(block)
    for turn in range(len(rows)):
        for low in range(turn % 2, len(rows) - 1, 2):
            pair = rows[low : low + 2]
            rows[low : low + 2] = np.minimum(*pair), np.maximum(*pair)
    return rows


def _certain(values: FloatArray, count: FloatArray) -> FloatArray:
    """How many values of each column are the median of their slot, whose deviation 0 says nothing.

    The median of an odd number of values is one of them.
    """
    odd = ~np.isnan(values) & (count % 2 == 1)
    return np.asarray(np.where(odd, 1.0 / np.maximum(count, 1), 0.0).sum(axis=0))


def _spread_of_all(away: FloatArray, certain: FloatArray) -> FloatArray:
    """The MAD of each series around its slots' medians, as a standard deviation; 0 if unknown."""
    if not away.size:
        return np.zeros(len(away))
    size = (~np.isnan(away)).sum(axis=1)
    rank = np.minimum((size + certain) // 2, size - 1).astype(np.int64)
    ordered = np.sort(np.abs(away), axis=1)
    middle = np.take_along_axis(ordered, np.maximum(rank, 0)[:, None], axis=1)[:, 0]
    return np.where(size > 0, middle * MAD_TO_SD, 0.0)
