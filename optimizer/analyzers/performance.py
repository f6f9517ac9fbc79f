"""Speed, failures and traffic of the arm in force, hour against hour.

The newest fresh hour of each target is compared with the policy's limits and with the same target's
trailing hours: by median and MAD of logarithms where there are enough hours, else by the median and
twice the hour's own sampling error. Too few requests are reported as such, never as fine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.evidence import Insight, Scene, Severity
from optimizer.metrics import DAY_S, HOUR_S, at
from optimizer.statistics import arms
from optimizer.statistics.arms import Row

NAME: Final = "performance"
SERIES: Final = ("p95_ms", "failure_share")
LABELS: Final[Mapping[str, tuple[str, str]]] = {
    "p95_ms": ("latency_ms", "p95 latency, ms"),
    "failure_share": ("failure_rate", "failure share"),
}
KEPT: Final = (
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "latency_ms",
    "failure_rate",
    "failure_low",
    "failure_high",
    "timeout_rate",
    "fallback_rate",
    "requests_per_hour",
)
"""The numbers every insight of this analyzer carries, where they are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Performance:
    """Insights on the newest fresh hour of each target.

    min_requests: below it an hour says nothing; min_hours: trailing hours from which their median
    is the reference; days: how far back; z_min: how unusual and rise_min: how much worse, relative,
    a regression is; critical_rise: from which it is critical; drop: relative loss of traffic that
    counts; noise: smallest spread of a log, so that a flat history does not make every hour
    unusual; waste_max: share of tokens that may go to failed calls; fallback_max: share of requests
    that may be served by another model.
    """

    min_requests: int = 100
    min_hours: int = 24
    days: int = 7
    z_min: float = 4.0
    rise_min: float = 0.2
    critical_rise: float = 0.5
    drop: float = 0.5
    noise: float = 0.02
    waste_max: float = 0.05
    fallback_max: float = 0.05

    def __call__(self, scene: Scene) -> tuple[Insight, ...]:
        """The insights, most severe first, then by target and kind."""
        table = self.table(scene)
        found = [
            *self._contradicting(scene),
            *_silent(table),
            *self._insufficient(table),
            *_over_limit(table, self.min_requests),
            *self._regressions(table),
            *self._traffic(table),
            *self._waste(table),
        ]
        rank = list(Severity)
        return tuple(sorted(found, key=lambda i: (-rank.index(i.severity), i.target, i.kind)))

    def table(self, scene: Scene) -> pd.DataFrame:
        """One row for each target with traffic in the trailing days: its newest hour and history.

        Columns: those of :func:`optimizer.statistics.arms.measured` for the arm in force, its
        ``requests_per_hour``, the limits, ``fresh`` (whether the hour is recent enough), and for
        p95_ms, failure_share and traffic the reference, z-score and what it rests on.
        """
        now_s = int(scene.now.timestamp())
        limits = _limits(scene)
        recent = arms.within(scene.hours, start_s=now_s - self.days * DAY_S, end_s=now_s)
        recent = recent[recent["target"].isin(limits["target"])]
        in_force = dict(zip(limits["target"], limits["in_force"], strict=True))
        served = arms.serving(recent, in_force)
        hourly = _hourly(served)
        traffic = recent.groupby(["target", "window_start_s"], sort=True)["n"].sum().reset_index()
        traffic = traffic.astype({"target": "str"})
        newest = traffic.groupby("target")["window_start_s"].max()
        current = traffic[traffic["window_start_s"] == traffic["target"].map(newest)]
        current = current.rename(columns={"n": "target_n"})
        table = current.merge(hourly, on=["target", "window_start_s"], how="left")
        table = table.merge(limits, on="target", how="left")
        table = table.assign(
            n=table["n"].fillna(0).astype(np.int64),
            requests_per_hour=table["target_n"].astype(np.float64),
            fresh=table["window_start_s"] + HOUR_S > table["fresh_s"],
        )
        busy = hourly[hourly["n"] >= self.min_requests]
        for column in SERIES:
            table = self._compared(table, busy, column)
        traffic = traffic.assign(requests_per_hour=traffic["n"].astype(np.float64))
        return self._compared(table, traffic, "requests_per_hour")

    def _compared(self, table: pd.DataFrame, series: pd.DataFrame, column: str) -> pd.DataFrame:
        """The table with a column's trailing reference, z-score and number of hours."""
        before = table.set_index("target")["window_start_s"]
        history = arms.trailing(series, column, key="target", before=before)
        history = history.reindex(table["target"]).set_index(table.index)
        value = table[column].to_numpy(dtype=np.float64)
        log = np.log(np.where(value > 0, value, np.nan))
        centre = history["centre"].to_numpy()
        hours = history["count"].fillna(0).to_numpy(dtype=np.int64)
        spread = np.maximum(history["spread"].to_numpy(), self.noise)
        # A short history has no spread of its own: the hour's sampling error takes its place.
        error = _sampling_error(table, column)
        spread = np.where(hours >= self.min_hours, np.maximum(spread, error / 2), 2 * error)
        return table.assign(
            **{
                f"{column}_reference": np.exp(centre),
                f"{column}_z": (log - centre) / spread,
                f"{column}_hours": hours,
            }
        )

    def _contradicting(self, scene: Scene) -> Sequence[Insight]:
        """Targets whose aggregates cannot be true, and which are therefore left out."""
        now_s = int(scene.now.timestamp())
        begin = scene.hours["window_start_s"]
        recent = scene.hours[(begin >= now_s - self.days * DAY_S) & (begin + HOUR_S <= now_s)]
        return [
            Insight(
                analyzer=NAME,
                kind="contradicting_data",
                severity=Severity.ERROR,
                target=name,
                title="aggregates contradict themselves",
                description=f"{name}: a count is negative or larger than its whole; the target is "
                "left out until that hour is aggregated again",
                start=at(now_s - self.days * DAY_S),
                end=scene.now,
                caveat="says nothing about the arm itself",
            )
            for name in sorted(arms.contradicting(recent))
            if name in scene.targets
        ]

    def _insufficient(self, table: pd.DataFrame) -> Sequence[Insight]:
        rows = table[table["fresh"] & (table["n"] < self.min_requests)]
        return [
            _insight(
                row,
                "insufficient_data",
                Severity.INFO,
                title=f"{row.n} requests, {self.min_requests} are needed to judge an hour",
                text="the arm in force had too little traffic: this hour is unknown, not fine",
                value=row.n,
                limit=self.min_requests,
                caveat="late rows may still arrive",
            )
            for row in arms.rows(rows)
        ]

    def _regressions(self, table: pd.DataFrame) -> Sequence[Insight]:
        found = []
        for column in SERIES:
            rise = table[column] / table[f"{column}_reference"] - 1.0
            worse = (
                table["fresh"]
                & (table["n"] >= self.min_requests)
                & (table[f"{column}_z"] >= self.z_min)
                & (rise >= self.rise_min)
            )
            found += [self._regression(row, column) for row in arms.rows(table[worse])]
        return found

    def _regression(self, row: Row, column: str) -> Insight:
        metric, label = LABELS[column]
        value, reference = getattr(row, column), getattr(row, f"{column}_reference")
        z, hours = getattr(row, f"{column}_z"), getattr(row, f"{column}_hours")
        rise = value / reference - 1.0
        basis = "median and MAD of" if hours >= self.min_hours else "median and sampling error of"
        return _insight(
            row,
            "regression_detected",
            Severity.CRITICAL if rise > self.critical_rise else Severity.ERROR,
            title=f"{label} {value:.4g}, usually {reference:.4g} ({rise:+.0%}, z = {z:.1f})",
            text=f"compared with {basis} {hours} trailing hours of the same arm",
            metric=metric,
            value=value,
            limit=reference,
            caveat="wrong if the mix of requests changed in this hour, or hours repeat by weekday",
        )

    def _traffic(self, table: pd.DataFrame) -> Sequence[Insight]:
        lost = (
            table["fresh"]
            & (table["requests_per_hour_hours"] >= self.min_hours)
            & (table["requests_per_hour_z"] <= -self.z_min)
            & (table["requests_per_hour"] <= (1 - self.drop) * table["requests_per_hour_reference"])
        )
        return [
            _insight(
                row,
                "throughput_degradation",
                Severity.WARNING,
                title=f"{row.requests_per_hour:.0f} requests an hour, usually "
                f"{row.requests_per_hour_reference:.0f} (z = {row.requests_per_hour_z:.1f})",
                text=f"compared with the median of {row.requests_per_hour_hours} trailing hours",
                value=row.requests_per_hour,
                limit=row.requests_per_hour_reference,
                caveat="wrong if the hour is not complete yet, or traffic ends on purpose",
            )
            for row in arms.rows(table[lost])
        ]

    def _waste(self, table: pd.DataFrame) -> Sequence[Insight]:
        judged = table[table["fresh"] & (table["n"] >= self.min_requests)]
        # Tokens are summed over all calls: only rows beyond the answered ones are surely failed.
        failed = np.maximum(judged["n_tokens"] - judged["n"] + judged["n_failed"], 0)
        share = arms.divide(
            np.asarray(failed, dtype=np.float64), judged["n_tokens"].to_numpy(float)
        )
        judged = judged.assign(waste=share)
        wasting = judged[judged["waste"] > self.waste_max]
        diverted = judged[judged["fallback_rate"] > self.fallback_max]
        return [
            *(
                _insight(
                    row,
                    "token_inefficiency",
                    Severity.WARNING,
                    title=f"at least {row.waste:.1%} of the calls with tokens failed",
                    text=f"about {row.waste * (row.input_tokens + row.output_tokens):.0f} of "
                    f"{row.input_tokens + row.output_tokens:.0f} tokens bought no answer",
                    value=row.waste,
                    limit=self.waste_max,
                    caveat="a lower bound on calls; assumes that failed calls use mean tokens",
                )
                for row in arms.rows(wasting)
            ),
            *(
                _insight(
                    row,
                    "fallback_rate_high",
                    Severity.WARNING,
                    title=f"{row.fallback_rate:.1%} of requests were served by another model",
                    text="the arm's numbers describe what was served in its name",
                    metric="fallback_rate",
                    value=row.fallback_rate,
                    limit=self.fallback_max,
                    caveat="wrong if the application names models differently from the arm",
                )
                for row in arms.rows(diverted)
            ),
        ]


def _limits(scene: Scene) -> pd.DataFrame:
    now_s = int(scene.now.timestamp())
    rows = [
        (
            name,
            scene.baselines.get(name, scene.targets[name].baseline),
            policy.safety.latency_p95_ms_max,
            policy.safety.failure_rate_max,
            now_s - int(policy.data_lag_max.total_seconds()),
        )
        for name, policy in sorted(scene.policies.items())
        if name in scene.targets
    ]
    columns = ["target", "in_force", "p95_max", "failure_max", "fresh_s"]
    return pd.DataFrame(rows, columns=columns)


def _hourly(served: pd.DataFrame) -> pd.DataFrame:
    """Measurements of the arm in force, hour by hour; slices are added up."""
    keys = ("target", "window_start_s")
    parts = [arms.measured(arms.pooled(part, keys)) for part in arms.in_parts(served)]
    frame = pd.concat(parts, ignore_index=True)
    # Half a failure more keeps the logarithm of a share finite.
    return frame.assign(failure_share=(frame["n_failed"] + 0.5) / (frame["n"] + 1.0))


def _sampling_error(table: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """Standard error of the log of one hour's value.

    A count of k events has the relative error ``1/sqrt(k)``; the p95 of n latencies whose tail
    falls like a power of -2 or steeper has at most ``sqrt(0.05 * 0.95 / n) / (2 * 0.05)``.
    """
    n = np.maximum(table["n"].to_numpy(dtype=np.float64), 1.0)
    if column == "failure_share":
        failed = table["n_failed"].fillna(0).to_numpy(dtype=np.float64)
        return np.asarray(1.0 / np.sqrt(failed + 0.5))
    if column == "p95_ms":
        return np.asarray(np.sqrt(0.05 * 0.95 / n) / (2 * 0.05))
    return np.asarray(1.0 / np.sqrt(np.maximum(table["target_n"].to_numpy(dtype=float), 1.0)))


def _silent(table: pd.DataFrame) -> Sequence[Insight]:
    return [
        _insight(
            row,
            "no_data",
            Severity.ERROR,
            title="no traffic",
            text=f"{row.target} had {row.target_n} requests in its last hour and none since",
            caveat="wrong if a source is late; nothing is concluded about the arm",
        )
        for row in arms.rows(table[~table["fresh"].to_numpy(dtype=np.bool_)])
    ]


def _over_limit(table: pd.DataFrame, min_requests: int) -> Sequence[Insight]:
    judged = table[table["fresh"] & (table["n"] >= min_requests)]
    slow = judged[judged["p95_ms"] > judged["p95_max"]]
    failing = judged[judged["failure_low"] > judged["failure_max"]]
    return [
        *(
            _insight(
                row,
                "latency_violation",
                Severity.ERROR,
                title=f"p95 {row.p95_ms:.0f} ms above {row.p95_max:g} ms",
                text="the 95th percentile of answered requests is over the safety limit",
                metric="latency_ms",
                value=row.p95_ms,
                limit=row.p95_max,
                caveat="histogram error 1 %; failed requests are not in it",
            )
            for row in arms.rows(slow)
        ),
        *(
            _insight(
                row,
                "error_rate_high",
                Severity.CRITICAL,
                title=f"failure share {row.failure_rate:.3f} above {row.failure_max:g}",
                text=f"{row.n_failed:.0f} of {row.n} failed, 95 % interval "
                f"[{row.failure_low:.4f}, {row.failure_high:.4f}]",
                metric="failure_rate",
                value=row.failure_rate,
                limit=row.failure_max,
                caveat="wrong if a caller retries: one failure then counts several times",
            )
            for row in arms.rows(failing)
        ),
    ]


def _insight(  # noqa: PLR0913 - an insight has this many independent parts
    row: Row,
    kind: str,
    severity: Severity,
    *,
    title: str,
    text: str,
    caveat: str,
    metric: str | None = None,
    value: float | None = None,
    limit: float | None = None,
) -> Insight:
    numbers = {name: float(getattr(row, name)) for name in KEPT}
    return Insight(
        analyzer=NAME,
        kind=kind,
        severity=severity,
        target=row.target,
        arm=row.in_force,
        metric=metric,
        title=title,
        description=f"{row.in_force} of {row.target}: {text}",
        value=None if value is None else float(value),
        limit=None if limit is None else float(limit),
        n=int(row.n),
        start=at(int(row.window_start_s)),
        end=at(int(row.window_start_s) + HOUR_S),
        caveat=caveat,
        metrics={name: number for name, number in numbers.items() if np.isfinite(number)},
    )
