"""Shifts and outliers of many hourly series at once: what changed, when, and by how much.

The laws kept here: a series without enough hours before the change says nothing, an excursion that
has ended is no shift, and the chance of a false discovery is limited over all series together.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from optimizer.statistics.change_points import change_points
from optimizer.statistics.runs import ALARM, CLIP, chance, cusum, high, residuals
from optimizer.statistics.seasonal import Seasonal, seasonal

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

UNFITTED: Final = 24
"""Newest hours that no autoregression is fitted to: a change in them must not hide itself."""
HORIZON: Final = 48
"""A shift that began longer ago is no news, and begins to be usual."""
LEAST_SHIFT: Final = 1.0
"""Median score since the onset below which the excursion is over, standard deviations."""
LOOKBACK: Final = 72
"""Hours before a run in which its true beginning is looked for too."""
SHORTEST: Final = 3
"""Hours a shift lasts at least: the sum does not reach its alarm in fewer."""
SAME_CHANGE: Final = 6
"""Hours between a shift's onset and a change point that are one change."""
SHIFT_COLUMNS: Final = (
    *("row", "side", "onset", "newest", "height", "p_value"),
    *("shift_z", "ratio", "before", "hours", "confirmed"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A measure of S series in H hours, as it was read against itself.

    log: logarithms, nan = unknown; usual: centre, spread and score of each hour; residual: scores
    without their autoregression; all of shape (S, H). newest: column of each series' newest score,
    -1 if there is none; hours: how many scores it has.
    """

    log: FloatArray
    usual: Seasonal
    residual: FloatArray
    newest: IntArray
    hours: IntArray


def read(log: FloatArray, start_s: npt.ArrayLike, *, error: npt.ArrayLike = 0.0) -> Reading:
    """Each series against its own usual hours.

    Args:
        log: logarithms, nan = unknown, shape (S, H).
        start_s: start of each hour, Unix seconds, shape (H,).
        error: standard error of each hour's log, broadcast to (S, H).
    """
    usual = seasonal(log, start_s, error=error)
    known = ~np.isnan(usual.z)
    width = log.shape[1]
    return Reading(
        log=log,
        usual=usual,
        residual=residuals(usual.z, fit=max(width - UNFITTED, 0)),
        newest=np.max(np.where(known, np.arange(width), -1), axis=1, initial=-1),
        hours=known.sum(axis=1),
    )


def shifts(
    reading: Reading, *, min_hours: int, alarm: float = ALARM, horizon: int = HORIZON
) -> pd.DataFrame:
    """The shifts that last until now, one row for each series and side.

    Columns: row (of the reading), side (1 up, -1 down), onset and newest (columns), height of the
    cumulative sum, p_value (of such a height within the horizon, without a change), shift_z
    (median score since the onset), ratio (median factor since then), before (median usual value,
    as a value, not a log), hours (scores before the onset), confirmed (whether least squares put a
    change point within ``SAME_CHANGE`` hours of the onset).

    Args:
        reading: of one measure.
        min_hours: scores a series needs before the onset.
        alarm: height from which a run is reported.
        horizon: hours within which it must have begun.

    Examples:
        >>> hours = 3600 * np.arange(240)
        >>> log = 0.1 * np.cos(np.arange(240) * 2.4)[None, :]
        >>> shifts(read(log, hours), min_hours=72).empty
        True
        >>> log[0, 230:] += 0.5
        >>> shifts(read(log, hours), min_hours=72)[["side", "onset"]].to_numpy().tolist()
        [[1, 230]]
    """
    width = reading.log.shape[1]
    if not reading.log.size:
        return pd.DataFrame(columns=list(SHIFT_COLUMNS))
    frames = []
    for side in (1, -1):
        rows = high(side * reading.residual, alarm)
        runs = cusum(side * reading.residual[rows])
        height, began = runs.height[:, -1], runs.onset[:, -1]
        told = (height >= alarm) & (began >= width - horizon)
        rows, height, began = rows[told], height[told], began[told]
        onset = [
            _onset(side * reading.usual.z[row], int(start), int(reading.newest[row]))
            for row, start in zip(rows, began, strict=True)
        ]
        frames.append(
            pd.DataFrame(
                {
                    "row": rows,
                    "side": side,
                    "onset": np.asarray(onset, dtype=np.int64),
                    "newest": reading.newest[rows],
                    "height": height,
                    "p_value": chance(height, hours=horizon),
                }
            )
        )
    found = pd.concat(frames, ignore_index=True)
    return _sized(reading, found[found["onset"] >= width - horizon], min_hours)


def _onset(z: FloatArray, began: int, newest: int) -> int:
    """Where two levels fit the hours around a run best, the later one above the earlier.

    The run itself begins too early where chance went up before the change, and too late where
    the change is so old that the sum has been at zero since.

    References:
        Least squares for one change of level: Hinkley (1970), Biometrika 57:1.
    """
    first = max(began - LOOKBACK, 0)
    part = z[first : newest + 1]
    known = np.flatnonzero(~np.isnan(part))
    values = np.clip(part[known], -CLIP, CLIP)
    later = np.arange(values.size - 1, SHORTEST - 1, -1.0)
    earlier = values.size - later
    before = np.cumsum(values)[: later.size]
    rise = (values.sum() - before) / later - before / earlier
    gain = rise * np.sqrt(earlier * later)
    return first + int(known[gain.argmax() + 1]) if gain.size else began


def _sized(reading: Reading, found: pd.DataFrame, min_hours: int) -> pd.DataFrame:
    """The shifts that last, are large enough to be one, and have enough hours before them."""
    rows, onset = found["row"].to_numpy(), found["onset"].to_numpy()
    since = np.arange(reading.log.shape[1]) >= onset[:, None]
    known = ~np.isnan(reading.usual.z[rows])
    after = since & known
    centre = reading.usual.centre[rows]
    found = found.assign(
        shift_z=_median_where(reading.usual.z[rows], after),
        ratio=np.exp(_median_where(reading.log[rows] - centre, after)),
        before=np.exp(_median_where(centre, after)),
        hours=(known & ~since).sum(axis=1),
    )
    lasting = found["side"] * found["shift_z"] >= LEAST_SHIFT
    found = found[lasting & (found["hours"] >= min_hours)].reset_index(drop=True)
    confirmed = [
        any(abs(point - onset) <= SAME_CHANGE for point in change_points(reading.residual[row]))
        for row, onset in zip(found["row"], found["onset"], strict=True)
    ]
    return found.assign(confirmed=np.asarray(confirmed, dtype=np.bool_))[list(SHIFT_COLUMNS)]


def _median_where(values: FloatArray, chosen: BoolArray) -> FloatArray:
    """The median of each row's chosen values; every row has one: an onset is a known hour."""
    if not values.size:
        return np.zeros(len(values))
    return np.asarray(np.nanmedian(np.where(chosen, values, np.nan), axis=1))


def outliers(
    reading: Reading,
    *,
    min_hours: int,
    single: float = 5.0,
    lasting: float = 3.5,
    hours: int = 3,
) -> pd.DataFrame:
    """Series whose newest hour, or newest few hours, are unlike any before.

    Columns: row, newest (column), z, lasted (hours on that side beyond ``lasting``), value and
    before (the usual one), both as values, not logs. Hourly noise has heavier tails than a normal
    variable: an hour is an outlier only if no earlier one of its series was as far away.

    Args:
        reading: of one measure.
        min_hours: scores a series needs.
        single: score from which one hour is unusual.
        lasting: score from which ``hours`` in a row are.
        hours: how many; a series that ended longer ago has no newest hour.
    """
    width = reading.log.shape[1]
    fresh = reading.newest >= max(width - hours, hours)
    usable = (reading.hours >= min_hours) & fresh
    rows = np.flatnonzero(usable)
    newest = reading.newest[rows]
    z = reading.usual.z[rows]
    last = z[np.arange(rows.size)[:, None], newest[:, None] - np.arange(hours)]
    side = np.sign(last[:, 0])
    run = np.cumprod(side[:, None] * last > lasting, axis=1).sum(axis=1)
    earlier = np.arange(width) <= (newest - hours)[:, None]
    record = np.max(np.abs(np.where(earlier & ~np.isnan(z), z, 0.0)), axis=1, initial=0.0)
    now = np.abs(last[:, 0])
    unusual = ((now > single) | (run >= hours)) & (now > record)
    chosen, column = rows[unusual], newest[unusual]
    return pd.DataFrame(
        {
            "row": chosen,
            "newest": column,
            "z": last[unusual, 0],
            "lasted": run[unusual],
            "value": np.exp(reading.log[chosen, column]),
            "before": np.exp(reading.usual.centre[chosen, column]),
        }
    )


def discoveries(p_values: npt.ArrayLike, *, tests: int, level: float = 0.05) -> BoolArray:
    """Which of the smallest p-values of so many tests are discoveries, shape (P,).

    Args:
        p_values: of the tests that were looked at; those left out had larger ones.
        tests: how many were made in all.
        level: expected share of false ones among the discoveries.

    References:
        Benjamini and Hochberg (1995), J. R. Statist. Soc. B 57:289.

    Examples:
        >>> discoveries([0.001, 0.03, 0.2], tests=4).tolist()
        [True, False, False]
    """
    p = np.asarray(p_values, dtype=np.float64)
    left_out = np.ones(max(tests - p.size, 0))
    adjusted = stats.false_discovery_control(np.concatenate([p, left_out]))
    return np.asarray(adjusted[: p.size] <= level)
