"""Money: cost per request, spend against budgets, forecasts of day and month, cheaper arms.

Only known costs are added up. The share of requests without a price is reported beside every sum,
never filled in, and an arm whose calls have tokens but no cost is named: the price of its model is
not known. Days and months are those of UTC.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from optimizer.analyzers.cost import budgets
from optimizer.analyzers.cost.insights import insight
from optimizer.evidence import Insight, Scene, Severity
from optimizer.metrics import DAY_S, HOUR_S
from optimizer.statistics import arms
from optimizer.statistics.spending import day_of, month_of
from optimizer.statistics.weeks import history_of, weeks_of


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
        per_arm = _last_day(scene, table)
        found = [
            *self._unknown(table),
            *self._unknown_models(scene, table, per_arm),
            *budgets.alerts(
                table,
                warning=self.warning,
                critical=self.critical,
                min_requests=self.min_requests,
            ),
            *budgets.forecasts(table),
            *self._spikes(table),
            *self._cheaper(table, per_arm),
            *self._failed(table),
        ]
        rank = list(Severity)
        return tuple(
            sorted(found, key=lambda i: (-rank.index(i.severity), i.target, i.kind, i.title))
        )

    def table(self, scene: Scene) -> pd.DataFrame:
        """One row for each target with traffic in the last day.

        Columns: those of :func:`optimizer.statistics.arms.measured` over the last day, all arms;
        spend in USD of the newest hour, the last 24 h, today and this month (UTC), the forecasts of
        day and month with their 95 % intervals, the budgets (inf = none), and for the hourly cost
        of a request and the hourly spend the newest value, trailing reference, z-score and hours
        it rests on.
        """
        now_s = int(scene.now.timestamp()) // HOUR_S * HOUR_S
        limits = budgets.limits_of(scene)
        recent = arms.within(scene.hours, start_s=now_s - self.days * DAY_S, end_s=now_s)
        recent = recent[recent["target"].isin(limits["target"])]
        day = arms.within(recent, start_s=now_s - DAY_S, end_s=now_s)
        table = arms.measured(arms.pooled(day, ("target",), latency=False)).merge(
            limits, on="target", how="left"
        )
        hourly = arms.measured(arms.pooled(recent, ("target", "window_start_s"), latency=False))
        table = day_of(table, hourly, now_s)
        weeks = weeks_of(history_of(scene), end_s=now_s, columns=("cost_nusd",))
        table = table.merge(month_of(weeks, scene.now), on="target", how="left")
        in_force = dict(zip(limits["target"], limits["in_force"], strict=True))
        served = arms.serving(recent, in_force)
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
                insight(
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
                insight(
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

    def _unknown_models(
        self, scene: Scene, table: pd.DataFrame, per_arm: pd.DataFrame
    ) -> Sequence[Insight]:
        """Arms whose calls have tokens and no cost: nobody said what their model costs."""
        tokens = per_arm.assign(unpriced=per_arm["n_tokens"] - per_arm["n_cost"])
        rows = tokens[tokens["unpriced"] > self.unknown_max * tokens["n_tokens"]]
        both = table.merge(rows.add_prefix("other_"), left_on="target", right_on="other_target")
        configs = {
            (row.target, row.other_arm): arm.config
            for row in arms.rows(both)
            for arm in scene.targets[row.target].arms
            if arm.name == row.other_arm and arm.price is None
        }
        return [
            insight(
                row,
                "unknown_model",
                Severity.WARNING,
                title=f"the price of {config.model} is not known",
                text=f"{row.other_unpriced} of {row.other_n_tokens} calls of {row.other_arm} have "
                f"tokens but no cost; provider {config.provider or 'not named'}",
                value=row.other_unpriced,
                limit=0.0,
                arm=row.other_arm,
                n=row.other_n_tokens,
                caveat="calls are priced when they come in: a price added since then counts "
                "from the next call on",
            )
            for row in arms.rows(both)
            if (config := configs.get((row.target, row.other_arm))) is not None
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
                insight(
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

    def _cheaper(self, table: pd.DataFrame, per_arm: pd.DataFrame) -> Sequence[Insight]:
        """Arms in use that cost less per request than the arm in force."""
        priced = per_arm[per_arm["n_cost"] >= self.min_requests]
        priced = priced[["target", "arm", "n_cost", "cost_usd"]].add_prefix("other_")
        both = table.merge(priced, left_on="target", right_on="other_target")
        own = both[both["other_arm"] == both["in_force"]].set_index("target")["other_cost_usd"]
        both = both.assign(arm_usd=both["target"].map(own))
        worth = (both["arm_usd"] > 0) & (
            both["other_cost_usd"] <= (1 - self.cheaper_min) * both["arm_usd"]
        )
        return [
            insight(
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
            insight(
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


def _last_day(scene: Scene, table: pd.DataFrame) -> pd.DataFrame:
    """Measurements of every arm of the table's targets over the last day."""
    now_s = int(scene.now.timestamp()) // HOUR_S * HOUR_S
    day = arms.within(scene.hours, start_s=now_s - DAY_S, end_s=now_s)
    known = day[day["target"].isin(table["target"])]
    return arms.measured(arms.pooled(known, ("target", "arm"), latency=False))
