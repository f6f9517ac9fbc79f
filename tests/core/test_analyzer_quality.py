"""Levels come from mature labels with an interval; missing labels are said, never taken as good."""

import dataclasses
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.aggregates import empty
from optimizer.analyzers import Quality
from optimizer.evidence import Insight, Scene, Severity
from optimizer.policy import Goal, Guardrail, Policy, SafetyLimits
from optimizer.statistics.scores import levels
from scenes import LARGE, NOW, SMALL, Traffic, World

BOTH = {"support": (LARGE, SMALL)}
USUAL = Traffic()


def scene(
    large: Traffic | Sequence[Traffic | None],
    small: Traffic | Sequence[Traffic | None] | None = None,
    *,
    span: int = 168,
    **policy: Any,  # noqa: ANN401 - fields of a policy
) -> Scene:
    """A target whose arm in force is large; labels are mature at once unless said otherwise."""
    traffic: dict[tuple[str, str], Any] = {("support", "large"): large}
    if small is not None:
        traffic["support", "small"] = small
    limits: dict[str, Any] = {
        "label_maturity": timedelta(0),
        "hold_expires_after": timedelta(hours=72),
    }
    return World(traffic=traffic, arms=BOTH, policy=Policy(**(limits | policy)), span=span).scene()


def kinds(insights: Sequence[Insight]) -> list[str]:
    return [insight.kind for insight in insights]


def only(insights: Sequence[Insight], kind: str) -> Insight:
    (found,) = [insight for insight in insights if insight.kind == kind]
    return found


def day_of(quality: float, *, before: int = 144, labels: int = 200) -> list[Traffic]:
    """Hours at .9, and a last day at another level."""
    return [USUAL] * before + [Traffic(quality=quality, labels=labels)] * 24


def test_a_steady_good_arm_says_nothing() -> None:
    assert Quality()(scene(USUAL)) == ()


def test_a_level_has_an_interval_that_holds_it() -> None:
    row = Quality().table(scene(USUAL)).iloc[0]

    assert row["quality"] == pytest.approx(0.9)
    assert row["n_quality"] == 24 * 200
    # 1.96 sqrt(.9 * .1 / 4800)
    assert row["quality_high"] - row["quality"] == pytest.approx(0.0085, abs=2e-4)
    assert row["quality"] - row["quality_low"] == pytest.approx(0.0085, abs=2e-4)


def test_many_requests_of_one_session_count_as_few() -> None:
    hours = scene(USUAL).hours
    half = {
        units: levels(hours.assign(n_units=units))["quality_high"].iloc[0] - 0.9
        for units in (1000, 250)
    }

    assert half[250] == pytest.approx(2 * half[1000])


@pytest.mark.parametrize(
    ("quality", "severity"),
    [(0.79, Severity.WARNING), (0.72, Severity.ERROR), (0.55, Severity.CRITICAL)],
)
def test_a_fall_below_its_own_level_is_found_and_graded(quality: float, severity: Severity) -> None:
    found = only(Quality()(scene(day_of(quality))), "quality_degradation")

    assert found.severity is severity
    assert found.value == pytest.approx(quality)
    assert found.limit == pytest.approx(0.9, abs=0.01)
    assert (found.n, found.end, found.end - found.start) == (4800, NOW, timedelta(days=1))
    assert found.caveat


@pytest.mark.parametrize("quality", [0.83, 0.9, 1.0])
def test_a_small_fall_and_a_rise_are_no_degradation(quality: float) -> None:
    assert "quality_degradation" not in kinds(Quality()(scene(day_of(quality))))


def test_a_low_day_of_the_week_is_usual_where_the_weeks_before_had_it() -> None:
    # It is Tuesday noon; the hours from Monday noon on were as low in the weeks before.
    week = [USUAL] * 144 + [Traffic(quality=0.7)] * 24

    assert "quality_degradation" not in kinds(Quality()(scene(week * 5)))
    assert "quality_degradation" in kinds(Quality()(scene([USUAL] * 4 * 168 + week)))


def test_a_fall_by_night_hours_alone_is_none() -> None:
    night = [Traffic(quality=0.7 if hour % 24 < 6 else 0.9) for hour in range(168)]

    assert Quality()(scene(night)) == ()


def test_days_that_scatter_hide_a_fall() -> None:
    wild = [Traffic(quality=0.9 if day % 2 else 0.72) for day in range(7) for _ in range(24)]

    assert "quality_degradation" not in kinds(Quality()(scene(wild)))


@pytest.mark.parametrize("before", [0, 24, 72])
def test_too_few_days_before_are_no_usual_level(before: int) -> None:
    assert "quality_degradation" not in kinds(Quality()(scene(day_of(0.5, before=before))))


def test_labels_that_are_not_mature_change_nothing() -> None:
    late: dict[str, Any] = {"label_maturity": timedelta(hours=24)}
    steady = Quality()(scene(day_of(0.9), **late))

    assert Quality()(scene(day_of(0.2), **late)) == steady == ()


def test_a_target_without_a_mature_window_says_so() -> None:
    insights = Quality()(scene(Traffic(quality=0.1), span=5, label_maturity=timedelta(hours=6)))

    assert kinds(insights) == ["no_data"]
    assert insights[0].metrics == {"n_quality": 0.0}


@pytest.mark.parametrize(
    ("quality", "least", "kind"),
    [
        (0.65, 0.0, "quality_low"),
        (0.72, 0.0, None),
        (0.65, 0.68, "quality_violation"),
        (0.85, 0.9, "quality_violation"),
        (0.895, 0.9, None),
    ],
)
def test_a_level_is_low_only_with_its_whole_interval(
    quality: float, least: float, kind: str | None
) -> None:
    one = scene(Traffic(quality=quality), safety=SafetyLimits(quality_min=least))

    insights = Quality()(one)

    assert kinds(insights) == ([] if kind is None else [kind])
    assert all(i.severity is Severity.CRITICAL for i in insights if i.kind == "quality_violation")


@pytest.mark.parametrize(
    ("policy", "severity"),
    [
        ({}, Severity.WARNING),
        ({"guardrails": (Guardrail(metric="failure_rate", margin=0.01),)}, Severity.INFO),
        (
            {
                "guardrails": (Guardrail(metric="failure_rate", margin=0.01),),
                "goal": Goal(metric="quality"),
            },
            Severity.WARNING,
        ),
    ],
)
def test_missing_labels_are_said_and_matter_where_quality_is_read(
    policy: dict[str, Any], severity: Severity
) -> None:
    found = only(Quality()(scene(Traffic(labels=0), **policy)), "no_labels")

    assert found.severity is severity
    assert "quality" not in found.metrics


def test_few_labels_are_no_level() -> None:
    (found,) = Quality()(scene(Traffic(labels=1, quality=0.0), span=20))

    assert (found.kind, found.value, found.limit) == ("insufficient_data", 20, 30)


def test_a_week_makes_a_level_where_a_day_has_too_few_labels() -> None:
    found = only(Quality()(scene(Traffic(labels=1, quality=0.0))), "quality_low")

    assert found.n == 168
    assert found.end - found.start == timedelta(days=7)


def test_a_low_label_rate_is_told_beside_the_level() -> None:
    found = only(Quality()(scene(Traffic(labels=5))), "low_label_rate")

    assert found.value == pytest.approx(0.005)
    assert found.severity is Severity.INFO


def test_arms_labelled_unlike_are_not_compared() -> None:
    insights = Quality()(scene(USUAL, Traffic(labels=120, quality=0.75)))

    found = only(insights, "labels_imbalanced")
    assert (found.value, found.limit) == (0.12, 0.2)
    assert "arms_differ" not in kinds(insights)


@pytest.mark.parametrize(
    ("quality", "severity"), [(0.8, Severity.WARNING), (0.98, Severity.INFO), (0.88, None)]
)
def test_arms_that_differ_are_told(quality: float, severity: Severity | None) -> None:
    found = [i for i in Quality()(scene(USUAL, Traffic(quality=quality))) if i.arm == "small"]

    assert [i.severity for i in found] == ([] if severity is None else [severity])
    for insight in found:
        assert insight.kind == "arms_differ"
        assert insight.value == pytest.approx(quality - 0.9)
        assert insight.n == 168 * 200


def test_an_arm_that_served_at_worse_hours_is_not_worse() -> None:
    large = [Traffic(quality=0.9 if hour % 24 < 12 else 0.7) for hour in range(168)]
    small = [each if index % 24 >= 11 else None for index, each in enumerate(large)]

    assert "arms_differ" not in kinds(Quality()(scene(large, small)))


def test_arms_that_never_served_together_are_not_compared() -> None:
    early: list[Traffic | None] = [USUAL] * 84 + [None] * 84
    late: list[Traffic | None] = [None] * 84 + [Traffic(quality=0.75)] * 84

    assert "arms_differ" not in kinds(Quality()(scene(late, early)))


def test_arms_swapped_differ_the_other_way() -> None:
    one = scene(USUAL, Traffic(quality=0.8, labels=190))
    other = dataclasses.replace(one, baselines={"support": "small"})

    there, back = (only(Quality()(each), "arms_differ").value for each in (one, other))

    assert there is not None
    assert back == pytest.approx(-there)


@settings(max_examples=6)
@given(seed=st.integers(0, 2**32 - 1))
def test_neither_order_nor_slices_nor_other_targets_change_what_is_said(seed: int) -> None:
    traffic = {("support", "large"): day_of(0.7), ("support", "small"): Traffic(quality=0.6)}
    policy = Policy(label_maturity=timedelta(0))
    one = World(traffic=dict(traffic), arms=BOTH, policy=policy, span=168).scene()
    crowd = {("a", "large"): day_of(0.2), ("z", "small"): Traffic(labels=0)} | traffic
    arms = {**BOTH, "a": (LARGE,), "z": (LARGE, SMALL)}
    many = World(traffic=crowd, arms=arms, policy=policy, span=168).scene()
    mixed = many.hours.sample(frac=1, random_state=seed)
    cut = mixed["window_start_s"] % 7200 == 0
    mixed = mixed.assign(slice=mixed["slice"].where(cut, "control"))

    found = Quality()(dataclasses.replace(many, hours=mixed))

    assert tuple(i for i in found if i.target == "support") == Quality()(one) != ()


def test_a_longer_history_is_what_an_arm_is_measured_against() -> None:
    one = scene(day_of(0.7))
    known = one.hours[["target", "arm", "window_start_s", "n", "n_cost", "cost_nusd"]]
    scores = one.hours[["n_quality", "quality_e6", "quality_sq_e9"]]
    short = one.hours[one.hours["window_start_s"] >= NOW.timestamp() - 24 * 3600]
    alone = dataclasses.replace(one, hours=short)

    assert "quality_degradation" not in kinds(Quality()(alone))
    longer = dataclasses.replace(alone, history=known.join(scores))
    assert only(Quality()(longer), "quality_degradation").value == pytest.approx(0.7)


def test_counts_that_contradict_each_other_hold_their_target() -> None:
    one = scene(day_of(0.3))
    bad = dataclasses.replace(one, hours=one.hours.assign(n_cost=one.hours["n"] + 1))

    assert Quality()(bad) == ()


def test_an_empty_ledger_and_an_unknown_target_say_nothing() -> None:
    one = scene(day_of(0.3))

    assert Quality()(dataclasses.replace(one, hours=empty())) == ()
    assert Quality()(dataclasses.replace(one, targets={}, policies={})) == ()


def test_the_most_severe_comes_first() -> None:
    found = Quality()(scene(day_of(0.5), Traffic(labels=5, quality=0.5)))

    ranks = [list(Severity).index(insight.severity) for insight in found]
    assert ranks == sorted(ranks, reverse=True)
    assert len(set(ranks)) > 1
