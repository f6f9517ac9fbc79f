"""Money spent and money to come: the newest hour, the UTC day and the calendar month.

The laws kept here: multiplying all costs by a constant multiplies every sum, forecast and limit; a
target's numbers depend on its own rows alone. Only known costs are added up.
"""

from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.metrics import DAY_S, HOUR_S
from optimizer.statistics.seasonal import DAY_HOURS, WEEK_HOURS, hour_of_week
from optimizer.statistics.weeks import PROFILE_WEEKS, Weeks, profile

FloatArray = npt.NDArray[np.float64]

Z_95: Final = 1.959963984540054
ENOUGH_HOURS: Final = 3
ENOUGH_DAYS: Final = 3
"""Whole days from which their scatter says how far a month may go astray."""
NUSD: Final = 1e-9


def day_of(table: pd.DataFrame, hourly: pd.DataFrame, now_s: int) -> pd.DataFrame:
    """The table with spend so far and the forecast of the UTC day.

    The hours left of today are taken to cost what the same hours cost in the last 24; their
    uncertainty is the scatter of those 24 hours, hour by hour independent. A target without a whole
    day of history is forecast at its mean hour.

    Args:
        table: one row a target.
        hourly: target, window_start_s and spend_usd, one row a target and hour before ``now_s``.
        now_s: a whole hour, Unix seconds.
    """
    begin = hourly["window_start_s"]
    spend = hourly["spend_usd"]
    midnight = now_s // DAY_S * DAY_S
    last_day = hourly[begin >= now_s - DAY_S].groupby("target")
    left = (midnight + DAY_S - now_s) // HOUR_S
    # Yesterday's hours from this time of day until midnight.
    same = hourly[(begin >= now_s - DAY_S) & (begin < midnight)]
    newest = begin.groupby(hourly["target"]).max()
    newest_spend = spend[begin == hourly["target"].map(newest)].groupby(hourly["target"]).sum()
    index = table["target"]
    profile_hours = index.map(last_day["window_start_s"].nunique()).to_numpy(dtype=np.float64)
    first = index.map(hourly.groupby("target")["window_start_s"].min()).to_numpy(dtype=np.float64)
    today = index.map(spend[begin >= midnight].groupby(hourly["target"]).sum()).fillna(0.0)
    mean = index.map(last_day["spend_usd"].sum()).to_numpy(dtype=np.float64) / np.maximum(
        np.minimum(24.0, (now_s - first) / HOUR_S), 1.0
    )
    as_before = index.map(same.groupby("target")["spend_usd"].sum()).fillna(0.0).to_numpy(float)
    rest = np.where(first <= now_s - DAY_S, as_before, mean * left)
    scatter = index.map(last_day["spend_usd"].std()).to_numpy(dtype=np.float64)
    half = np.where(profile_hours >= ENOUGH_HOURS, Z_95 * scatter * np.sqrt(left), np.nan)
    forecast = today.to_numpy(dtype=np.float64) + rest
    return table.assign(
        newest_s=index.map(newest),
        hour_usd=index.map(newest_spend),
        day_usd=index.map(last_day["spend_usd"].sum()),
        today_usd=today,
        forecast_usd=forecast,
        forecast_low_usd=np.maximum(today.to_numpy(dtype=np.float64), forecast - half),
        forecast_high_usd=forecast + half,
        profile_hours=profile_hours.astype(np.int64),
    )


def month_of(weeks: Weeks, now: datetime) -> pd.DataFrame:
    """Spend of the calendar month (UTC) so far and its forecast, one row a target.

    Each hour left costs what its hour of the week did in the target's whole weeks; with fewer than
    two of them, what its mean hour did. The limits are those of 95 %: the scatter of whole days
    around that expectation, for the days to come and for the days the expectation rests on; nan
    with fewer than three whole days. Days are taken to be independent, so that a lasting change of
    level is not in the interval.

    Args:
        weeks: sums ``cost_nusd`` of the hours before ``now``.
        now: a whole hour or later; hours end at the last whole one.

    Returns:
        Columns target, month_usd, month_forecast_usd, month_low_usd, month_high_usd, month_weeks
        (whole weeks it rests on; 0 = the mean hour), month_days (whole days known) and
        month_since_s (the first hour that is counted).
    """
    spent = weeks.sums["cost_nusd"] * NUSD
    now_s = int(now.timestamp()) // HOUR_S * HOUR_S
    first_s, end_s = _month(now)
    left = np.arange(now_s, end_s, HOUR_S)
    width = weeks.start_s.size
    so_far = spent[:, weeks.start_s >= first_s].sum(axis=1)
    usual = profile(weeks, spent)
    known_hours = np.maximum(width - weeks.first, 1)
    mean = spent.sum(axis=1) / known_hours
    of_week = np.bincount(hour_of_week(left), minlength=WEEK_HOURS).astype(np.float64)
    seasonal = weeks.weeks >= PROFILE_WEEKS
    usual = np.where(seasonal[:, None], usual, mean[:, None])
    whole_days = np.where(seasonal, 7 * weeks.weeks, known_hours // DAY_HOURS)
    scatter = _scatter_of_days(weeks, spent, usual, seasonal)
    ahead = left.size / DAY_HOURS
    half = Z_95 * scatter * np.sqrt(ahead + ahead**2 / np.maximum(whole_days, 1))
    half = np.where(whole_days >= ENOUGH_DAYS, half, np.nan)
    forecast = so_far + usual @ of_week
    start_s = now_s - HOUR_S * (width - weeks.first)
    return pd.DataFrame(
        {
            "target": pd.Series(weeks.targets, dtype="str"),
            "month_usd": so_far,
            "month_forecast_usd": forecast,
            "month_low_usd": np.maximum(so_far, forecast - half),
            "month_high_usd": forecast + half,
            "month_weeks": np.where(seasonal, weeks.weeks, 0),
            "month_days": whole_days,
            "month_since_s": np.maximum(start_s, first_s),
        }
    )


def _month(now: datetime) -> tuple[int, int]:
    """First second of the month of ``now`` and of the next one, UTC."""
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    year, month = divmod(first.month, 12)
    following = first.replace(year=first.year + year, month=month + 1)
    return int(first.timestamp()), int(following.timestamp())


def _scatter_of_days(
    weeks: Weeks, spent: FloatArray, usual: FloatArray, seasonal: npt.NDArray[np.bool_]
) -> FloatArray:
    """The standard deviation of whole days around what was expected of them, shape (S,)."""
    days = spent.shape[1] // DAY_HOURS
    if not days:
        return np.full(len(spent), np.nan)
    tail = slice(spent.shape[1] - days * DAY_HOURS, None)
    away = spent[:, tail] - usual[:, hour_of_week(weeks.start_s[tail])]
    known = np.where(seasonal[:, None], weeks.whole()[:, tail], weeks.since_first()[:, tail])
    by_day = (len(spent), days, DAY_HOURS)
    whole = known.reshape(by_day).all(axis=2)
    sums = np.where(whole, away.reshape(by_day).sum(axis=2), 0.0)
    spread = (sums**2).sum(axis=1) / np.maximum(whole.sum(axis=1) - 1, 1)
    return np.asarray(np.sqrt(spread), dtype=np.float64)
