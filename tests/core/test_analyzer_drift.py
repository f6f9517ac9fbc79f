"""Arms are compared with themselves: stationary hours say nothing, changes are found and dated."""

import dataclasses
import functools
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pytest

from drifting import HOURS, LONGER, ONE_MODEL, SUPPORT, Change, arm, lived, scaled, scene
from optimizer.analyzers.drift import MODEL_CHANGED, Drift, changed_arms
from optimizer.evidence import Insight, Severity
from optimizer.policy import Policy
from optimizer.targets import Arm, ModelConfig
from scenes import NOW, Traffic


def of(insights: Sequence[Insight], kind: str) -> list[Insight]:
    return [insight for insight in insights if insight.kind == kind]


def ago(hours: int) -> datetime:
    return NOW - timedelta(hours=hours)


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_stationary_hours_of_many_arms_say_almost_nothing(rho: float) -> None:
    names = [f"t{index}" for index in range(40)]
    series = {(name, "a"): lived(seed, rho=rho) for seed, name in enumerate(names)}

    insights = Drift()(scene(series, {name: (arm("a", f"m-{name}"),) for name in names}))

    assert of(insights, "behaviour_change") == []
    assert of(insights, MODEL_CHANGED) == []
    assert of(insights, "distribution_change") == []


@pytest.mark.parametrize(
    ("change", "metric", "severity"),
    [
        (scaled(latency_ms=1.6), "latency_ms", Severity.ERROR),
        (scaled(latency_ms=0.7), "latency_ms", Severity.INFO),
        (scaled(failed=4.0), "failure_rate", Severity.ERROR),
        (scaled(cost_usd=1.3), "cost_usd", Severity.WARNING),
        (scaled(quality=0.8), "quality", Severity.ERROR),
        (scaled(output_tokens=1.3), None, Severity.WARNING),
        (scaled(input_tokens=0.7), None, Severity.WARNING),
    ],
)
def test_a_change_is_found_dated_and_sized(
    change: Change, metric: str | None, severity: Severity
) -> None:
    insights = Drift()(scene({SUPPORT: lived(1, change=change)}))

    found = [i for i in of(insights, "behaviour_change") if i.metric == metric]
    assert found
    for insight in found:
        assert insight.severity is severity
        assert abs(insight.start - ago(12)) <= timedelta(hours=2)
        assert insight.end == NOW
        assert insight.n >= 10 * 200
        assert insight.value is not None
        assert insight.limit is not None
        assert insight.caveat
        assert insight.metrics["hours_before"] > 300
        assert insight.value == pytest.approx(insight.limit * (1 + insight.metrics["change"]))


@pytest.mark.parametrize("hours", [6, 9, 14, 20, 26, 32, 38, 44])
def test_the_hour_of_a_change_stays_the_same_while_it_is_told(hours: int) -> None:
    one = scene({SUPPORT: lived(1, change=scaled(output_tokens=1.4), hours=hours)})

    since = changed_arms(Drift()(one), one.targets)

    assert set(since) <= {SUPPORT}
    assert all(moment == ago(hours) for moment in since.values())
    assert since or hours > 38


def test_a_change_has_the_size_it_was_given() -> None:
    insights = Drift()(scene({SUPPORT: lived(2, change=LONGER)}))

    (found,) = of(insights, "behaviour_change")
    assert found.metrics["change"] == pytest.approx(0.3, abs=0.06)
    assert found.value == pytest.approx(2_600, rel=0.05)


def test_a_shift_of_three_deviations_is_found_in_six_hours() -> None:
    three = scaled(output_tokens=float(np.exp(0.12)))
    names = [f"t{index}" for index in range(20)]
    series = {
        (name, "a"): lived(seed, change=three, hours=6, rho=0.0) for seed, name in enumerate(names)
    }

    insights = Drift()(scene(series, {name: (arm("a", f"m-{name}"),) for name in names}))

    assert len({i.target for i in of(insights, "behaviour_change")}) >= 16


def test_a_change_too_small_to_matter_is_not_told_however_certain() -> None:
    small = scaled(cost_usd=1.04)
    still = [Traffic(n=400)] * (HOURS - 20) + [small(Traffic(n=400))] * 20

    assert Drift()(scene({SUPPORT: still})) == ()
    assert Drift(change_min=0.01)(scene({SUPPORT: still})) != ()


def test_an_excursion_that_ended_is_no_change() -> None:
    series = lived(3)
    series[-40:-25] = map(scaled(output_tokens=1.5), series[-40:-25])

    assert of(Drift()(scene({SUPPORT: series})), "behaviour_change") == []


def test_an_old_change_is_told_no_more() -> None:
    assert (
        of(Drift()(scene({SUPPORT: lived(4, change=LONGER, hours=70)})), "behaviour_change") == []
    )


@pytest.mark.parametrize("span", [0, 24, 95])
def test_too_short_a_history_says_nothing(span: int) -> None:
    short = lived(5, span=max(span, 1), change=scaled(output_tokens=3.0), hours=12)

    assert Drift()(scene({SUPPORT: short[:span]})) == ()


def test_an_arm_that_is_new_says_nothing_beside_an_old_one() -> None:
    arms = {"support": (arm("large", "gpt-x"), arm("small", "gpt-y"))}
    new = [None] * (HOURS - 30) + lived(6, span=30, change=LONGER, hours=10)

    insights = Drift()(scene({SUPPORT: lived(7), ("support", "small"): new}, arms))

    assert [i for i in insights if i.arm == "small"] == []


def test_hours_of_few_requests_are_not_judged() -> None:
    few = [dataclasses.replace(each, n=90, failed=2, labels=60) for each in lived(8, change=LONGER)]

    assert Drift()(scene({SUPPORT: few})) == ()
    assert Drift(min_requests=50)(scene({SUPPORT: few})) != ()


def test_scores_that_are_not_mature_are_not_judged() -> None:
    one = scene({SUPPORT: lived(9, change=scaled(quality=0.7), hours=12)})
    late = Policy(label_maturity=timedelta(hours=24), hold_expires_after=timedelta(hours=72))

    immature = Drift()(dataclasses.replace(one, policies={"support": late}))

    assert [i for i in Drift()(one) if i.metric == "quality"]
    assert not [i for i in immature if i.metric == "quality"]


@pytest.mark.parametrize("hours", [1, 2, 3])
def test_what_began_in_the_last_three_hours_is_no_drift_yet(hours: int) -> None:
    change = scaled(output_tokens=2.0, latency_ms=3.0)

    assert Drift()(scene({SUPPORT: lived(10, change=change, hours=hours)})) == ()


def test_an_arm_that_stopped_serving_is_not_judged_by_its_last_hours() -> None:
    stopped = [*lived(12, change=scaled(output_tokens=1.6), hours=1)[50:], *[None] * 50]
    arms = {"support": (arm("large", "gpt-x"), arm("small", "gpt-y"))}

    insights = Drift()(scene({SUPPORT: stopped, ("support", "small"): lived(13)}, arms))

    assert [i for i in insights if i.arm == "large"] == []


def test_a_wider_latency_is_a_change_of_its_tail() -> None:
    wider = scaled(latency_sigma=1.6)

    insights = Drift()(scene({SUPPORT: lived(14, change=wider, hours=24)}))

    assert "tail latency, ms" in "".join(i.title for i in of(insights, "behaviour_change"))


def test_a_day_of_another_shape_is_a_change_of_the_distribution() -> None:
    """Latencies alternate between halves of the day's hours, so that no run of hours stands out."""
    series = lived(15)
    mixed = [
        dataclasses.replace(each, latency_ms=each.latency_ms * (0.35 if index % 2 else 1 / 0.35))
        for index, each in enumerate(series[-24:])
    ]

    insights = Drift()(scene({SUPPORT: [*series[:-24], *mixed]}))

    (found,) = of(insights, "distribution_change")
    assert found.value is not None
    assert found.limit is not None
    assert found.value > found.limit >= 0.1
    assert found.metrics["ks_p_value"] < 1e-6
    assert (found.start, found.end) == (ago(24), NOW)


def test_a_day_that_is_unlike_the_others_as_others_were_is_none() -> None:
    series = lived(16)
    for day in (3, 13):
        series[day * 24 : day * 24 + 24] = map(
            scaled(latency_sigma=2.0), series[day * 24 : day * 24 + 24]
        )

    assert of(Drift()(scene({SUPPORT: series})), "distribution_change") == []


def shared(changed: Sequence[str], change: Change = LONGER) -> dict[tuple[str, str], list[Traffic]]:
    return {
        (name, "a"): lived(seed + 20, change=change if name in changed else None)
        for seed, name in enumerate(ONE_MODEL)
    }


def test_a_change_in_several_arms_of_a_model_at_one_hour_is_the_models() -> None:
    one = scene(shared(["t0", "t2", "t3"]), ONE_MODEL)

    insights = Drift()(one)

    found = of(insights, MODEL_CHANGED)
    assert [i.target for i in found] == ["t0", "t2", "t3"]
    assert all("gpt-x" in i.title and i.severity is Severity.ERROR for i in found)
    since = changed_arms(insights, one.targets)
    assert set(since) == {(name, "a") for name in ONE_MODEL}
    assert all(abs(moment - ago(12)) <= timedelta(hours=2) for moment in since.values())


def test_an_arm_that_was_not_judged_is_reset_with_its_model() -> None:
    arms = {**ONE_MODEL, "new": (arm("a", "gpt-x"), arm("b", "gpt-y"))}
    one = scene(shared(["t0", "t1"]), arms)

    since = changed_arms(Drift()(one), one.targets)

    assert ("new", "a") in since
    assert ("new", "b") not in since


def test_one_strong_change_among_steady_arms_is_that_arms_own() -> None:
    one = scene(shared(["t1"], scaled(output_tokens=1.6)), ONE_MODEL)

    insights = Drift()(one)

    (found,) = of(insights, MODEL_CHANGED)
    assert found.metrics["arms_changed"] == 1
    assert set(changed_arms(insights, one.targets)) == {("t1", "a")}


def test_latency_alone_in_one_arm_is_its_load_and_not_its_model() -> None:
    insights = Drift()(scene(shared(["t1"], scaled(latency_ms=2.0)), ONE_MODEL))

    assert of(insights, "behaviour_change")
    assert of(insights, MODEL_CHANGED) == []


def test_an_outage_is_no_other_model() -> None:
    insights = Drift()(scene(shared(["t0", "t1", "t2"], scaled(failed=5.0)), ONE_MODEL))

    assert of(insights, "behaviour_change")
    assert of(insights, MODEL_CHANGED) == []


def test_other_requests_are_no_other_model() -> None:
    other = scaled(input_tokens=1.5, output_tokens=1.5, cost_usd=1.5)
    one = scene(shared(["t0", "t1", "t2"], other), ONE_MODEL)

    insights = Drift()(one)

    assert of(insights, "behaviour_change")
    assert of(insights, MODEL_CHANGED) == []
    assert changed_arms(insights, one.targets) == {}


def test_a_change_in_arms_of_two_models_of_one_target_is_its_traffic() -> None:
    arms = {"support": (arm("large", "gpt-x"), arm("small", "gpt-y"))}
    both = {
        ("support", name): lived(seed, change=LONGER)
        for name, seed in (("large", 30), ("small", 31))
    }

    insights = Drift()(scene(both, arms))

    assert len(of(insights, "behaviour_change")) == 2
    assert of(insights, MODEL_CHANGED) == []


def test_changes_at_different_hours_are_not_one() -> None:
    series = shared([])
    for name, hours in (("t0", 40), ("t1", 25), ("t2", 10)):
        series[name, "a"] = lived(40 + hours, change=scaled(latency_ms=1.5), hours=hours)

    insights = Drift()(scene(series, ONE_MODEL))

    assert len({i.target for i in of(insights, "behaviour_change")}) == 3
    assert of(insights, MODEL_CHANGED) == []


def test_providers_of_one_model_name_are_told_apart() -> None:
    arms = {
        f"t{index}": (Arm(name="a", config=ModelConfig(model="gpt-x", provider=f"p{index % 2}")),)
        for index in range(4)
    }
    one = scene(shared(["t0", "t2"]), arms)

    since = changed_arms(Drift()(one), one.targets)

    assert set(since) == {("t0", "a"), ("t2", "a")}


@functools.cache
def told() -> tuple[Insight, ...]:
    return Drift()(scene(shared(["t0", "t1", "t2"]), ONE_MODEL))


def test_money_in_any_unit_gives_the_same_changes() -> None:
    def cheap(factor: float) -> list[tuple[str, datetime]]:
        priced = scaled(cost_usd=factor)
        series = map(priced, lived(50, change=scaled(cost_usd=1.4)))
        insights = Drift()(scene({SUPPORT: list(series)}))
        return [(i.kind, i.start) for i in insights]

    assert cheap(1.0) == cheap(1e-2) == cheap(1e3) != []


def test_the_order_of_rows_changes_nothing_and_the_most_severe_comes_first() -> None:
    one = scene(shared(["t0", "t1", "t2"]), ONE_MODEL)
    mixed = one.hours.sample(frac=1.0, random_state=1).reset_index(drop=True)

    found = Drift()(dataclasses.replace(one, hours=mixed))

    assert found == told()
    order = [list(Severity).index(insight.severity) for insight in found]
    assert order == sorted(order, reverse=True)


def test_counts_that_contradict_each_other_hold_their_target() -> None:
    one = scene({SUPPORT: lived(51, change=LONGER)})
    bad = one.hours.assign(n_cost=one.hours["n"] + 1)

    assert Drift()(one) != ()
    assert Drift()(dataclasses.replace(one, hours=bad)) == ()


def test_a_target_that_left_the_configuration_is_not_analyzed() -> None:
    one = scene({SUPPORT: lived(52, change=LONGER)})

    assert Drift()(dataclasses.replace(one, targets={}, policies={})) == ()
    assert changed_arms(told(), {}) == {}
