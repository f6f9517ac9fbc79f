"""Budgets: what is used of them, and what the day and the month are going to use."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd

from optimizer.analyzers.cost.insights import insight
from optimizer.evidence import Insight, Scene, Severity
from optimizer.metrics import at
from optimizer.statistics import arms
from optimizer.statistics.arms import Row

BUDGETS: Final[Mapping[str, tuple[str, str, str]]] = {
    "monthly": ("month_usd", "monthly_max", "USD since the first of the month"),
    "daily": ("today_usd", "daily_max", "USD since midnight UTC"),
    "hourly": ("hour_usd", "hourly_max", "USD in the newest hour"),
    "per request": ("cost_usd", "request_max", "USD a request in the last day"),
}


def limits_of(scene: Scene) -> pd.DataFrame:
    """Each target of the scene: its arm in force and its budgets, USD; inf = none."""
    rows = []
    for name, policy in sorted(scene.policies.items()):
        if name in scene.targets:
            budget = policy.budget
            money = (budget.monthly_usd, budget.daily_usd, budget.hourly_usd)
            limits = (
                np.inf if limit is None else limit for limit in (*money, budget.per_request_usd)
            )
            rows.append((name, scene.baselines.get(name, scene.targets[name].baseline), *limits))
    columns = ["target", "in_force", "monthly_max", "daily_max", "hourly_max", "request_max"]
    return pd.DataFrame(rows, columns=columns)


def alerts(
    table: pd.DataFrame, *, warning: float, critical: float, min_requests: int
) -> Sequence[Insight]:
    """Budgets of which at least the share ``warning`` is used."""
    found = []
    for name, (column, limit, unit) in BUDGETS.items():
        used = table[column] / table[limit]
        if name == "per request":
            used = used.where(table["n_cost"] >= min_requests)
        near = table.assign(used=used, spent=table[column], allowed=table[limit])
        found += [
            insight(
                row,
                "budget_alert",
                _severity(row.used, critical),
                title=f"{name} budget: {row.spent:.6g} of {row.allowed:g} {unit}, "
                f"{row.used:.0%} used",
                text="violated" if row.used >= 1 else "near its limit",
                value=row.spent,
                limit=row.allowed,
                caveat=f"requests without a price ({row.unknown_cost_share:.1%}) come on top",
            )
            for row in arms.rows(near[near["used"] >= warning])
        ]
    return found


def _severity(used: float, critical: float) -> Severity:
    if used >= 1:
        return Severity.CRITICAL
    return Severity.ERROR if used >= critical else Severity.WARNING


def forecasts(table: pd.DataFrame) -> Sequence[Insight]:
    """Budgets of the day and of the month that are going to be overspent."""
    return [*_day(table), *_month(table)]


def _day(table: pd.DataFrame) -> Sequence[Insight]:
    over = (table["forecast_usd"] > table["daily_max"]) & (table["today_usd"] <= table["daily_max"])
    return [
        insight(
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


def _month(table: pd.DataFrame) -> Sequence[Insight]:
    over = (table["month_forecast_usd"] > table["monthly_max"]) & (
        table["month_usd"] <= table["monthly_max"]
    )
    return [
        insight(
            row,
            "budget_forecast",
            Severity.WARNING,
            title=f"this month ends at about {row.month_forecast_usd:.6g} USD, budget "
            f"{row.monthly_max:g}",
            text=f"{row.month_usd:.6g} USD spent since {at(int(row.month_since_s)):%Y-%m-%d}, the "
            f"rest as {_rest(row)}; 95 % interval [{row.month_low_usd:.6g}, "
            f"{row.month_high_usd:.6g}]",
            value=row.month_forecast_usd,
            limit=row.monthly_max,
            start_s=int(row.month_since_s),
            caveat=f"rests on {row.month_days} whole days; wrong if traffic or prices move to "
            "another level, which the interval leaves out",
        )
        for row in arms.rows(table[over])
    ]


def _rest(row: Row) -> str:
    if row.month_weeks:
        return f"in the same hours of the last {row.month_weeks} weeks"
    return "in the mean hour so far"
