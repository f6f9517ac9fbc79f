"""Money: cost per request, spend against budgets, the forecast of the day, cheaper arms.

Only known costs are added up. The share of requests without a price is reported beside every sum,
never filled in. Days are UTC days.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from optimizer.evidence import Insight, Scene, Severity
from optimizer.metrics import DAY_S, HOUR_S, at
from optimizer.statistics import arms
from optimizer.statistics.arms import Row

NAME: Final = "cost"
Z_95: Final = 1.959963984540054
ENOUGH_HOURS: Final = 3
KEPT: Final = (
    "cost_usd",
    "success_cost_usd",
    "hour_usd",
    "day_usd",
    "today_usd",
    "forecast_usd",
    "forecast_low_usd",
    "forecast_high_usd",
    "unknown_cost_share",
)
"""The numbers every insight of this analyzer carries, where they are known."""

BUDGETS: Final[Mapping[str, tuple[str, str, str]]] = {
    "daily": ("today_usd", "daily_max", "USD since midnight UTC"),
    "hourly": ("hour_usd", "hourly_max", "USD in the newest hour"),
    "per request": ("cost_usd", "request_max", "USD a request in the last day"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Insights on what each target and arm costs.

    warning, critical: shares of a budget from which it is reported, 1 being violated; min_requests:
    below it a mean cost says nothing; min_hours: trailing hours a spike is measured against; days:
    how far back; z_min, spike_min: how unusual and how much dearer, relative, a spike is; noise:
    smallest spread of a log; unknown_max: share of requests that may lack a price; cheaper_min:
    relative saving at which another arm in use is worth a look; failed_max: share of the cost that
    may go to failed calls.
    """

    warning: float = 0.8
    critical: float = 0.9
    min_requests: int = 100
    min_hours: int = 24
    days: int = 7
    z_min: float = 4.0
    spike_min: float = 0.5
    noise: float = 0.02
    unknown_max: float = 0.01
    cheaper_min: float = 0.2
    failed_max: float = 0.05

    def __call__(self, scene: Scene) -> tuple[Insight, ...]:
        """The insights, most severe first, then by target and kind."""
        table = self.table(scene)
        found = [
            *self._unknown(table),
            *self._budgets(table),
            *self._forecast(table),
            *self._spikes(table),
            *self._cheaper(scene, table),
            *self._failed(table),
        ]
        rank = list(Severity)
        return tuple(
            sorted(found, key=lambda i: (-rank.index(i.severity), i.target, i.kind, i.title))
        )

    def table(self, scene: Scene) -> pd.DataFrame:
        """One row for each target with traffic in the last day.

        Columns: those of :func:`optimizer.statistics.arms.measured` over the last day, all arms;
        spend in USD of the newest hour, the last 24 h and today (UTC), the forecast of today with
        its 95 % interval, the budgets (inf = none), and for the hourly cost of a request and the
        hourly spend the newest value, trailing reference, z-score and hours it rests on.
        """
        now_s = int(scene.now.timestamp()) // HOUR_S * HOUR_S
        limits = _limits(scene)
        recent = arms.within(scene.hours, start_s=now_s - self.days * DAY_S, end_s=now_s)
        recent = recent[recent["target"].isin(limits["target"])]
        day = arms.within(recent, start_s=now_s - DAY_S, end_s=now_s)
        table = arms.measured(arms.pooled(day, ("target",), latency=False)).merge(
            limits, on="target", how="left"
        )
        hourly = arms.measured(arms.pooled(recent, ("target", "window_start_s"), latency=False))
        table = _with_spend(table, hourly, now_s)
        in_force = dict(zip(limits["target"], limits["in_force"], strict=True))
        served = recent[recent["arm"] == recent["target"].map(in_force)]
        of_arm = arms.measured(arms.pooled(served, ("target", "window_start_s"), latency=False))
        busy = of_arm[of_arm["n_cost"] >= self.min_requests]
        table = self._compared(table, busy, "cost_usd")
        return self._compared(table, hourly, "spend_usd")

    def _compared(self, table: pd.DataFrame, series: pd.DataFrame, column: str) -> pd.DataFrame:
        """The table with a column's value in the newest hour and its trailing reference."""
        begin = table.set_index("target")["newest_s"]
        history = arms.trailing(series, column, key="target", before=begin)
        history = history.reindex(table["target"]).set_index(table.index)
        newest = series[series["window_start_s"] == series["target"].map(begin)]
        value = table["target"].map(newest.set_index("target")[column]).to_numpy(dtype=np.float64)
        spread = np.maximum(history["spread"].to_numpy(), self.noise)
        log = np.log(np.where(value > 0, value, np.nan))
        return table.assign(
            **{
                f"{column}_newest": value,
                f"{column}_reference": np.exp(history["centre"].to_numpy()),
                f"{column}_z": (log - history["centre"].to_numpy()) / spread,
                f"{column}_hours": history["count"].fillna(0).to_numpy(dtype=np.int64),
            }
        )

    def _unknown(self, table: pd.DataFrame) -> Sequence[Insight]:
        rows = table[table["unknown_cost_share"] > self.unknown_max]
        few = table[(table["n_cost"] > 0) & (table["n_cost"] < self.min_requests)]
        return [
            *(
                _insight(
                    row,
                    "unknown_cost",
                    Severity.WARNING,
                    title=f"{row.unknown_cost_share:.1%} of requests have no known cost",
                    text=f"{row.n - row.n_cost} of {row.n} requests are in no sum and no saving",
                    value=row.unknown_cost_share,
                    limit=self.unknown_max,
                    caveat="true spend is higher; add the model's price or send the cost",
                )
                for row in arms.rows(rows)
            ),
            *(
                _insight(
                    row,
                    "insufficient_data",
                    Severity.INFO,
                    title=f"{row.n_cost} priced requests in a day, {self.min_requests} are needed",
                    text="the mean cost of a request is unknown, not fine",
                    value=row.n_cost,
                    limit=self.min_requests,
                    caveat="late rows may still arrive",
                )
                for row in arms.rows(few)
            ),
        ]

    def _budgets(self, table: pd.DataFrame) -> Sequence[Insight]:
        found = []
        for name, (column, limit, unit) in BUDGETS.items():
            used = table[column] / table[limit]
            if name == "per request":
                used = used.where(table["n_cost"] >= self.min_requests)
            near = table.assign(used=used, spent=table[column], allowed=table[limit])
            found += [
                _insight(
                    row,
                    "budget_alert",
                    self._severity(row.used),
                    title=f"{name} budget: {row.spent:.6g} of {row.allowed:g} {unit}, "
                    f"{row.used:.0%} used",
                    text="violated" if row.used >= 1 else "near its limit",
                    value=row.spent,
                    limit=row.allowed,
                    caveat=f"requests without a price ({row.unknown_cost_share:.1%}) come on top",
                )
                for row in arms.rows(near[near["used"] >= self.warning])
            ]
        return found

    def _severity(self, used: float) -> Severity:
        if used >= 1:
            return Severity.CRITICAL
        return Severity.ERROR if used >= self.critical else Severity.WARNING

    def _forecast(self, table: pd.DataFrame) -> Sequence[Insight]:
        over = (table["forecast_usd"] > table["daily_max"]) & (
            table["today_usd"] <= table["daily_max"]
        )
        return [
            _insight(
                row,
                "budget_forecast",
                Severity.WARNING,
                title=f"today ends at about {row.forecast_usd:.6g} USD, budget {row.daily_max:g}",
                text=f"{row.today_usd:.6g} USD spent, the rest as in the same hours of the last "
                f"day; 95 % interval [{row.forecast_low_usd:.6g}, {row.forecast_high_usd:.6g}]",
                value=row.forecast_usd,
                limit=row.daily_max,
                caveat=f"rests on {row.profile_hours} hours; wrong if today is unlike the last day",
            )
            for row in arms.rows(table[over])
        ]

    def _spikes(self, table: pd.DataFrame) -> Sequence[Insight]:
        found = []
        for column, unit in (("cost_usd", "USD a request"), ("spend_usd", "USD an hour")):
            rise = table[f"{column}_newest"] / table[f"{column}_reference"] - 1.0
            unusual = (
                (table[f"{column}_hours"] >= self.min_hours)
                & (table[f"{column}_z"] >= self.z_min)
                & (rise >= self.spike_min)
            )
            spikes = table.assign(
                now_usd=table[f"{column}_newest"],
                usual_usd=table[f"{column}_reference"],
                z=table[f"{column}_z"],
                hours=table[f"{column}_hours"],
                rise=rise,
            )
            found += [
                _insight(
                    row,
                    "cost_spike",
                    Severity.CRITICAL if row.rise > 1 else Severity.ERROR,
                    title=f"{row.now_usd:.6g} {unit}, usually {row.usual_usd:.6g} "
                    f"({row.rise:+.0%}, z = {row.z:.1f})",
                    text=f"the newest hour against the median of {row.hours} trailing hours",
                    metric=column,
                    value=row.now_usd,
                    limit=row.usual_usd,
                    caveat="wrong if prompts or traffic changed on purpose in this hour",
                )
                for row in arms.rows(spikes[unusual])
            ]
        return found

    def _cheaper(self, scene: Scene, table: pd.DataFrame) -> Sequence[Insight]:
        """Arms in use that cost less per request than the arm in force."""
        now_s = int(scene.now.timestamp()) // HOUR_S * HOUR_S
        day = arms.within(scene.hours, start_s=now_s - DAY_S, end_s=now_s)
        per_arm = arms.measured(
            arms.pooled(day[day["target"].isin(table["target"])], ("target", "arm"), latency=False)
        )
        priced = per_arm[per_arm["n_cost"] >= self.min_requests]
        priced = priced[["target", "arm", "n_cost", "cost_usd"]].add_prefix("other_")
        both = table.merge(priced, left_on="target", right_on="other_target")
        own = both[both["other_arm"] == both["in_force"]].set_index("target")["other_cost_usd"]
        both = both.assign(arm_usd=both["target"].map(own))
        worth = both["other_cost_usd"] <= (1 - self.cheaper_min) * both["arm_usd"]
        return [
            _insight(
                row,
                "optimization_opportunity",
                Severity.INFO,
                title=f"{row.other_arm} costs {row.other_cost_usd:.6g} USD a request, "
                f"{row.in_force} {row.arm_usd:.6g} ({row.other_cost_usd / row.arm_usd - 1:+.0%})",
                text=f"over the last day, {row.other_n_cost} priced requests of {row.other_arm}",
                metric="cost_usd",
                value=row.other_cost_usd,
                limit=row.arm_usd,
                caveat="says nothing about quality; the arms may have served different requests",
            )
            for row in arms.rows(both[worth])
        ]

    def _failed(self, table: pd.DataFrame) -> Sequence[Insight]:
        """Priced calls beyond the answered ones surely are failed ones that were paid for."""
        failed = np.maximum(table["n_cost"] - table["n"] + table["n_failed"], 0)
        share = arms.divide(np.asarray(failed, dtype=np.float64), table["n_cost"].to_numpy(float))
        wasting = table.assign(wasted=share)[share > self.failed_max]
        return [
            _insight(
                row,
                "failed_call_cost",
                Severity.WARNING,
                title=f"at least {row.wasted:.1%} of the paid calls failed",
                text=f"about {row.wasted * row.spend_usd:.6g} USD of {row.spend_usd:.6g} in the "
                f"last day; a successful request costs {row.success_cost_usd:.6g} USD",
                value=row.wasted,
                limit=self.failed_max,
                caveat="a lower bound on calls; assumes that failed calls cost the mean",
            )
            for row in arms.rows(wasting)
        ]


def _limits(scene: Scene) -> pd.DataFrame:
    rows = []
    for name, policy in sorted(scene.policies.items()):
        if name in scene.targets:
            budget = policy.budget
            money = (budget.daily_usd, budget.hourly_usd, budget.per_request_usd)
            limits = (np.inf if limit is None else limit for limit in money)
            rows.append((name, scene.baselines.get(name, scene.targets[name].baseline), *limits))
    columns = ["target", "in_force", "daily_max", "hourly_max", "request_max"]
    return pd.DataFrame(rows, columns=columns)


def _with_spend(table: pd.DataFrame, hourly: pd.DataFrame, now_s: int) -> pd.DataFrame:
    """The table with spend so far and the forecast of the UTC day.

    The hours left of today are taken to cost what the same hours cost in the last 24; their
    uncertainty is the scatter of those 24 hours, hour by hour independent. A target without a whole
    day of history is forecast at its mean hour.
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


def _insight(  # noqa: PLR0913 - an insight has this many independent parts
    row: Row,
    kind: str,
    severity: Severity,
    *,
    title: str,
    text: str,
    caveat: str,
    metric: str = "cost_usd",
    value: float,
    limit: float,
) -> Insight:
    numbers = {name: float(getattr(row, name)) for name in KEPT}
    end = int(row.newest_s) + HOUR_S
    return Insight(
        analyzer=NAME,
        kind=kind,
        severity=severity,
        target=row.target,
        arm=row.in_force,
        metric=metric,
        title=title,
        description=f"{row.target}: {text}",
        value=float(value),
        limit=float(limit),
        n=int(row.n_cost),
        start=at(end - DAY_S),
        end=at(end),
        caveat=caveat,
        metrics={name: number for name, number in numbers.items() if np.isfinite(number)},
    )
