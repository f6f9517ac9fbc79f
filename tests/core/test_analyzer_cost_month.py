"""The month is forecast from whole weeks, with an interval; a model nobody priced is named."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.analyzers import Cost
from optimizer.evidence import HISTORY_SUMS, Insight, Scene, Severity
from optimizer.metrics import HOUR_S
from optimizer.policy import Budget, Policy
from optimizer.statistics.seasonal import hour_of_week
from optimizer.targets import Arm, ModelConfig
from scenes import LARGE, NOW, SMALL, Traffic, World

Costs = npt.NDArray[np.float64]
# The scenes' now, 10 March, 12:00 UTC: 9.5 days of the month are over and 21.5 are left.
GONE, LEFT = 228, 516
END_S = int(NOW.timestamp())


def week_hours(hours: int, *, ahead: bool = False) -> npt.NDArray[np.int64]:
    offsets = np.arange(hours) if ahead else np.arange(-hours, 0)
    return hour_of_week(END_S + HOUR_S * offsets)


def scene(usd: Costs | dict[str, Costs], monthly: float | None = None, **extra: Any) -> Scene:  # noqa: ANN401 - fields of a scene
    """Targets whose hours up to now cost so much; steady traffic in the last days besides."""
    series = usd if isinstance(usd, dict) else {"support": usd}
    one = World(
        traffic={(name, "large"): Traffic(failed_priced=True) for name in series},
        arms=dict.fromkeys(series, (LARGE,)),
        policy=Policy(budget=Budget(monthly_usd=monthly)),
    ).scene()
    parts = []
    for name, costs in series.items():
        start = END_S - HOUR_S * np.arange(len(costs), 0, -1)
        rows = pd.DataFrame({"target": name, "arm": "large", "window_start_s": start})
        nusd = np.round(costs * 1e9).astype(np.int64)
        rows = rows.assign(**dict.fromkeys(HISTORY_SUMS, 0))
        parts.append(rows.assign(n=1000, n_cost=1000, cost_nusd=nusd))
    return dataclasses.replace(one, history=pd.concat(parts, ignore_index=True), **extra)


def month(one: Scene, target: str = "support") -> Any:  # noqa: ANN401 - a row of a frame
    table = Cost().table(one)
    return table[table["target"] == target].iloc[0]


def of(insights: tuple[Insight, ...], kind: str) -> list[Insight]:
    return [insight for insight in insights if insight.kind == kind]


def test_the_month_so_far_begins_on_the_first_at_midnight() -> None:
    costs = np.where(np.arange(840) >= 840 - GONE, 1.0, 100.0)

    row = month(scene(costs))

    assert row["month_usd"] == pytest.approx(GONE)
    assert row["month_since_s"] == datetime(2026, 3, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("weeks", [2, 3, 4, 5])
def test_hours_to_come_cost_what_their_hour_of_the_week_did(weeks: int) -> None:
    def price(of_week: npt.NDArray[np.int64]) -> Costs:
        return np.where(of_week >= 120, 0.2, 1.0) * (1 + of_week % 24)

    row = month(scene(price(week_hours(weeks * 168))))

    left = price(week_hours(LEFT, ahead=True)).sum()
    assert row["month_forecast_usd"] - row["month_usd"] == pytest.approx(left)
    assert row["month_weeks"] == weeks
    # Weeks that repeat exactly leave nothing to chance.
    assert row["month_high_usd"] - row["month_low_usd"] == pytest.approx(0, abs=1e-6 * left)


@pytest.mark.parametrize("hours", [30, 80, 335])
def test_without_whole_weeks_the_mean_hour_goes_on(hours: int) -> None:
    costs = np.where(np.arange(hours) % 2, 1.0, 3.0)

    row = month(scene(costs))

    assert row["month_weeks"] == 0
    assert row["month_forecast_usd"] - row["month_usd"] == pytest.approx(costs.mean() * LEFT)
    assert np.isnan(row["month_low_usd"]) == (hours < 72)


@pytest.mark.slow
def test_the_interval_holds_the_month_that_comes() -> None:
    random = np.random.default_rng(1)
    held = []
    for _ in range(80):
        days = np.repeat(np.exp(0.2 * random.standard_normal(28 + 22)), 24)
        costs = days * random.gamma(20, 1 / 20, days.size)
        row = month(scene(costs[: 28 * 24]))
        truth = row["month_usd"] + costs[28 * 24 :][:LEFT].sum()
        held.append(row["month_low_usd"] <= truth <= row["month_high_usd"])

    assert np.mean(held) >= 0.88


def test_a_month_that_will_break_its_budget_is_told_before_it_does() -> None:
    costs = np.ones(28 * 24)

    (told,) = of(Cost()(scene(costs, monthly=700.0)), "budget_forecast")

    assert told.value == pytest.approx(GONE + LEFT)
    assert told.limit == 700.0
    assert "4 weeks" in told.description
    assert told.start == datetime(2026, 3, 1, tzinfo=UTC)
    assert told.caveat
    assert of(Cost()(scene(costs, monthly=800.0)), "budget_forecast") == []


@pytest.mark.parametrize(
    ("monthly", "severity"),
    [
        (GONE * 2.0, None),
        (GONE / 0.85, Severity.WARNING),
        (GONE / 0.95, Severity.ERROR),
        (GONE, Severity.CRITICAL),
    ],
)
def test_a_monthly_budget_warns_before_it_breaks(monthly: float, severity: Severity | None) -> None:
    alerts = of(Cost()(scene(np.ones(28 * 24), monthly=monthly)), "budget_alert")

    assert [alert.severity for alert in alerts] == ([] if severity is None else [severity])


@pytest.mark.parametrize(
    "now", [datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2028, 2, 29, 12, tzinfo=UTC)]
)
def test_a_month_ends_where_the_calendar_says(now: datetime) -> None:
    hours = (now.day - 1) * 24 + now.hour
    one = World(traffic={("support", "large"): Traffic(failed_priced=True)}, now=now, span=hours)

    row = month(one.scene())

    left = int((now + timedelta(days=1)).replace(hour=0).timestamp() - now.timestamp()) // HOUR_S
    assert row["month_usd"] == pytest.approx(4.0 * hours)
    assert row["month_forecast_usd"] == pytest.approx(4.0 * (hours + left))


@settings(max_examples=10)
@given(scale=st.sampled_from([1e-3, 1.0, 1e3]), seed=st.integers(0, 99))
def test_money_in_any_unit_gives_the_same_month(scale: float, seed: int) -> None:
    costs = np.random.default_rng(seed).gamma(5.0, 1.0, 504)
    names = ["month_usd", "month_forecast_usd", "month_low_usd", "month_high_usd"]

    plain, scaled = (month(scene(costs * factor))[names] for factor in (1.0, scale))

    assert np.allclose(scaled.astype(float), scale * plain.astype(float), rtol=1e-6)


@settings(max_examples=6)
@given(seed=st.integers(0, 2**32 - 1))
def test_another_target_changes_nothing_of_this_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    own = np.ones(500)
    alone = Cost()(scene({"support": own}, monthly=300.0))
    crowd = {"a": random.gamma(1.0, 9.0, 840), "support": own, "z": random.gamma(1.0, 9.0, 3)}
    many = scene(crowd, monthly=300.0)
    assert many.history is not None

    mixed = many.history.sample(frac=1, random_state=seed)
    found = Cost()(dataclasses.replace(many, history=mixed))

    assert tuple(i for i in found if i.target == "support") == alone != ()


UNPRICED = Arm(name="large", config=ModelConfig(model="acme-9", provider="acme"))


def test_a_model_nobody_priced_is_named_and_costs_nothing_known() -> None:
    traffic = {("support", "large"): Traffic(cost_usd=None), ("support", "small"): Traffic()}
    one = World(traffic=traffic, arms={"support": (UNPRICED, SMALL)}).scene()

    insights = Cost()(one)

    (named,) = of(insights, "unknown_model")
    assert (named.arm, named.severity) == ("large", Severity.WARNING)
    assert "acme-9" in named.title
    assert "provider acme" in named.description
    assert named.value == named.n == 24 * 990
    (share,) = of(insights, "unknown_cost")
    assert share.value == pytest.approx(0.5, abs=0.01)
    # Only the other arm's costs are in the sums.
    assert share.metrics["day_usd"] == pytest.approx(24 * 990 * 0.004)


@pytest.mark.parametrize("known", [Traffic(), Traffic(cost_usd=0.0), Traffic(n=0, failed=0)])
def test_an_arm_with_costs_or_without_tokens_is_no_unknown_model(known: Traffic) -> None:
    one = World(traffic={("support", "large"): known}, arms={"support": (UNPRICED, SMALL)}).scene()

    assert of(Cost()(one), "unknown_model") == []
