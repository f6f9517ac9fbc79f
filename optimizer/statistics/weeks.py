"""Whole weeks of hours, target by target: the profile of the week, its days, and its trend.

The laws kept here: a target with fewer than two whole weeks has no profile, and one with fewer than
four has none that tells one weekday from another; a target's numbers depend on its own rows alone;
multiplying all values by a constant multiplies profiles and changes no trend. An hour without rows,
after a target's first one, is an hour without traffic.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from optimizer.evidence import HISTORY_SUMS, Scene
from optimizer.metrics import HOUR_S
from optimizer.statistics import arms
from optimizer.statistics.seasonal import (
    DAY_HOURS,
    WEEK_HOURS,
    WEEKEND_HOUR,
    Seasonal,
    hour_of_week,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

PROFILE_WEEKS: Final = 2
"""Whole weeks from which the hours of working days and of weekends have a profile."""
DAY_WEEKS: Final = 4
"""Whole weeks from which every hour of the week has one of its own, and days have a trend."""
WEEK_DAYS: Final = 7
HALF: Final = 0.5
"""Half a request more keeps the logarithm of an empty hour finite."""
CHANCE: Final = 0.05
"""Chance that any hour of the week of a target without idle hours is found empty."""
_HOUR: Final = np.arange(WEEK_HOURS)
_KIND: Final = _HOUR % DAY_HOURS + DAY_HOURS * (_HOUR >= WEEKEND_HOUR)
# One row an hour of the week: the share of each hour in the mean over its kind.
_ALIKE: Final = (_KIND[:, None] == _KIND) / (_KIND[:, None] == _KIND).sum(axis=1, keepdims=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weeks:
    """Hourly sums of S targets in H consecutive hours that end now.

    targets: S names in order; start_s: first second of each hour, Unix, shape (H,); sums: a matrix
    of shape (S, H) for each column, 0 where a target has no row; first: column of each target's
    first row, shape (S,); weeks: its whole weeks since then, shape (S,).
    """

    targets: npt.NDArray[np.object_]
    start_s: IntArray
    sums: Mapping[str, FloatArray]
    first: IntArray
    weeks: IntArray

    def whole(self) -> BoolArray:
        """Which hours lie in a target's whole weeks, shape (S, H)."""
        width = self.start_s.size
        return np.asarray(np.arange(width) >= width - WEEK_HOURS * self.weeks[:, None])

    def since_first(self) -> BoolArray:
        """Which hours a target has existed in, shape (S, H)."""
        return np.asarray(np.arange(self.start_s.size) >= self.first[:, None])

    def by_age(self) -> Iterator[tuple[int, IntArray]]:
        """Each number of whole weeks that occurs, from two on, and the rows of that age."""
        for age in np.unique(self.weeks[self.weeks >= PROFILE_WEEKS]).tolist():
            yield age, np.flatnonzero(self.weeks == age)


def history_of(scene: Scene) -> pd.DataFrame:
    """The longest history of the scene's own targets: target, arm, window_start_s and its sums.

    Targets with sums that contradict each other are left out whole.
    """
    columns = ["target", "arm", "window_start_s", *HISTORY_SUMS]
    rows = scene.hours[columns] if scene.history is None else scene.history
    names = set(scene.targets) - arms.contradicting(scene.hours)
    known = rows["target"].isin(list(names))
    return rows if known.all() else rows[known]


def weeks_of(history: pd.DataFrame, *, end_s: int, columns: Sequence[str]) -> Weeks:
    """The hourly sums of each target up to ``end_s``, a whole hour; arms are added up.

    Args:
        history: one row or more a target and hour; sums below 2 ** 53 are added exactly.
        end_s: Unix seconds; later hours are left out.
        columns: which sums.

    Examples:
        >>> rows = pd.DataFrame({"target": ["a", "a", "b"], "window_start_s": [0, 7200, 7200],
        ...                      "n": [3, 4, 5]})
        >>> found = weeks_of(rows, end_s=3 * 3600, columns=["n"])
        >>> found.sums["n"].tolist(), found.first.tolist(), found.weeks.tolist()
        ([[3.0, 0.0, 4.0], [0.0, 0.0, 5.0]], [0, 2], [0, 0])
    """
    closed = history["window_start_s"].to_numpy() + HOUR_S <= end_s
    rows = history if closed.all() else history[closed]
    code, names = pd.factorize(rows["target"], sort=True)
    start = rows["window_start_s"].to_numpy(dtype=np.int64)
    begin_s = int(start.min(initial=end_s)) // HOUR_S * HOUR_S
    span = (end_s - begin_s) // HOUR_S
    column = (start - begin_s) // HOUR_S
    first = np.full(len(names), span, dtype=np.int64)
    np.minimum.at(first, code, column)
    cell, shape = code * span + column, (len(names), span)
    return Weeks(
        targets=np.asarray(names, dtype=object),
        start_s=begin_s + HOUR_S * np.arange(span, dtype=np.int64),
        sums={name: _summed(cell, rows[name], shape) for name in columns},
        first=first,
        weeks=(span - first) // WEEK_HOURS,
    )


def _summed(cell: IntArray, values: pd.Series, shape: tuple[int, int]) -> FloatArray:
    weights = values.to_numpy(dtype=np.float64)
    total = np.bincount(cell, weights=weights, minlength=shape[0] * shape[1])
    return np.asarray(total, dtype=np.float64).reshape(shape)


def profile(weeks: Weeks, values: FloatArray) -> FloatArray:
    """The mean of each hour of the week over a target's whole weeks, shape (S, 168), from Monday.

    With fewer than ``DAY_WEEKS`` weeks that of the same hour of all working days or of the weekend;
    nan with fewer than ``PROFILE_WEEKS``.
    """
    found = np.full((len(values), WEEK_HOURS), np.nan)
    for age, rows in weeks.by_age():
        mean = by_week(weeks, values, age, rows).mean(axis=1)
        found[rows] = mean if age >= DAY_WEEKS else mean @ _ALIKE.T
    return found


def by_week(weeks: Weeks, values: FloatArray, age: int, rows: IntArray) -> FloatArray:
    """The rows' hours in their ``age`` whole weeks, hours from Monday, shape (R, age, 168)."""
    block = values[rows, values.shape[1] - age * WEEK_HOURS :].reshape(len(rows), age, WEEK_HOURS)
    monday = int(np.argmin(hour_of_week(weeks.start_s[-WEEK_HOURS:])))
    return np.roll(block, -monday, axis=2)


def by_day(values: FloatArray, days: int) -> FloatArray:
    """Sums of the last ``days`` spans of 24 hours, oldest first, shape (S, days)."""
    block = values[:, values.shape[1] - days * DAY_HOURS :]
    return np.asarray(block.reshape(len(values), days, DAY_HOURS).sum(axis=2))


def weekly_slopes(log_days: FloatArray) -> FloatArray:
    """The change of a logarithm in a week: the median over pairs of the same weekday, shape (S,).

    Args:
        log_days: logarithms of whole weeks of days, oldest first, shape (S, 7 W), W >= 2.

    References:
        Hirsch, Slack and Smith (1982), Water Resources Research 18:107: Theil and Sen's median of
        slopes, within seasons.

    Examples:
        >>> days = np.log(100 * 1.1 ** (np.arange(28) // 7) * np.tile([1, 2, 3, 2, 1, 9, 9], 4))
        >>> round(float(np.exp(weekly_slopes(days[None]))[0]), 9)
        1.1
    """
    lags = range(WEEK_DAYS, log_days.shape[1], WEEK_DAYS)
    pairs = [(log_days[:, lag:] - log_days[:, :-lag]) * (WEEK_DAYS / lag) for lag in lags]
    return np.asarray(np.median(np.concatenate(pairs, axis=1), axis=1))


def slope_limits(log_days: FloatArray, *, confidence: float = 0.95) -> tuple[float, float]:
    """Limits of one series' change in a week, of days freed of their weekday; shape (7 W,) in.

    References:
        Sen (1968), JASA 63:1379, as :func:`scipy.stats.theilslopes` computes it.
    """
    by_weekday = log_days.reshape(-1, WEEK_DAYS)
    free = (by_weekday - np.median(by_weekday, axis=0)).ravel()
    found = stats.theilslopes(free, np.arange(free.size) / WEEK_DAYS, alpha=confidence)
    return float(found.low_slope), float(found.high_slope)


def strength(log: FloatArray, usual: Seasonal) -> FloatArray:
    """The share of the scatter of each row's logs that its hours of the week explain, in [0, 1].

    References:
        Wang, Smith and Hyndman (2006), Data Mining and Knowledge Discovery 13:335: one less the
        variance of the remainder over that of the series.
    """
    left = np.nanvar(log - usual.centre, axis=1)
    return np.clip(1.0 - arms.divide(left, np.nanvar(log, axis=1)), 0.0, 1.0)


def weekend_ratio(block: FloatArray) -> FloatArray:
    """Requests of a weekend's day over those of a working day, week by week, shape (R, W)."""
    weekend, work = block[:, :, WEEKEND_HOUR:], block[:, :, :WEEKEND_HOUR]
    return np.asarray((weekend.mean(axis=2) + HALF) / (work.mean(axis=2) + HALF))


def idle_hours(block: FloatArray) -> BoolArray:
    """Hours of the week without a request in any week, where chance does not explain it.

    With too few weeks to tell weekdays apart, the same hour of all of a kind must be empty. Were
    requests spread evenly, an hour would stay empty with probability ``exp(-expected)``.
    """
    n, age = block.sum(axis=1), block.shape[1]
    alike = 1
    if age < DAY_WEEKS:
        alike = WEEK_DAYS - WEEKEND_HOUR // DAY_HOURS
        n = np.concatenate(
            [_same_hours(n[:, :WEEKEND_HOUR]), _same_hours(n[:, WEEKEND_HOUR:])], axis=1
        )
    expected = alike * block.sum(axis=(1, 2)) / WEEK_HOURS
    told = expected >= -np.log(CHANCE / WEEK_HOURS)
    return np.asarray((n == 0) & told[:, None])


def _same_hours(n: FloatArray) -> FloatArray:
    """Each hour's sum over the days of its kind."""
    days = n.shape[1] // DAY_HOURS
    return np.tile(n.reshape(len(n), days, DAY_HOURS).sum(axis=1), days)


def longest_run(idle: BoolArray) -> tuple[FloatArray, FloatArray]:
    """First hour and length of each row's longest run of idle hours, around the week's end too."""
    twice = np.concatenate([idle, idle], axis=1)
    position = np.arange(twice.shape[1])
    last_busy = np.maximum.accumulate(np.where(twice, -1, position), axis=1)
    run = np.minimum(position - last_busy, WEEK_HOURS)
    end = run.argmax(axis=1)
    length = run[np.arange(len(run)), end]
    return ((end - length + 1) % WEEK_HOURS).astype(np.float64), length.astype(np.float64)
