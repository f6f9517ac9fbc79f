"""The newest hours of every target and arm against the same hours of the days before.

Anomalies and drift share the time line: what began in the last three hours is an anomaly, what
lasts longer is a shift, and an hour of a lasting shift is an anomaly only if it is unusual beside
that shift as well. So no change is told by both. An anomaly is a reason to look, never one to
promote or to roll back.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.analyzers.anomaly.insights import TRAFFIC, alone, insufficient, together
from optimizer.analyzers.anomaly.scopes import scoped, with_scopes
from optimizer.evidence import Insight, Scene, Severity
from optimizer.metrics import HOUR_S
from optimizer.statistics import arms
from optimizer.statistics.anomalies import (
    ANOMALY_MEASURES,
    HOURS,
    LASTING,
    SINGLE,
    Newest,
    lasting_shifts,
    like_hourly,
    newest_outliers,
    volume,
)
from optimizer.statistics.hourly import COLUMNS, MEASURES, Hourly, Measure, hourly
from optimizer.statistics.runs import ALARM
from optimizer.statistics.shifts import discoveries, read, shifts

BoolArray = npt.NDArray[np.bool_]

MIN_LABELS: Final = 30
TYPICAL, TAIL = "latency_ms", "latency_tail_ms"
"""The tail of latencies whose typical one is told already says nothing new."""
KEY: Final = ["target", "arm", "measure"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """Insights on newest hours that are unlike those before.

    min_requests: below it an hour says nothing, nor does a target that usually has fewer;
    min_hours: hours at the same times of day that make a usual one; single, lasting: scores from
    which one hour, and three in a row, are unusual; change_min: smallest relative change that
    matters; false_share: expected share of false ones among the anomalies of a run; shift_hours,
    alarm: hours before a lasting shift and the height of its cumulative sum, those of drift.
    """

    min_requests: int = 100
    min_hours: int = 20
    single: float = SINGLE
    lasting: float = LASTING
    change_min: float = 0.05
    false_share: float = 0.05
    shift_hours: int = 96
    alarm: float = ALARM

    def __call__(self, scene: Scene) -> tuple[Insight, ...]:
        """The insights, most severe first, then by target, arm and kind."""
        end_s = int(scene.now.timestamp()) // HOUR_S * HOUR_S
        if scene.hours.empty:
            return ()
        start_s = min(int(scene.hours["window_start_s"].min()) // HOUR_S * HOUR_S, end_s)
        columns = (*COLUMNS, "n_fallback")
        every = like_hourly(scene.hours, start_s=start_s, end_s=end_s, columns=columns)
        series = _chosen(every, every.keys["target"].isin(list(scene.targets)).to_numpy())
        if series.keys.empty:
            return ()
        newest, keys_of = {}, {}
        newest[TRAFFIC], keys_of[TRAFFIC] = self._traffic(series)
        for name, measure in ANOMALY_MEASURES.items():
            read_ = self._known(name, measure(series.sums), series, scene)
            newest[name], keys_of[name] = self._unusual(read_, series), series.keys
        found = pd.concat(
            [_named(newest[name].found, keys_of[name], name) for name in newest],
            ignore_index=True,
        )
        tests = sum(int(each.judged.sum()) for each in newest.values())
        told = self._told(found, tests, scene, (start_s, end_s))
        judged = {
            name: with_scopes(keys_of[name][newest[name].judged], scene.targets)
            for name in told["measure"].unique()
        }
        scopes, left = scoped(with_scopes(told, scene.targets), judged)
        insights = [
            *map(together, scopes),
            *map(alone, arms.rows(left)),
            *self._insufficient(series, end_s),
        ]
        rank = list(Severity)
        return tuple(
            sorted(
                insights,
                key=lambda i: (
                    *(-rank.index(i.severity), i.target, i.arm or "", i.kind),
                    *(i.metric or "", i.title),
                ),
            )
        )

    def _unusual(self, measure: Measure, series: Hourly) -> Newest:
        return newest_outliers(
            measure,
            series.start_s,
            min_hours=self.min_hours,
            single=self.single,
            lasting=self.lasting,
        )

    def _traffic(self, series: Hourly) -> tuple[Newest, pd.DataFrame]:
        """The newest hours of each target's requests, all arms together, and whose they are."""
        names, first = np.unique(series.keys["target"].to_numpy(dtype=object), return_index=True)
        n = np.add.reduceat(series.sums["n"], first, axis=0)
        usual = np.median(n[:, :-HOURS], axis=1) if n.shape[1] > HOURS else np.zeros(len(n))
        # Before its first request a target was not there: unknown, where a gap later is no traffic.
        there = (np.cumsum(n, axis=1) > 0) & (usual >= self.min_requests)[:, None]
        measure = volume(n, usual[:, None])
        known = replace(measure, log=np.where(there, measure.log, np.nan))
        keys = pd.DataFrame({"target": pd.Series(names, dtype="str")}).assign(arm="")
        newest = self._unusual(known, series)
        # The half that keeps a logarithm of no request finite is no request.
        whole = newest.found.assign(
            value=newest.found["value"] - 0.5, before=newest.found["before"] - 0.5
        )
        return replace(newest, found=whole), keys

    def _known(self, name: str, measure: Measure, series: Hourly, scene: Scene) -> Measure:
        """The measure where its hours have enough rows, and scores that are mature."""
        least = MIN_LABELS if name == "quality" else self.min_requests
        log = np.where(measure.count >= least, measure.log, np.nan)
        if name == "quality":
            log = np.where(_mature(series, scene), log, np.nan)
        return replace(measure, log=log)

    def _told(
        self, found: pd.DataFrame, tests: int, scene: Scene, span_s: tuple[int, int]
    ) -> pd.DataFrame:
        """The anomalies that are discoveries, matter, and are no part of something told already."""
        real = discoveries(found["p_value"], tests=tests, level=self.false_share)
        change = (found["value"] / found["before"] - 1.0).abs()
        found = found[real & (change >= self.change_min)].reset_index(drop=True)
        if found.empty:
            return found
        typical = found[found["measure"] == TYPICAL]
        twice = _pairs(found).isin(_pairs(typical)) & (found["measure"] == TAIL)
        found = found[~twice]
        beside = found.merge(self._shifts(found, scene, span_s), on=KEY, how="left")
        # By change and not by score: the two have other hours to be usual in, and other spreads.
        shifted = beside["ratio"].notna()
        moved = np.log(beside["value"].where(shifted, np.e) / beside["before"].where(shifted, 1.0))
        further = beside["z"].abs() * (1.0 - np.log(beside["ratio"].fillna(1.0)) / moved)
        lasting = (beside["lasted"] >= HOURS) & (further > self.lasting)
        told: pd.DataFrame = beside[lasting | (further > self.single)]
        return told.drop(columns="ratio")

    def _shifts(self, found: pd.DataFrame, scene: Scene, span_s: tuple[int, int]) -> pd.DataFrame:
        """Median factor of the lasting shifts of these series: target, arm, measure, ratio."""
        start_s, end_s = span_s
        mine = scene.hours[scene.hours["target"].isin(found["target"].unique())]
        series = hourly(
            arms.within(mine, start_s=start_s, end_s=end_s),
            start_s=start_s,
            end_s=end_s,
            columns=COLUMNS,
        )
        parts = []
        for name, part in found[found["measure"].isin(list(MEASURES))].groupby("measure"):
            these = _chosen(series, _pairs(series.keys).isin(_pairs(part)).to_numpy())
            measure = self._known(str(name), MEASURES[str(name)](these.sums), these, scene)
            width = np.flatnonzero((~np.isnan(measure.log)).any(axis=0)).max(initial=-1) + 1
            reading = read(
                measure.log[:, :width], these.start_s[:width], error=measure.error[:, :width]
            )
            moved = shifts(reading, min_hours=self.shift_hours, alarm=self.alarm)
            lasting = lasting_shifts(reading, moved)
            rows = these.keys.iloc[lasting["row"].to_numpy(dtype=np.int64)]
            parts.append(rows.assign(measure=name, ratio=lasting["ratio"].to_numpy()))
        if not parts:
            return found[KEY].iloc[:0].assign(ratio=np.zeros(0))
        # A series may shift to one side long ago and back since: the later one is the present one.
        return pd.concat(parts).drop_duplicates(KEY, keep="last")

    def _insufficient(self, series: Hourly, end_s: int) -> Sequence[Insight]:
        """Targets whose newest hours are busy, none of whose arms has a usual hour."""
        busy = series.sums["n"] >= self.min_requests
        now, before = busy[:, -HOURS:].sum(axis=1), busy[:, :-HOURS].sum(axis=1)
        table = series.keys.assign(now=now, before=before).groupby("target", sort=True)
        most = table[["now", "before"]].max()
        few = most[(most["now"] > 0) & (most["before"] < self.min_hours)]
        return [
            insufficient(str(name), int(hours), self.min_hours, end_s)
            for name, hours in few["before"].items()
        ]


def _chosen(series: Hourly, kept: BoolArray) -> Hourly:
    """Some of the series."""
    if kept.all():
        return series
    return Hourly(
        keys=series.keys[kept].reset_index(drop=True),
        start_s=series.start_s,
        sums={name: values[kept] for name, values in series.sums.items()},
    )


def _mature(series: Hourly, scene: Scene) -> BoolArray:
    """Which hours are old enough for their quality to count, shape (S, H)."""
    now_s = int(scene.now.timestamp())
    cut = {
        name: now_s - int(policy.label_maturity.total_seconds())
        for name, policy in scene.policies.items()
    }
    limit = series.keys["target"].map(cut).to_numpy(dtype=np.float64)
    return np.asarray(series.start_s + HOUR_S <= limit[:, None], dtype=np.bool_)


def _named(found: pd.DataFrame, keys: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The rows with the keys of their series."""
    names = keys.iloc[found["row"].to_numpy(dtype=np.int64)].reset_index(drop=True)
    return pd.concat([names, found.reset_index(drop=True)], axis=1).assign(measure=measure)


def _pairs(frame: pd.DataFrame) -> pd.Series:
    """Target and arm as one value."""
    return frame["target"].astype(str) + "\n" + frame["arm"].astype(str)
