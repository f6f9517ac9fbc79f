"""Traffic has no pattern before whole weeks; what is found is sized and each target's own."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.aggregates import empty
from optimizer.analyzers import Pattern
from optimizer.evidence import HISTORY_SUMS, Insight, Scene, Severity
from optimizer.metrics import HOUR_S
from optimizer.policy import Policy
from optimizer.statistics.seasonal import hour_of_week
from optimizer.targets import Target
from scenes import LARGE, NOW

Counts = npt.NDArray[np.int64]
WEEK = 168
END_S = int(NOW.timestamp())


def week_hours(hours: int) -> npt.NDArray[np.int64]:
    """Hours since Monday of the last ``hours`` hours."""
    return hour_of_week(END_S - HOUR_S * np.arange(hours, 0, -1))


def lived(
    weeks: float, *, seed: int = 1, mean: float = 400, weekend: float = 1.0, growth: float = 0.0
) -> Counts:
    """Requests of hours with a daily wave, quieter weekends and growth, and chance on top."""
    hours = int(weeks * WEEK)
    of_week = week_hours(hours)
    expected = mean * (1 + 0.6 * np.sin(of_week % 24 / 24 * 2 * np.pi))
    expected = np.where(of_week >= 120, weekend, 1.0) * expected
    expected = expected * (1 + growth) ** (np.arange(hours) / WEEK)
    return np.random.default_rng(seed).poisson(expected)


def even(weeks: float, *, seed: int = 1, mean: float = 400) -> Counts:
    return np.random.default_rng(seed).poisson(mean, int(weeks * WEEK))


def scene(series: Mapping[str, Counts]) -> Scene:
    """A scene that knows nothing but each target's hourly requests up to now; 0 = no row."""
    parts = []
    for name, counts in series.items():
        start = END_S - HOUR_S * np.arange(len(counts), 0, -1)
        rows = pd.DataFrame({"target": name, "arm": "large", "window_start_s": start})
        rows = rows.assign(**dict.fromkeys(HISTORY_SUMS, 0)).assign(n=counts)
        parts.append(rows[rows["n"] > 0])
    targets = {name: Target(name=name, arms=(LARGE,), baseline="large") for name in series}
    return Scene(
        now=NOW,
        targets=targets,
        policies=dict.fromkeys(targets, Policy()),
        baselines={},
        hours=empty(),
        in_flight={},
        history=pd.concat(parts, ignore_index=True),
    )


def found(counts: Counts) -> dict[str, Insight]:
    return {insight.kind: insight for insight in Pattern()(scene({"chat": counts}))}


@given(hours=st.integers(1, 2 * WEEK - 1), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_nothing_is_claimed_before_two_whole_weeks(hours: int, seed: int) -> None:
    counts = np.maximum(lived(2, seed=seed, weekend=0.1, growth=1.0)[-hours:], 1)

    insights = Pattern()(scene({"chat": counts}))

    assert [insight.kind for insight in insights] == ["insufficient_data"]
    assert insights[0].value == pytest.approx(hours / WEEK)
    assert insights[0].limit == 2


@pytest.mark.parametrize("weeks", [2, 3, 3.99])
def test_days_are_not_told_apart_before_four_whole_weeks(weeks: float) -> None:
    insights = found(lived(weeks, weekend=0.3, growth=0.3))

    assert set(insights) == {"temporal_pattern"}
    assert "working days" in insights["temporal_pattern"].title
    assert "not told apart" in insights["temporal_pattern"].caveat
    assert "weekend_ratio" not in insights["temporal_pattern"].metrics


def test_four_weeks_tell_the_hour_the_weekend_and_the_growth() -> None:
    insights = found(lived(4, weekend=0.4, growth=0.1))

    assert set(insights) == {"temporal_pattern", "weekly_pattern", "traffic_growth"}
    assert insights["weekly_pattern"].value == pytest.approx(0.4, abs=0.02)
    assert insights["traffic_growth"].value == pytest.approx(0.1, abs=0.01)
    assert "4 weeks" in insights["traffic_growth"].description
    numbers = insights["temporal_pattern"].metrics
    # The wave is highest at 06:00 and lowest at 18:00 on weekends, which are quieter.
    assert "18:00 UTC" in insights["temporal_pattern"].title
    assert numbers["peak_per_hour"] > 1.5 * numbers["requests_per_hour"]
    assert numbers["seasonal_strength"] > 0.9


def test_every_claim_has_size_window_and_what_would_make_it_wrong() -> None:
    for insight in found(lived(4, weekend=0.4, growth=0.1)).values():
        assert insight.n > 100_000
        assert (insight.end, insight.end - insight.start) == (NOW, timedelta(weeks=4))
        assert insight.caveat
        assert insight.value is not None
        assert insight.limit is not None


@pytest.mark.parametrize("weeks", [2, 4, 5])
def test_even_traffic_of_many_targets_has_no_pattern(weeks: int) -> None:
    series = {f"t{seed}": even(weeks, seed=seed) for seed in range(60)}

    assert Pattern()(scene(series)) == ()


def test_shrinking_traffic_is_growth_below_zero() -> None:
    growth = found(lived(4, growth=-0.1))["traffic_growth"]

    assert growth.value == pytest.approx(-0.1, abs=0.01)
    assert "shrinks" in growth.title


def test_a_single_quiet_weekend_is_no_weekly_pattern() -> None:
    counts = lived(4)
    last = week_hours(len(counts)) >= 120
    last[:-WEEK] = False
    counts = np.where(last, counts // 10, counts)

    assert "weekly_pattern" not in found(counts)


@pytest.mark.parametrize("weeks", [2, 4])
def test_a_newest_hour_far_above_its_usual_one_is_a_burst(weeks: int) -> None:
    counts = lived(weeks)
    counts[-1] *= 4

    insights = found(counts)

    burst = insights["traffic_burst"]
    assert burst.severity is Severity.WARNING
    assert burst.value == counts[-1]
    assert burst.limit == pytest.approx(counts[-1] / 4, rel=0.2)
    assert burst.end - burst.start == timedelta(hours=1)
    assert insights["request_pattern"].metrics["bursts"] == 1


def test_the_daily_peak_is_no_burst() -> None:
    assert not {"traffic_burst", "request_pattern"} & set(found(lived(4, weekend=0.2)))


def test_an_earlier_burst_is_a_pattern_and_no_news() -> None:
    counts = lived(4)
    counts[300] *= 5

    insights = found(counts)

    assert "traffic_burst" not in insights
    assert insights["request_pattern"].value == pytest.approx(5, rel=0.2)


@pytest.mark.parametrize(("weeks", "hours"), [(2, 35), (4, 35)])
def test_hours_that_are_always_empty_are_idle(weeks: int, hours: int) -> None:
    counts = lived(weeks)
    counts = np.where(week_hours(len(counts)) % 24 < 5, 0, counts)
    # The first row makes the weeks whole: it lies at noon.
    insights = found(counts)

    assert insights["idle_hours"].value == hours
    assert "run of 5" in insights["idle_hours"].title


def test_empty_hours_that_chance_explains_are_not_idle() -> None:
    assert "idle_hours" not in found(even(4, mean=1.0))


def test_one_empty_weekday_is_not_idle_before_four_weeks() -> None:
    counts = {weeks: lived(weeks) for weeks in (3, 4)}
    off = {weeks: week_hours(len(each)) // 24 == 2 for weeks, each in counts.items()}

    assert "idle_hours" not in found(np.where(off[3], 0, counts[3]))
    assert found(np.where(off[4], 0, counts[4]))["idle_hours"].value == 24


def test_too_few_requests_are_said_to_be_too_few() -> None:
    insights = found(even(4, mean=0.3))

    assert set(insights) == {"insufficient_data"}
    assert insights["insufficient_data"].limit == 100


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8)
def test_neither_order_nor_other_targets_change_what_is_said_of_one(seed: int) -> None:
    own = {"chat": lived(4, seed=3, weekend=0.4, growth=0.1)}
    alone = Pattern()(scene(own))
    other = np.random.default_rng(seed)
    both = scene(own | {"a": even(other.uniform(0.1, 5), seed=7), "z": lived(5, seed=8)})
    assert both.history is not None
    mixed = both.history.sample(frac=1, random_state=seed)

    insights = Pattern()(dataclasses.replace(both, history=mixed))

    assert tuple(i for i in insights if i.target == "chat") == alone


def test_hours_alone_are_read_where_there_is_no_longer_history() -> None:
    one = scene({"chat": lived(4, weekend=0.4)})
    assert one.history is not None
    hours = one.history.merge(empty(), how="left").assign(slice="baseline")
    hours = hours[empty().columns].fillna(0)

    assert Pattern()(dataclasses.replace(one, history=None, hours=hours)) == Pattern()(one)


def test_targets_without_rows_or_out_of_the_configuration_are_left_out() -> None:
    one = scene({"chat": lived(4, weekend=0.4)})

    assert Pattern()(dataclasses.replace(one, history=None)) == ()
    assert Pattern()(dataclasses.replace(one, targets={}, policies={})) == ()


def test_the_most_severe_comes_first() -> None:
    counts = lived(4, weekend=0.4, growth=0.1)
    counts[-1] *= 5

    ranks = [list(Severity).index(i.severity) for i in Pattern()(scene({"b": counts, "a": counts}))]

    assert ranks == sorted(ranks, reverse=True)
    assert len(set(ranks)) == 2


def in_force(insights: Sequence[Insight]) -> set[str | None]:
    return {insight.arm for insight in insights}


def test_traffic_belongs_to_no_arm() -> None:
    assert in_force(Pattern()(scene({"chat": lived(4, weekend=0.4)}))) == {None}
