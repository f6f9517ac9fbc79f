"""Newest hours against those before: what is news is told once, what is usual is not."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pytest

from drifting import HOURS, ONE_MODEL, SUPPORT, Change, arm, lived, scaled, scene
from optimizer.analyzers import Anomaly, Drift
from optimizer.evidence import Insight, Severity
from optimizer.policy import Policy
from optimizer.targets import Arm, ModelConfig
from scenes import NOW, Traffic

TWO = {"support": (arm("large", "gpt-x"), arm("small", "gpt-y"))}
HARM, NEWS = {Severity.WARNING, Severity.ERROR}, {Severity.INFO}


def of(insights: Sequence[Insight], kind: str) -> list[Insight]:
    return [insight for insight in insights if insight.kind == kind]


def ago(hours: int) -> datetime:
    return NOW - timedelta(hours=hours)


def emptied(seed: int, share: float, hours: int = 1) -> list[Traffic | None]:
    """Hours of an arm of which the newest have only a share of their requests."""
    few = scaled(n=share, failed=share, labels=share) if share else lambda _: None
    series = lived(seed)
    return [*series[:-hours], *map(few, series[-hours:])]


def failing(traffic: Traffic) -> Traffic:
    """A quarter of the requests fail."""
    return dataclasses.replace(traffic, failed=100)


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.0, 0.7])
def test_stationary_hours_of_many_arms_say_almost_nothing(rho: float) -> None:
    """Eight measures of 40 arms and the traffic of 40 targets: one false anomaly at most."""
    names = [f"t{index}" for index in range(40)]
    series = {(name, "a"): lived(seed, rho=rho) for seed, name in enumerate(names)}

    insights = Anomaly()(scene(series, {name: (arm("a", f"m-{name}"),) for name in names}))

    assert len(insights) <= 1


@pytest.mark.parametrize("hours", [1, 2, 3])
@pytest.mark.parametrize(
    ("change", "metric", "severities"),
    [
        (scaled(latency_ms=2.5), "latency_ms", HARM),
        (scaled(latency_ms=0.4), "latency_ms", NEWS),
        (failing, "failure_rate", HARM),
        (scaled(cost_usd=1.6), "cost_usd", HARM),
        (scaled(quality=0.7), "quality", HARM),
        (scaled(output_tokens=1.6), None, NEWS),
        (scaled(input_tokens=0.5), None, NEWS),
    ],
)
def test_a_change_is_told_within_three_hours(
    change: Change, metric: str | None, severities: set[Severity], hours: int
) -> None:
    insights = Anomaly()(scene({SUPPORT: lived(1, change=change, hours=hours)}))

    (found,) = of(insights, "anomaly")
    assert found.metric == metric
    assert found.severity in severities
    assert (found.start, found.end) == (ago(1), NOW)
    assert (found.target, found.arm) == SUPPORT
    assert found.n >= 200
    assert found.caveat
    assert found.value is not None
    assert found.limit is not None
    assert found.value == pytest.approx(found.limit * (1 + found.metrics["change"]))
    assert abs(found.metrics["z"]) > 3.5
    assert found.metrics["hours_before"] >= 20


def test_requests_served_by_another_model_are_told() -> None:
    def diverted(traffic: Traffic) -> Traffic:
        return dataclasses.replace(traffic, fallback=traffic.n // 4)

    (found,) = Anomaly()(scene({SUPPORT: lived(1, change=diverted, hours=1)}))

    assert (found.kind, found.metric) == ("anomaly", "fallback_rate")


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("hours", [1, 3])
def test_an_outage_of_traffic_is_told_of_the_target(share: float, hours: int) -> None:
    insights = Anomaly()(scene({SUPPORT: emptied(1, share, hours)}))

    (found,) = of(insights, "traffic_drop")
    assert (found.target, found.arm) == ("support", None)
    assert found.severity is Severity.ERROR
    assert found.value == pytest.approx(400 * share)
    assert found.limit == pytest.approx(400)


def test_more_traffic_than_ever_is_a_spike() -> None:
    more = scaled(n=2.0, failed=2.0)

    (found,) = Anomaly()(scene({SUPPORT: lived(1, change=more, hours=1)}))

    assert found.kind == "traffic_spike"


def test_traffic_that_moves_between_arms_is_none_of_the_targets() -> None:
    half = scaled(n=0.5, failed=0.5, labels=0.5)
    both = {
        ("support", "large"): lived(1, change=half, hours=1),
        ("support", "small"): [
            *lived(2)[:-1],
            dataclasses.replace(lived(2)[-1], n=600, failed=12, labels=300),
        ],
    }

    assert Anomaly()(scene(both, TWO)) == ()


def test_a_seasonal_peak_is_no_anomaly() -> None:
    """The newest hour has many times the traffic and latency of the hours before it, every day."""
    peak = {10: 2, 11: 5, 12: 5, 13: 2}
    series = [
        dataclasses.replace(
            each,
            n=each.n * peak.get((index - HOURS + 12) % 24, 1),
            latency_ms=each.latency_ms * peak.get((index - HOURS + 12) % 24, 1),
        )
        for index, each in enumerate(lived(3))
    ]
    other = [*series[:-1], dataclasses.replace(series[-1], n=400, latency_ms=800.0)]

    assert Anomaly()(scene({SUPPORT: series})) == ()
    assert {i.kind for i in Anomaly()(scene({SUPPORT: other}))} == {"traffic_drop", "anomaly"}


def test_an_hour_that_happened_before_is_no_anomaly() -> None:
    series = lived(11, change=scaled(output_tokens=1.6), hours=1)
    before = [*series]
    before[-1 - 10 * 24] = dataclasses.replace(series[0], output_tokens=4_000)

    assert Anomaly()(scene({SUPPORT: series})) != ()
    assert Anomaly()(scene({SUPPORT: before})) == ()


def test_a_change_too_small_to_matter_is_not_told_however_certain() -> None:
    still = [Traffic(n=4_000_000, failed=40_000, labels=0)] * (HOURS - 1)
    dearer = dataclasses.replace(still[0], cost_usd=0.0046)

    one = scene({SUPPORT: [*still, dearer]})

    assert [i.metric for i in Anomaly()(one)] == ["cost_usd"]
    assert Anomaly(change_min=0.2)(one) == ()


@pytest.mark.parametrize("hours", [1, 2, 3, 4, 5, 6, 9, 14])
@pytest.mark.parametrize("seed", [4, 2])
def test_a_change_is_told_as_an_anomaly_first_and_as_a_drift_then(hours: int, seed: int) -> None:
    one = scene({SUPPORT: lived(seed, change=scaled(output_tokens=1.6), hours=hours)})

    anomalies, drifts = Anomaly()(one), of(Drift()(one), "behaviour_change")

    assert [len(anomalies), len(drifts)] == ([1, 0] if hours <= 3 else [0, 1])


def test_an_outage_beside_a_shift_is_told_as_well() -> None:
    shifted = lived(5, change=scaled(output_tokens=1.3), hours=30)
    worse = [*shifted[:-1], scaled(output_tokens=2.0)(shifted[-1])]

    assert Anomaly()(scene({SUPPORT: shifted})) == ()
    (found,) = Anomaly()(scene({SUPPORT: worse}))
    assert found.kind == "anomaly"


def test_anomalies_of_one_model_are_one() -> None:
    series = {
        (name, "a"): lived(seed + 20, change=failing, hours=1)
        for seed, name in enumerate(ONE_MODEL)
    }

    (found,) = Anomaly()(scene(series, ONE_MODEL))

    assert found.kind == "correlated_anomaly"
    assert found.metric == "failure_rate"
    assert found.severity in {Severity.WARNING, Severity.ERROR}
    assert "model gpt-x" in found.title
    assert all(f"a of {name}" in found.description for name in ONE_MODEL)
    assert found.metrics["series"] == found.metrics["judged"] == found.metrics["targets"] == 4
    assert found.n == 4 * 400
    assert found.caveat


def test_anomalies_of_models_of_one_provider_are_the_providers() -> None:
    arms = {
        f"t{index}": (Arm(name="a", config=ModelConfig(model=f"m{index}", provider="acme")),)
        for index in range(3)
    }
    series = {
        (name, "a"): lived(seed, change=scaled(latency_ms=3.0), hours=2)
        for seed, name in enumerate(arms)
    }

    (found,) = Anomaly()(scene(series, arms))

    assert found.kind == "correlated_anomaly"
    assert "provider acme" in found.title


def test_anomalies_of_models_that_share_nothing_stay_apart() -> None:
    arms = {f"t{index}": (arm("a", f"m{index}"),) for index in range(3)}
    series = {
        (name, "a"): lived(seed, change=scaled(latency_ms=3.0), hours=2)
        for seed, name in enumerate(arms)
    }

    assert [i.kind for i in Anomaly()(scene(series, arms))] == ["anomaly"] * 3


def test_two_arms_of_ten_do_not_speak_for_their_model() -> None:
    arms = {f"t{index}": (arm("a", "gpt-x"),) for index in range(10)}
    series = {
        (name, "a"): lived(seed, change=failing if seed < 2 else None, hours=1)
        for seed, name in enumerate(arms)
    }

    assert [i.kind for i in Anomaly()(scene(series, arms))] == ["anomaly"] * 2


def test_anomalies_on_different_sides_are_not_one() -> None:
    series = {
        (name, "a"): lived(seed, change=scaled(latency_ms=(0.3, 3.0)[seed % 2]), hours=1)
        for seed, name in enumerate(("t0", "t1"))
    }

    insights = Anomaly()(scene(series, {name: ONE_MODEL[name] for name in ("t0", "t1")}))

    assert [i.kind for i in insights] == ["anomaly", "anomaly"]


def test_traffic_lost_everywhere_is_one_anomaly_of_the_application() -> None:
    arms = {f"t{index}": (arm("a", f"m{index}"),) for index in range(3)}
    series = {(name, "a"): emptied(seed, 0.0, 2) for seed, name in enumerate(arms)}

    (found,) = Anomaly()(scene(series, arms))

    assert found.kind == "correlated_anomaly"
    assert "requests an hour" in found.title
    assert "all targets" in found.title
    assert found.arm is None


@pytest.mark.parametrize("span", [1, 2, 24, 90])
def test_too_short_a_history_is_unknown_and_not_fine(span: int) -> None:
    short = lived(5, span=span, change=scaled(output_tokens=3.0), hours=1)

    (found,) = Anomaly()(scene({SUPPORT: short}))

    assert found.kind == "insufficient_data"
    assert found.severity is Severity.INFO
    assert found.value is not None
    assert found.limit is not None
    assert found.value < found.limit


def test_hours_of_few_requests_are_not_judged() -> None:
    change = scaled(latency_ms=5.0)
    few = [
        dataclasses.replace(each, n=90, failed=2, labels=60)
        for each in lived(8, change=change, hours=1)
    ]

    assert Anomaly()(scene({SUPPORT: few})) == ()
    assert Anomaly(min_requests=50)(scene({SUPPORT: few})) != ()


def test_scores_that_are_not_mature_are_not_judged() -> None:
    one = scene({SUPPORT: lived(9, change=scaled(quality=0.6), hours=1)})
    late = Policy(label_maturity=timedelta(hours=1), hold_expires_after=timedelta(hours=72))

    assert [i.metric for i in Anomaly()(one)] == ["quality"]
    assert Anomaly()(dataclasses.replace(one, policies={"support": late})) == ()


def test_the_more_series_are_judged_the_more_an_hour_must_stand_out() -> None:
    """The share of false ones is limited over all that one hour judges."""
    names = [f"t{index}" for index in range(30)]
    arms = {name: (arm("a", f"m-{name}"),) for name in names}
    slightly = {
        (name, "a"): lived(seed, change=scaled(output_tokens=1.26) if seed == 3 else None, hours=1)
        for seed, name in enumerate(names)
    }
    mine = {("t3", "a"): slightly["t3", "a"]}
    lenient = Anomaly(single=2.5)

    assert len(lenient(scene(mine, {"t3": arms["t3"]}))) == 1
    assert lenient(scene(slightly, arms)) == ()


def test_money_in_any_unit_gives_the_same_anomalies() -> None:
    def priced(factor: float) -> list[tuple[str, float]]:
        series = lived(50, change=scaled(cost_usd=1.7), hours=1)
        insights = Anomaly()(scene({SUPPORT: list(map(scaled(cost_usd=factor), series))}))
        return [(i.kind, round(i.metrics["z"], 1)) for i in insights]

    assert priced(1.0) == priced(1e-2) == priced(1e3) != []


def test_the_order_of_rows_changes_nothing_and_the_most_severe_comes_first() -> None:
    def longer(traffic: Traffic) -> Traffic:
        return failing(scaled(output_tokens=1.7)(traffic))

    series = {
        (name, "a"): lived(seed, change=longer, hours=1) for seed, name in enumerate(ONE_MODEL)
    }
    one = scene(series, ONE_MODEL)
    mixed = one.hours.sample(frac=1.0, random_state=1).reset_index(drop=True)

    found = Anomaly()(one)

    assert Anomaly()(dataclasses.replace(one, hours=mixed)) == found
    order = [list(Severity).index(insight.severity) for insight in found]
    assert len(set(order)) > 1
    assert order == sorted(order, reverse=True)


def test_the_names_of_targets_change_nothing_else() -> None:
    change = failing
    names = ["t0", "t1", "t2"]

    def told(order: Sequence[str]) -> list[float]:
        series = {
            (name, "a"): lived(seed, change=change, hours=1) for seed, name in enumerate(order)
        }
        arms = {name: (arm("a", f"m{seed}"),) for seed, name in enumerate(order)}
        return sorted(i.metrics["z"] for i in Anomaly()(scene(series, arms)))

    assert told(names) == told(names[::-1])
    assert len(told(names)) == 3


def test_a_bad_target_leaves_the_others_as_they_are() -> None:
    series = {
        (name, "a"): lived(seed, change=failing, hours=1) for seed, name in enumerate(("t0", "t1"))
    }
    arms = {name: (arm("a", f"m-{name}"),) for name in ("t0", "t1")}
    one = scene(series, arms)
    bad = one.hours.assign(
        n_cost=np.where(one.hours["target"] == "t0", one.hours["n"] + 1, one.hours["n_cost"])
    )

    assert {i.target for i in Anomaly()(one)} == {"t0", "t1"}
    assert {i.target for i in Anomaly()(dataclasses.replace(one, hours=bad))} == {"t1"}


def test_a_target_that_left_the_configuration_is_not_analyzed() -> None:
    one = scene({SUPPORT: lived(52, change=failing, hours=1)})

    assert Anomaly()(one) != ()
    assert Anomaly()(dataclasses.replace(one, targets={}, policies={})) == ()
    assert Anomaly()(dataclasses.replace(one, hours=one.hours.iloc[:0])) == ()
