"""Traffic: when it comes, whether it grows, how it bursts, and which hours of the week are idle.

Nothing is claimed before two whole weeks, and nothing that tells one day from another before four:
with less, one Saturday would be a pattern. All of it is for people and plans; no decision rests on
it. Hours are UTC. An hour without rows counts as an hour without traffic.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.evidence import Insight, Scene, Severity
from optimizer.metrics import HOUR_S, at
from optimizer.statistics import arms
from optimizer.statistics.arms import Row
from optimizer.statistics.seasonal import (
    DAY_HOURS,
    WEEK_HOURS,
    WEEKEND_HOUR,
    hour_of_week,
    seasonal,
)
from optimizer.statistics.weeks import (
    DAY_WEEKS,
    HALF,
    PROFILE_WEEKS,
    WEEK_DAYS,
    Weeks,
    by_day,
    by_week,
    history_of,
    idle_hours,
    longest_run,
    slope_limits,
    strength,
    weekend_ratio,
    weekly_slopes,
    weeks_of,
)

FloatArray = npt.NDArray[np.float64]

NAME: Final = "pattern"
KEPT: Final = (
    *("known_weeks", "requests_per_hour", "peak_per_hour", "low_per_hour", "seasonal_strength"),
    *("weekend_ratio", "growth_per_week", "largest_burst", "bursts", "idle_hours"),
)
"""The numbers every insight of this analyzer carries, where they are known."""
WEEKLY: Final = (
    *("peak_hour", "peak_per_hour", "low_hour", "low_per_hour", "seasonal_strength"),
    *("newest", "usual", "newest_ratio", "newest_z", "bursts", "largest_burst"),
)
"""What the hours of the week say of a target."""
DAILY: Final = (
    *("weekend_ratio", "weekend_least", "weekend_most", "growth_per_week"),
    *("idle_hours", "idle_from", "idle_run"),
)
"""What its days and its empty hours say."""
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ABSENT: Final = "an hour without rows counts as empty: wrong if a source was away then"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Insights on the traffic of each target, all its arms together.

    min_requests: requests a week below which nothing is claimed; peak_min and low_max: how far the
    busiest and the quietest hour must lie from the mean hour, as multiples of it; strength_min:
    share of the scatter of log traffic that the hour of the week must explain; weekend_min:
    relative difference of weekends that counts; growth_min: relative change over four weeks that
    counts; burst_min and z_min: how many times its usual traffic and how unusual a burst is; noise:
    smallest spread of a log.
    """

    min_requests: int = 100
    peak_min: float = 1.5
    low_max: float = 0.5
    strength_min: float = 0.5
    weekend_min: float = 0.3
    growth_min: float = 0.2
    burst_min: float = 2.0
    z_min: float = 4.0
    noise: float = 0.02

    def __call__(self, scene: Scene) -> tuple[Insight, ...]:
        """The insights, most severe first, then by target and kind."""
        table = self.table(scene)
        full = table[(table["weeks"] >= PROFILE_WEEKS) & (table["n"] >= self._enough(table))]
        found = [
            *self._insufficient(table),
            *self._bursts(full),
            *self._profiles(full),
            *self._weekends(full),
            *self._growth(full),
            *_bursty(full),
            *_idle(full),
        ]
        rank = list(Severity)
        return tuple(sorted(found, key=lambda i: (-rank.index(i.severity), i.target, i.kind)))

    def table(self, scene: Scene) -> pd.DataFrame:
        """One row for each target with traffic in the scene's history.

        Columns: weeks (whole ones) and known_weeks; n, the requests of the whole weeks, and their
        mean, peak and low per hour with the hour of the week of each; seasonal_strength;
        weekend_ratio with its least and greatest week; growth_per_week with its 95 % limits; the
        newest hour, its usual value and z; bursts and the largest; idle_hours, the longest run of
        them and its first hour. nan = not known.
        """
        end_s = int(scene.now.timestamp()) // HOUR_S * HOUR_S
        weeks = weeks_of(history_of(scene), end_s=end_s, columns=("n",))
        requests = weeks.sums["n"]
        inside = weeks.whole()
        n = np.where(inside, requests, 0.0).sum(axis=1)
        hours = np.maximum(inside.sum(axis=1), 1)
        table = pd.DataFrame(
            {
                "target": pd.Series(weeks.targets, dtype="str"),
                "weeks": weeks.weeks,
                "known_weeks": (weeks.start_s.size - weeks.first) / WEEK_HOURS,
                "n": n.astype(np.int64),
                "all_n": requests.sum(axis=1).astype(np.int64),
                "requests_per_hour": np.where(weeks.weeks > 0, n / hours, np.nan),
                "start_s": end_s - HOUR_S * np.where(weeks.weeks > 0, hours, WEEK_HOURS),
                "end_s": end_s,
            }
        )
        old = np.flatnonzero(weeks.weeks >= PROFILE_WEEKS)
        known = self._of_weeks(weeks, old) if old.size else {}
        for name in WEEKLY:
            column = np.full(len(table), np.nan)
            column[old] = known.get(name, np.nan)
            table[name] = column
        return self._of_days(table, weeks)

    def _of_weeks(self, weeks: Weeks, rows: npt.NDArray[np.int64]) -> dict[str, FloatArray]:
        """What the hours of the week say of targets with whole weeks, shape (R,) each."""
        requests = np.where(weeks.whole()[rows], weeks.sums["n"][rows], np.nan)
        log = np.log(requests + HALF)
        usual = seasonal(log, weeks.start_s, error=1.0 / np.sqrt(requests + HALF), noise=self.noise)
        level = np.exp(usual.centre[:, -WEEK_HOURS:]) - HALF
        level = level[:, np.argsort(hour_of_week(weeks.start_s[-WEEK_HOURS:]))]
        ratio = np.exp(log - usual.centre)
        burst = (ratio >= self.burst_min) & (usual.z >= self.z_min)
        return {
            "peak_hour": level.argmax(axis=1).astype(np.float64),
            "peak_per_hour": level.max(axis=1),
            "low_hour": level.argmin(axis=1).astype(np.float64),
            "low_per_hour": np.maximum(level.min(axis=1), 0.0),
            "seasonal_strength": strength(log, usual),
            "newest": requests[:, -1],
            "usual": np.exp(usual.centre[:, -1]) - HALF,
            "newest_ratio": ratio[:, -1],
            "newest_z": usual.z[:, -1],
            "bursts": burst.sum(axis=1).astype(np.float64),
            "largest_burst": np.where(burst, ratio, 0.0).max(axis=1),
        }

    def _of_days(self, table: pd.DataFrame, weeks: Weeks) -> pd.DataFrame:
        """The table with weekends, growth and idle hours, which weeks of one length share."""
        values = {name: np.full(len(table), np.nan) for name in DAILY}
        requests = weeks.sums["n"]
        for age, rows in weeks.by_age():
            block = by_week(weeks, requests, age, rows)
            idle = idle_hours(block)
            values["idle_hours"][rows] = idle.sum(axis=1)
            values["idle_from"][rows], values["idle_run"][rows] = longest_run(idle)
            if age >= DAY_WEEKS:
                ratio = weekend_ratio(block)
                values["weekend_ratio"][rows] = np.median(ratio, axis=1)
                values["weekend_least"][rows] = ratio.min(axis=1)
                values["weekend_most"][rows] = ratio.max(axis=1)
                days = np.log(by_day(requests[rows], age * WEEK_DAYS) + HALF)
                values["growth_per_week"][rows] = np.expm1(weekly_slopes(days))
        grown = (1.0 + values["growth_per_week"]) ** DAY_WEEKS - 1.0
        limits = np.full((len(table), 2), np.nan)
        worth = (np.abs(grown) >= self.growth_min) & (table["n"] >= self._enough(table)).to_numpy()
        for row in np.flatnonzero(worth).tolist():
            age = int(weeks.weeks[row])
            days = np.log(by_day(requests[[row]], age * WEEK_DAYS)[0] + HALF)
            limits[row] = np.expm1(slope_limits(days))
        return table.assign(
            **values, grown=grown, growth_low=limits[:, 0], growth_high=limits[:, 1]
        )

    def _enough(self, table: pd.DataFrame) -> pd.Series:
        return self.min_requests * table["weeks"].clip(lower=1)

    def _insufficient(self, table: pd.DataFrame) -> Sequence[Insight]:
        young = table[table["weeks"] < PROFILE_WEEKS]
        quiet = table[(table["weeks"] >= PROFILE_WEEKS) & (table["n"] < self._enough(table))]
        return [
            *(
                _insight(
                    row,
                    "insufficient_data",
                    title=f"{row.known_weeks:.1f} weeks of traffic, {PROFILE_WEEKS} whole ones are "
                    "needed for a pattern",
                    text="when its traffic comes is unknown, not even",
                    value=row.known_weeks,
                    limit=PROFILE_WEEKS,
                    caveat="older hours may have been forgotten",
                )
                for row in arms.rows(young)
            ),
            *(
                _insight(
                    row,
                    "insufficient_data",
                    title=f"{row.n} requests in {row.weeks} weeks, {self.min_requests} a week are "
                    "needed for a pattern",
                    text="too few requests to tell when they come",
                    value=row.n / row.weeks,
                    limit=self.min_requests,
                    caveat="late rows may still arrive",
                )
                for row in arms.rows(quiet)
            ),
        ]

    def _bursts(self, full: pd.DataFrame) -> Sequence[Insight]:
        now = (full["newest_ratio"] >= self.burst_min) & (full["newest_z"] >= self.z_min)
        return [
            _insight(
                row,
                "traffic_burst",
                severity=Severity.WARNING,
                title=f"{row.newest:.0f} requests in the newest hour, usually {row.usual:.0f} "
                f"({row.newest_ratio:.1f} times, z = {row.newest_z:.1f})",
                text=f"against the median of the same hours of {row.weeks} weeks",
                value=row.newest,
                limit=row.usual,
                caveat="wrong if this hour is a campaign or holiday that the weeks before lack",
                start_s=row.end_s - HOUR_S,
            )
            for row in arms.rows(full[now])
        ]

    def _profiles(self, full: pd.DataFrame) -> Sequence[Insight]:
        uneven = (full["peak_per_hour"] >= self.peak_min * full["requests_per_hour"]) | (
            full["low_per_hour"] <= self.low_max * full["requests_per_hour"]
        )
        shown = full[uneven & (full["seasonal_strength"] >= self.strength_min)]
        return [
            _insight(
                row,
                "temporal_pattern",
                title=f"busiest {_hour(row.peak_hour, row.weeks)} with {row.peak_per_hour:.0f} "
                f"requests an hour, quietest {_hour(row.low_hour, row.weeks)} with "
                f"{row.low_per_hour:.0f}; the mean hour has {row.requests_per_hour:.0f}",
                text=f"medians of {row.weeks} whole weeks; the hour explains "
                f"{row.seasonal_strength:.0%} of the scatter of log traffic",
                value=row.peak_per_hour,
                limit=row.requests_per_hour,
                caveat="wrong if these weeks held a holiday or a launch"
                + ("" if row.weeks >= DAY_WEEKS else "; weekdays are not told apart yet"),
            )
            for row in arms.rows(shown)
        ]

    def _weekends(self, full: pd.DataFrame) -> Sequence[Insight]:
        """Weekends that differ in the median week, and by half as much in every single one."""
        ratio, half = full["weekend_ratio"], self.weekend_min / 2
        quiet = (ratio <= 1 - self.weekend_min) & (full["weekend_most"] <= 1 - half)
        busy = (ratio >= 1 + self.weekend_min) & (full["weekend_least"] >= 1 + half)
        return [
            _insight(
                row,
                "weekly_pattern",
                title=f"a weekend's day has {row.weekend_ratio:.0%} of a working day's requests",
                text=f"median of {row.weeks} weeks, each between {row.weekend_least:.0%} and "
                f"{row.weekend_most:.0%}",
                value=row.weekend_ratio,
                limit=1.0,
                caveat="days are UTC: wrong by hours where users live far from Greenwich",
            )
            for row in arms.rows(full[quiet | busy])
        ]

    def _growth(self, full: pd.DataFrame) -> Sequence[Insight]:
        certain = (np.abs(full["grown"]) >= self.growth_min) & (
            (full["growth_low"] > 0) | (full["growth_high"] < 0)
        )
        return [
            _insight(
                row,
                "traffic_growth",
                severity=Severity.WARNING if row.grown >= 1 else Severity.INFO,
                title=f"traffic {'grows' if row.grown > 0 else 'shrinks'} by "
                f"{abs(row.growth_per_week):.1%} a week, {row.grown:+.0%} in four",
                text=f"median slope between equal weekdays of {row.weeks} weeks, 95 % interval "
                f"[{row.growth_low:+.1%}, {row.growth_high:+.1%}] a week",
                value=row.growth_per_week,
                limit=0.0,
                caveat="wrong if traffic moved in one step; the interval takes days to be "
                "independent of each other",
            )
            for row in arms.rows(full[certain])
        ]


def _bursty(full: pd.DataFrame) -> Iterable[Insight]:
    return [
        _insight(
            row,
            "request_pattern",
            title=f"{row.bursts:.0f} hours of {row.weeks} weeks were bursts, the largest of "
            f"{row.largest_burst:.1f} times its usual traffic",
            text="hours against the median of the same hours of the week",
            value=row.largest_burst,
            limit=1.0,
            caveat="a sum over an hour: bursts of minutes are higher",
        )
        for row in arms.rows(full[full["bursts"] > 0])
    ]


def _idle(full: pd.DataFrame) -> Iterable[Insight]:
    return [
        _insight(
            row,
            "idle_hours",
            title=f"no requests in {row.idle_hours:.0f} hours of the week, the longest run of "
            f"{row.idle_run:.0f} from {_day_and_hour(int(row.idle_from))}",
            text=f"so in each of {row.weeks} whole weeks",
            value=row.idle_hours,
            limit=0.0,
            caveat=ABSENT,
        )
        for row in arms.rows(full[full["idle_hours"] > 0])
    ]


def _day_and_hour(hour: int) -> str:
    return f"{DAYS[hour // DAY_HOURS]} {hour % DAY_HOURS:02d}:00 UTC"


def _hour(hour: float, weeks: int) -> str:
    """The hour of the week as people say it, no finer than the weeks allow."""
    if weeks >= DAY_WEEKS:
        return f"on {_day_and_hour(int(hour))}"
    kind = "weekends" if hour >= WEEKEND_HOUR else "working days"
    return f"at {int(hour) % DAY_HOURS:02d}:00 UTC on {kind}"


def _insight(  # noqa: PLR0913 - an insight has this many independent parts
    row: Row,
    kind: str,
    *,
    title: str,
    text: str,
    value: float,
    limit: float,
    caveat: str,
    severity: Severity = Severity.INFO,
    start_s: int | None = None,
) -> Insight:
    numbers = {name: float(getattr(row, name)) for name in KEPT}
    return Insight(
        analyzer=NAME,
        kind=kind,
        severity=severity,
        target=row.target,
        title=title,
        description=f"{row.target}: {text}",
        value=float(value),
        limit=float(limit),
        n=int(row.n or row.all_n),
        start=at(int(row.start_s if start_s is None else start_s)),
        end=at(int(row.end_s)),
        caveat=caveat,
        metrics={name: number for name, number in numbers.items() if np.isfinite(number)},
    )
