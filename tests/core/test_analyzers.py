"""Insights carry numbers, reference, size and period; too little is said to be too little."""

import dataclasses
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as few
from hypothesis import strategies as st

from optimizer.aggregates import empty
from optimizer.analyzers import Cost, Performance
from optimizer.evidence import Insight, Scene, Severity
from optimizer.policy import Budget, Policy, SafetyLimits
from optimizer.strategies import Pareto, Threshold
from scenes import LARGE, NOW, SMALL, Traffic, World

LARGE_ON = ("support", "large")


def scene(
    *newest: Traffic | None,
    before: Traffic | None = None,
    span: int = 72,
    **policy: Any,  # noqa: ANN401 - fields of a policy
) -> Scene:
    """A target with steady traffic, and the newest hours as given."""
    steady = before or Traffic(failed_priced=True)
    series = [steady] * (span - len(newest)) + list(newest)
    return World(traffic={LARGE_ON: series}, policy=Policy(**policy)).scene()


def kinds(insights: Sequence[Insight]) -> set[str]:
    return {insight.kind for insight in insights}


def only(insights: Sequence[Insight], kind: str) -> Insight:
    (found,) = [insight for insight in insights if insight.kind == kind]
    return found


STEADY = Traffic(failed_priced=True, failed=10)


@pytest.mark.parametrize("analyze", [Performance(), Cost()])
def test_steady_traffic_within_limits_says_nothing(analyze: Callable[[Scene], Any]) -> None:
    assert analyze(scene()) == ()


@pytest.mark.parametrize(
    ("newest", "kind", "metric"),
    [
        (Traffic(latency_ms=2000), "regression_detected", "latency_ms"),
        (Traffic(failed=60), "regression_detected", "failure_rate"),
        (Traffic(n=300, failed=3, labels=60), "throughput_degradation", None),
        (Traffic(failed=100), "error_rate_high", "failure_rate"),
        (Traffic(latency_ms=20_000), "latency_violation", "latency_ms"),
        (Traffic(fallback=200), "fallback_rate_high", "fallback_rate"),
        (Traffic(failed=100, failed_priced=True), "token_inefficiency", None),
    ],
)
def test_an_injected_shift_is_found(newest: Traffic, kind: str, metric: str | None) -> None:
    found = [i for i in Performance()(scene(newest)) if i.kind == kind and i.metric == metric]

    (insight,) = found
    assert insight.value is not None
    assert insight.limit is not None
    assert insight.n == newest.n
    assert insight.caveat
    assert (insight.start, insight.end) == (NOW - timedelta(hours=1), NOW)
    assert insight.metrics["p95_ms"] > insight.metrics["p50_ms"]


@pytest.mark.parametrize("newest", [Traffic(latency_ms=500), Traffic(failed=0)])
def test_an_improvement_is_no_regression(newest: Traffic) -> None:
    assert "regression_detected" not in kinds(Performance()(scene(newest)))


def test_a_small_shift_within_the_noise_of_history_is_no_regression() -> None:
    wave = [Traffic(latency_ms=800 * (1 + 0.3 * np.sin(i))) for i in range(71)]
    newest = Traffic(latency_ms=1000)
    world = World(traffic={LARGE_ON: [*wave, newest]})

    assert "regression_detected" not in kinds(Performance()(world.scene()))


def test_a_rise_too_small_to_matter_is_no_regression_however_unusual() -> None:
    assert "regression_detected" not in kinds(Performance()(scene(Traffic(latency_ms=940))))


def test_a_jump_that_few_requests_explain_is_no_regression() -> None:
    few_before = Traffic(n=120, failed=2, labels=9)
    jump = dataclasses.replace(few_before, latency_ms=1150)

    assert Performance()(scene(jump, before=few_before, span=4)) == ()


def test_a_short_history_still_finds_a_jump() -> None:
    insights = Performance()(scene(Traffic(latency_ms=2400), span=4))

    found = only(insights, "regression_detected")
    assert found.severity is Severity.CRITICAL
    assert "3 trailing hours" in found.description


def test_no_history_is_no_regression() -> None:
    assert "regression_detected" not in kinds(
        Performance()(scene(Traffic(latency_ms=2400), span=1))
    )


def test_too_few_requests_are_reported_as_unknown() -> None:
    few = Traffic(n=20, failed=19, labels=5)

    insights = Performance()(scene(few))

    assert only(insights, "insufficient_data").severity is Severity.INFO
    assert not kinds(insights) & {"error_rate_high", "regression_detected"}


def test_traffic_that_stops_is_no_data_and_not_fine() -> None:
    gone = scene(None, None, None)

    insights = Performance()(gone)

    assert kinds(insights) == {"no_data"}
    assert only(insights, "no_data").end == NOW - timedelta(hours=3)


def test_data_younger_than_the_allowed_lag_is_not_missing() -> None:
    assert Performance()(scene(None)) == ()


def test_an_error_rate_that_chance_explains_is_not_high() -> None:
    lucky = Traffic(n=120, failed=8, labels=10)

    assert "error_rate_high" not in kinds(Performance()(scene(lucky)))


def test_counts_that_contradict_each_other_hold_their_target_and_say_so() -> None:
    one = scene(Traffic(latency_ms=20_000))
    bad = dataclasses.replace(one, hours=one.hours.assign(n_cost=one.hours["n"] + 1))

    assert kinds(Performance()(bad)) == {"contradicting_data"}
    assert Cost()(bad) == ()


@few(max_examples=6)
@given(seed=st.integers(0, 2**32 - 1))
def test_order_of_rows_changes_no_insight(seed: int) -> None:
    one = scene(Traffic(latency_ms=20_000, failed=80, cost_usd=0.02))
    mixed = dataclasses.replace(one, hours=one.hours.sample(frac=1, random_state=seed))

    assert Performance()(mixed) == Performance()(one)
    assert Cost()(mixed) == Cost()(one)


def test_no_false_alarms_on_stationary_noise() -> None:
    rng = np.random.default_rng(7)
    names = [f"t{i}" for i in range(60)]
    traffic = {
        (name, "large"): [
            Traffic(
                n=(n := int(rng.poisson(300))),
                failed=int(rng.binomial(n, 0.02)),
                labels=30,
                latency_ms=float(800 * np.exp(rng.normal(0, 0.05))),
                failed_priced=True,
            )
            for _ in range(60)
        ]
        for name in names
    }
    world = World(traffic=traffic, arms=dict.fromkeys(names, (LARGE,)))

    alarms = Performance()(world.scene())

    assert len({i.target for i in alarms}) <= 3, kinds(alarms)


@pytest.mark.parametrize(
    ("budget", "severity"),
    [
        # 12 h of today at 1000 requests and 0.004 USD are 48 USD.
        ({"daily_usd": 200.0}, None),
        ({"daily_usd": 58.0}, Severity.WARNING),
        ({"daily_usd": 52.0}, Severity.ERROR),
        ({"daily_usd": 48.0}, Severity.CRITICAL),
        ({"hourly_usd": 4.0}, Severity.CRITICAL),
        ({"hourly_usd": 4.9}, Severity.WARNING),
        ({"per_request_usd": 0.0043}, Severity.ERROR),
        ({"per_request_usd": 0.0039}, Severity.CRITICAL),
    ],
)
def test_budgets_warn_before_they_break(
    budget: dict[str, float], severity: Severity | None
) -> None:
    alerts = [i for i in Cost()(scene(budget=Budget(**budget))) if i.kind == "budget_alert"]

    assert [i.severity for i in alerts] == ([] if severity is None else [severity])


def test_the_day_is_forecast_from_the_same_hours_of_the_last_day() -> None:
    night, noon = Traffic(n=200, failed=2, labels=9), Traffic(n=2000, failed=20)
    # Hours 0-11 UTC are quiet, 12-23 busy; it is noon now.
    series = ([noon] * 12 + [night] * 12) * 3
    world = World(traffic={LARGE_ON: series}, policy=Policy(budget=Budget(daily_usd=100.0)))

    table = Cost().table(world.scene()).iloc[0]

    assert table["today_usd"] == pytest.approx(12 * 198 * 0.004)
    assert table["forecast_usd"] == pytest.approx(12 * (198 + 1980) * 0.004)
    assert table["forecast_low_usd"] < table["forecast_usd"] < table["forecast_high_usd"]
    assert only(Cost()(world.scene()), "budget_forecast").limit == 100.0


def test_a_target_younger_than_a_day_is_forecast_at_its_mean_hour() -> None:
    table = Cost().table(scene(span=6)).iloc[0]

    assert table["forecast_usd"] == pytest.approx((6 + 12) * 1000 * 0.004)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_cost_spike_is_found_at_every_scale(scale: float) -> None:
    usual = Traffic(cost_usd=0.004 * scale, failed_priced=True)
    dear = Traffic(cost_usd=0.010 * scale, failed_priced=True)

    spikes = [i for i in Cost()(scene(dear, before=usual)) if i.kind == "cost_spike"]

    assert {i.metric for i in spikes} == {"cost_usd", "spend_usd"}
    assert all(i.severity is Severity.CRITICAL for i in spikes)


def test_unknown_costs_are_flagged_and_priced_at_nothing() -> None:
    insights = Cost()(scene(before=Traffic(cost_usd=None), budget=Budget(daily_usd=1.0)))

    assert kinds(insights) == {"unknown_cost"}
    assert only(insights, "unknown_cost").value == 1.0
    assert "cost_usd" not in only(insights, "unknown_cost").metrics


def test_another_arm_in_use_that_is_cheaper_is_pointed_out() -> None:
    def world(usd: float) -> Scene:
        other = Traffic(n=200, failed=2, labels=9, cost_usd=usd, failed_priced=True)
        traffic = {LARGE_ON: STEADY, ("support", "small"): other}
        return World(traffic=traffic, arms={"support": (LARGE, SMALL)}).scene()

    found = only(Cost()(world(0.003)), "optimization_opportunity")

    assert (found.value, found.limit) == (0.003, 0.004)
    assert Cost()(world(0.0035)) == ()


def test_paid_calls_that_failed_are_counted() -> None:
    found = only(Cost()(scene(before=Traffic(failed=200, failed_priced=True))), "failed_call_cost")

    assert found.value == pytest.approx(0.2)
    assert found.metrics["success_cost_usd"] == pytest.approx(0.004 / 0.8)


def test_limits_come_from_the_policy() -> None:
    strict = scene(safety=SafetyLimits(latency_p95_ms_max=1000.0))

    assert only(Performance()(strict), "latency_violation").limit == 1000.0


def test_an_empty_ledger_has_neither_insights_nor_proposals() -> None:
    nothing = dataclasses.replace(scene(), hours=empty())

    assert Performance()(nothing) == ()
    assert Cost()(nothing) == ()
    assert Pareto()(nothing, ()) == ()
    assert Threshold()(nothing, ()) == ()
