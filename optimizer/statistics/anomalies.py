"""Anomalies: newest hours that are unlike the same hours of the days and weeks before them.

The laws kept here: an hour is never compared with itself or with later ones, a constant factor and
the order of series change nothing, and hours at other times of the day decide nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special, stats

from optimizer.metrics import HOUR_S
from optimizer.statistics import arms
from optimizer.statistics.hourly import MEASURES, Hourly, Measure, hourly
from optimizer.statistics.runs import residuals
from optimizer.statistics.seasonal import (
    DAY_HOURS,
    ENOUGH,
    NOISE,
    WEEKEND_HOUR,
    Seasonal,
    hour_of_week,
    seasonal,
)
from optimizer.statistics.shifts import Reading, outliers

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SINGLE: Final = 5.0
"""Score from which one hour is unusual."""
LASTING: Final = 3.5
"""Score from which ``HOURS`` in a row are."""
HOURS: Final = 3
"""What began this many hours ago or fewer is news; what lasts longer is a shift."""
MEDIAN_VARIANCE: Final = np.pi / 2.0
"""Variance of the median of n normal values, times n over theirs."""
FEWEST: Final = 1_000
"""Scores from which their tails are measured; fewer are taken for those of ``FEW_FREEDOM``."""
FEW_FREEDOM: Final = 8.0
FREEDOM: Final = (2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0, 20.0, 50.0, 1e6)
NEWEST_COLUMNS: Final = (
    *("row", "z", "lasted", "value", "before"),
    *("start_s", "n", "hours", "p_value"),
)
BEFORE: Final = 0.5
FOUND: Final = ("row", "onset", "newest")
INNER, OUTER = 0.75, 0.99
"""Quantiles of the scores' size whose ratio says how heavy the tails are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """What the newest hours of S series say.

    found: one row for each unusual series with the columns ``NEWEST_COLUMNS``: row (of the series),
    z, lasted (hours on that side beyond the lasting score), value and before (the usual one), both
    as values and not logs, start_s, n (what the hour rests on), hours (known ones before) and
    p_value; judged: which series had enough hours, shape (S,).
    """

    found: pd.DataFrame
    judged: BoolArray


def against_past(
    log: FloatArray,
    start_s: npt.ArrayLike,
    *,
    cut: npt.ArrayLike,
    error: npt.ArrayLike = 0.0,
    noise: float = NOISE,
) -> Seasonal:
    """Each series against what was usual before its column ``cut``: nothing later is learned from.

    The scores of later columns are those of a forecast: their spread holds the error of a median of
    so few values as well.

    Args:
        log: logarithms, nan = unknown, shape (S, H).
        start_s: start of each column, Unix seconds, shape (H,); steps shorter than an hour share
            the slot of their hour.
        cut: first column that is judged only, broadcast to (S,).
        error: standard error of each value, broadcast to (S, H).
        noise: smallest spread of a log.

    References:
        Asymptotic variance of a median, ``pi / 2 / n``: Laplace (1818); see Kenney and Keeping
        (1962), Mathematics of Statistics, part 1, 13.13.

    Examples:
        >>> hours = np.arange(240) * 3600
        >>> log = 0.1 * np.cos(np.arange(240) * 2.4)[None, :]
        >>> log[0, -1] += 1.0
        >>> float(against_past(log, hours, cut=237).z[0, -1]) > 5
        True
    """
    begin = np.broadcast_to(np.asarray(cut, dtype=np.int64), (len(log),))[:, None]
    later = np.arange(log.shape[1]) >= begin
    usual = seasonal(np.where(later, np.nan, log), start_s, error=error, noise=noise)
    forecast = np.sqrt(1.0 + MEDIAN_VARIANCE / np.maximum(usual.count, 1))
    spread = np.where(later, usual.spread * forecast, usual.spread)
    return replace(usual, spread=spread, z=(log - usual.centre) / spread)


def strengths(z: FloatArray, *, single: float = SINGLE, lasting: float = LASTING) -> FloatArray:
    """How far each hour is beyond what makes it unusual, shape (S, H): 1 and more is unusual.

    The larger of its score over ``single`` and, of the ``HOURS`` that end with it, the smallest
    score on its side over ``lasting``. Unknown scores count as 0.

    Examples:
        >>> strengths(np.array([[0.0, 10.0, 0.0], [-7.0, -7.0, -7.0]])).tolist()
        [[0.0, 2.0, 0.0], [1.4, 1.4, 2.0]]
    """
    known = np.nan_to_num(z)
    if known.shape[1] < HOURS:
        return np.asarray(np.abs(known) / single)
    runs = np.lib.stride_tricks.sliding_window_view(known, HOURS, axis=1)
    least = np.zeros(known.shape)
    least[:, HOURS - 1 :] = np.maximum(np.maximum(runs.min(axis=2), -runs.max(axis=2)), 0.0)
    return np.asarray(np.maximum(np.abs(known) / single, least / lasting))


def like_hourly(hours: pd.DataFrame, *, start_s: int, end_s: int, columns: Sequence[str]) -> Hourly:
    """The sums of each target x arm in the newest hours and in those at their times of day.

    Columns are the ``HOURS`` newest hours, those of the days before at the same times, and the hour
    before and after these: all that a newest hour is compared with. Targets with sums that
    contradict each other there are left out whole.

    Args:
        hours: 1-hour aggregates; those outside of ``[start_s, end_s)`` are left out.
        start_s: a whole hour, Unix seconds.
        end_s: a whole hour, Unix seconds.
        columns: which sums; ``n`` is always among them.
    """
    every = np.arange(start_s // HOUR_S, end_s // HOUR_S)
    chosen = (end_s // HOUR_S - every) % DAY_HOURS <= HOURS + 1
    begin = hours["window_start_s"].to_numpy()
    index = np.clip(begin // HOUR_S - start_s // HOUR_S, 0, max(every.size - 1, 0))
    inside = np.flatnonzero(chosen[index] & (begin >= start_s) & (begin + HOUR_S <= end_s))
    read = list(dict.fromkeys(("target", "arm", *arms.COUNTS, *columns)))
    few = pd.DataFrame({name: hours[name].array[inside] for name in read}, copy=False)
    few = few.assign(target=_coded(few["target"]), arm=_coded(few["arm"]))
    # Numbered as if there were no other hours, so that none of them takes any room.
    few["window_start_s"] = (np.cumsum(chosen) - 1)[index[inside]] * HOUR_S
    wrong = arms.contradicting(few)
    if wrong:
        few = few[~few["target"].isin(wrong)]
    found = hourly(few, start_s=0, end_s=int(chosen.sum()) * HOUR_S, columns=columns)
    return replace(found, start_s=every[chosen] * HOUR_S)


def _coded(names: pd.Series) -> pd.Categorical:
    """The names as numbers; rows of one series often follow each other, and are then one name."""
    values = names.to_numpy(dtype=object)
    begins = np.flatnonzero(np.append([True], values[1:] != values[:-1])[: values.size])
    codes, known = pd.factorize(values[begins], sort=True)
    lengths = np.diff(begins, append=values.size)
    return pd.Categorical.from_codes(np.repeat(codes, lengths), categories=pd.Index(known))


def out_of_range(
    log: FloatArray, start_s: IntArray, *, error: npt.ArrayLike = 0.0, noise: float = NOISE
) -> BoolArray:
    """Whose newest known hour, of the last ``HOURS``, lies outside the range of its like, (S,).

    The others can be no anomalies: hours of the same slot were as far from its median, or their
    own sampling error or the noise explains the distance. The slot is that of
    :func:`optimizer.statistics.seasonal.seasonal` for series without gaps.

    Examples:
        >>> hours = np.arange(240) * 3600
        >>> log = np.tile(np.cos(np.arange(240) * 2.4), (2, 1))
        >>> log[1, -1] = 2.0
        >>> out_of_range(log, hours).tolist()
        [False, True]
    """
    found = np.zeros(len(log), dtype=np.bool_)
    width = log.shape[1]
    least = LASTING * np.maximum(np.broadcast_to(np.asarray(error), log.shape), noise)
    earlier = np.arange(width) < width - HOURS
    waiting = np.ones(len(log), dtype=np.bool_)
    for column in range(width - 1, max(width - HOURS, 0) - 1, -1):
        newest = np.flatnonzero(waiting & ~np.isnan(log[:, column]))
        waiting[newest] = False
        like = log[np.ix_(newest, _slot(hour_of_week(start_s), column, earlier))]
        low, high = (bound.reduce(like, axis=1, initial=np.nan) for bound in (np.fmin, np.fmax))
        now, far = log[newest, column], least[newest, column]
        inside = ((low <= now) & (now <= high)) | (np.maximum(now - low, high - now) < far)
        found[newest] = ~inside
    return found


def _slot(week: IntArray, column: int, earlier: BoolArray) -> IntArray:
    """The earlier columns a column is compared with: the narrowest slot with enough of them."""
    day, kind = week % DAY_HOURS, (week >= WEEKEND_HOUR) == (week[column] >= WEEKEND_HOUR)
    apart = np.abs((day - day[column] + DAY_HOURS // 2) % DAY_HOURS - DAY_HOURS // 2)
    slots = (week == week[column], kind & (apart == 0), kind & (apart <= 1))
    enough = [slot for slot in slots if (slot & earlier).sum() >= ENOUGH]
    return np.flatnonzero(enough[0] & earlier) if enough else np.zeros(0, dtype=np.int64)


def read_newest(log: FloatArray, start_s: npt.ArrayLike, *, error: npt.ArrayLike = 0.0) -> Reading:
    """Each series with its ``HOURS`` newest columns read against those before.

    ``hours`` counts the scores before the newest ones.
    """
    width = log.shape[1]
    cut = max(width - HOURS, 0)
    usual = against_past(log, start_s, cut=cut, error=error)
    known = ~np.isnan(usual.z)
    return Reading(
        log=log,
        usual=usual,
        residual=residuals(usual.z, fit=cut),
        newest=np.max(np.where(known, np.arange(width), -1), axis=1, initial=-1),
        hours=known[:, :cut].sum(axis=1),
    )


def lasting_shifts(reading: Reading, found: pd.DataFrame) -> pd.DataFrame:
    """The shifts that were there before the newest ``HOURS``; the others are anomalies still.

    One hour before those must reach ``BEFORE`` of the whole shift: where hours of chance came just
    before a change, least squares begin the shift with them.

    Args:
        reading: of the series that shifted.
        found: rows of :func:`optimizer.statistics.shifts.shifts`.
    """
    found = found[found["newest"] - found["onset"] >= HOURS]
    row, onset, newest = (found[name].to_numpy(dtype=np.int64) for name in FOUND)
    column = np.arange(reading.log.shape[1])
    early = (column >= onset[:, None]) & (column <= (newest - HOURS)[:, None])
    if not found.empty:
        side = found["side"].to_numpy()
        most = np.nanmax(np.where(early, side[:, None] * reading.usual.z[row], np.nan), axis=1)
        found = found[most >= BEFORE * side * found["shift_z"]]
    return found.reset_index(drop=True)


def newest_outliers(
    measure: Measure,
    start_s: IntArray,
    *,
    min_hours: int,
    single: float = SINGLE,
    lasting: float = LASTING,
) -> Newest:
    """The series whose newest hour, of the last ``HOURS``, is unlike any before.

    Args:
        measure: of the hours that :func:`like_hourly` names.
        start_s: start of each of them, Unix seconds, shape (H,).
        min_hours: known hours before the newest ones that a series needs.
        single: score from which one hour is unusual.
        lasting: score from which ``HOURS`` in a row are.
    """
    known = ~np.isnan(measure.log)
    before = known[:, :-HOURS].sum(axis=1)
    judged = (before >= min_hours) & known[:, -HOURS:].any(axis=1)
    rows = np.flatnonzero(judged)
    rows = rows[out_of_range(measure.log[rows], start_s, error=measure.error[rows])]
    if not rows.size:
        none = dict.fromkeys(NEWEST_COLUMNS, pd.Series(dtype=np.float64))
        return Newest(found=pd.DataFrame(none), judged=judged)
    reading = read_newest(measure.log[rows], start_s, error=measure.error[rows])
    found = outliers(reading, min_hours=min_hours, single=single, lasting=lasting, hours=HOURS)
    freedom = tail_freedom(reading.usual.z[:, :-HOURS])
    row, newest = rows[found["row"]], found["newest"].to_numpy()
    found = found.assign(
        row=row,
        start_s=start_s[newest],
        n=measure.count[row, newest].astype(np.int64),
        hours=before[row],
        p_value=p_values(found["z"], freedom=freedom),
    )
    return Newest(found=found[list(NEWEST_COLUMNS)], judged=judged)


def tail_freedom(z: FloatArray) -> float:
    """Degrees of freedom of the t distribution whose tails are as heavy as those of the scores.

    Args:
        z: scores of hours without a change, of any shape, nan = unknown.

    References:
        A ratio of quantiles instead of a kurtosis, which single hours decide: Hogg (1974), JASA
        69:909.

    Examples:
        >>> chance = (np.arange(4_000) + 0.5) / 4_000
        >>> tail_freedom(stats.norm.ppf(chance)) > 20, round(tail_freedom(stats.t.ppf(chance, 5)))
        (True, 5)
    """
    size = np.abs(z[~np.isnan(z)])
    if size.size < FEWEST:
        return FEW_FREEDOM
    inner, outer = np.quantile(size, [INNER, OUTER])
    if not inner > 0:
        return FREEDOM[0]
    ratios = [_ratio(freedom) for freedom in FREEDOM]
    return float(np.interp(-outer / inner, np.negative(ratios), FREEDOM))


def _ratio(freedom: float) -> float:
    inner, outer = (stats.t.ppf(0.5 + quantile / 2, freedom) for quantile in (INNER, OUTER))
    return float(outer / inner)


def p_values(z: npt.ArrayLike, *, freedom: float) -> FloatArray:
    """Probability of a score of this size on either side, for tails of so many freedoms.

    Scores are scaled by a MAD, so that the t distribution is scaled to their median size.

    Examples:
        >>> p_values([0.67449, 5.0], freedom=1e6).round(6).tolist()
        [0.5, 1e-06]
    """
    scale = stats.t.ppf(0.75, freedom) / special.ndtri(0.75)
    return np.asarray(2.0 * stats.t.sf(np.abs(z) * scale, freedom))


def fallback_share(sums: Mapping[str, FloatArray]) -> Measure:
    """Requests answered by another model, half a one more for a finite logarithm."""
    n, diverted = sums["n"], sums["n_fallback"]
    unknown = np.where(n > 0, 0.0, np.nan)
    log = np.log((diverted + 0.5) / (n + 1.0))
    return Measure(log=log + unknown, error=1.0 / np.sqrt(diverted + 0.5) + unknown, count=n)


def volume(n: FloatArray, usual: FloatArray) -> Measure:
    """Requests of an hour, half a one more; an hour without any is 0 requests and not unknown.

    The error is that of a count as large as is usual, shape (S, 1): that of the hour itself would
    excuse every outage, because few requests are uncertain.
    """
    error = np.broadcast_to(1.0 / np.sqrt(usual + 0.5), n.shape)
    return Measure(log=np.log(n + 0.5), error=error, count=n)


ANOMALY_MEASURES: Final[Mapping[str, Callable[[Mapping[str, FloatArray]], Measure]]] = {
    **MEASURES,
    "fallback_share": fallback_share,
}
"""Every measure of an arm's hour, by name."""
