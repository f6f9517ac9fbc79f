"""Reference sizes and limits: statistical specification 5 and 13."""

from functools import partial
from math import ceil, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from optimizer.statistics.anytime import half_width_multiplier
from optimizer.statistics.crossing import promotion_spending
from optimizer.statistics.planning import (
    hours_needed,
    promotion_bound,
    units_needed,
    units_needed_anytime,
    wilson_interval,
)
from optimizer.statistics.sequential import boundaries

RAMP_A_SHARES = (0.05, 0.10, 0.25, 0.50)

six_hour_stages = partial(hours_needed, shares=RAMP_A_SHARES, stage_hours=(6, 6, 6, 6))
margins = st.floats(0.001, 0.2)
variances = st.floats(1e-4, 0.25)


@pytest.mark.parametrize(
    ("p", "margin", "expected"),
    [
        (0.02, 0.005, 9695),
        (0.02, 0.01, 2424),
        (0.05, 0.01, 5874),
        (0.9, 0.02, 2783),
        (0.5, 0.03, 3435),
    ],
)
def test_units_for_one_look_agree_with_reference(p: float, margin: float, expected: int) -> None:
    needed = units_needed(p * (1 - p), margin, bound=float(stats.norm.isf(0.05)))

    assert ceil(float(needed)) == expected


def test_the_promotion_plan_costs_its_bound() -> None:
    assert float(units_needed(0.0196, 0.01)) == pytest.approx(
        (1.7614 + 0.8416) ** 2 * 2 * 0.0196 / 0.01**2, rel=1e-4
    )


@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.1])
@pytest.mark.parametrize("looks", [1, 4, 24])
def test_looks_before_the_planned_end_cost_hardly_any_power(alpha: float, looks: int) -> None:
    fractions = np.arange(1, looks + 1) / looks
    bounds = boundaries(
        fractions.tolist(), promotion_spending(1.5)(fractions, alpha=alpha).tolist()
    )
    # A ramp of the planned size: one look at its end, at the promotion bound, has power .8.
    effect = float(promotion_bound(alpha)) + float(stats.norm.isf(0.2))
    steps = np.random.default_rng(4).normal(effect / looks, looks**-0.5, (20_000, looks))

    promoted = (steps.cumsum(axis=1) / np.sqrt(fractions) >= bounds).any(axis=1)

    lower, upper = wilson_interval(int(promoted.sum()), promoted.size, z=3.3)
    assert float(lower) <= 0.8
    assert float(upper) >= (0.8 if looks == 1 else 0.77)


@given(
    variance=variances,
    margin=margins,
    ratio=st.floats(0.5, 10.0),
    deff=st.floats(1.0, 4.0),
    tightest_at=st.sampled_from([500.0, 5_000.0]),
)
def test_the_anytime_size_is_where_the_margin_is_reached(
    variance: float, margin: float, ratio: float, deff: float, tightest_at: float
) -> None:
    n = float(
        units_needed_anytime(
            variance,
            margin,
            alpha=0.05,
            design_effect=deff,
            control_ratio=ratio,
            tightest_at=tightest_at,
        )
    )

    units = n * (1 + ratio)
    multiplier = half_width_multiplier(units, alpha=0.05, tightest_at=tightest_at, two_sided=False)
    se = sqrt(variance * deff * (1 / n + 1 / (ratio * n)))
    assert (float(multiplier) + float(stats.norm.isf(0.2))) * se == pytest.approx(margin, rel=1e-9)


@given(variance=variances, margin=margins, c=st.sampled_from([1e-9, 1e-6, 1e6]))
def test_scaling_a_metric_changes_no_plan(variance: float, margin: float, c: float) -> None:
    for needed in (units_needed, partial(units_needed_anytime, alpha=0.01)):
        assert float(needed(variance * c**2, margin * c)) == pytest.approx(
            float(needed(variance, margin)), rel=1e-9
        )


@given(variance=variances, margin=margins)
def test_looking_at_any_time_costs_more_units(variance: float, margin: float) -> None:
    planned = float(units_needed(variance, margin))

    assert float(units_needed_anytime(variance, margin, alpha=0.05)) > planned
    assert float(units_needed(variance, margin, design_effect=2.5)) == pytest.approx(2.5 * planned)
    assert float(units_needed(variance, margin, control_ratio=9.0)) == pytest.approx(planned / 1.8)


def test_a_variance_of_zero_promises_nothing() -> None:
    assert np.isnan(units_needed([0.0, float("nan")], 0.01)).all()
    assert np.isnan(units_needed_anytime([0.0, float("nan")], 0.01, alpha=0.05)).all()


@pytest.mark.parametrize("margin", [0.0, -0.01])
def test_a_margin_that_is_not_positive_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin"):
        units_needed(0.02, margin)
    with pytest.raises(ValueError, match="margin"):
        units_needed_anytime(0.02, margin, alpha=0.05)


def test_many_plans_equal_each_alone() -> None:
    variance, margin = np.array([0.02, 0.1, 0.2])[:, None], np.array([0.005, 0.02])

    together = units_needed_anytime(variance, margin, alpha=0.05)

    for index in np.ndindex(3, 2):
        alone = units_needed_anytime(variance[index[0], 0], margin[index[1]], alpha=0.05)
        assert together[index] == pytest.approx(float(alone), rel=1e-12)


@pytest.mark.parametrize(
    ("units", "traffic", "expected"),
    [
        (0, 2000, 0.0),
        (600, 2000, 6.0),
        (700, 2000, 6.5),
        (10_800, 2000, 24.0),
        (11_800, 2000, 25.0),
    ],
)
def test_hours_walk_the_ladder_and_then_its_last_step(
    units: float, traffic: float, expected: float
) -> None:
    assert float(six_hour_stages(units, traffic)) == pytest.approx(expected)


def test_labels_that_are_rare_take_longer() -> None:
    assert float(six_hour_stages(600, 2000, label_rate=0.1)) == pytest.approx(
        float(six_hour_stages(6000, 2000))
    )


def test_hours_without_traffic_or_labels_never_end() -> None:
    assert six_hour_stages([5, 5], [0, 9], label_rate=[1.0, 0.0]).tolist() == [float("inf")] * 2
    assert np.isnan(six_hour_stages(float("nan"), 2000))


@pytest.mark.parametrize(
    ("shares", "stage_hours"),
    [([], []), ([0.1], [1, 2]), ([0.0], [1]), ([1.1], [1]), ([0.5], [0])],
)
def test_an_impossible_ladder_is_refused(shares: list[float], stage_hours: list[float]) -> None:
    with pytest.raises(ValueError, match="stage_hours"):
        hours_needed(5, 10, shares=shares, stage_hours=stage_hours)


def test_wilson_limits_agree_with_reference() -> None:
    lower, upper = wilson_interval(100, 2000)

    assert (float(lower), float(upper)) == pytest.approx((0.0413, 0.0604), abs=5e-5)
    assert float(wilson_interval(108, 2000)[1]) <= 0.065 < float(wilson_interval(109, 2000)[1])


@given(k=st.integers(0, 50), more=st.integers(1, 50))
def test_wilson_limits_agree_with_scipy(k: int, more: int) -> None:
    expected = stats.binomtest(k, k + more).proportion_ci(method="wilson")

    lower, upper = wilson_interval(k, k + more)

    assert float(lower) == pytest.approx(expected.low, abs=1e-12)
    assert float(upper) == pytest.approx(expected.high, abs=1e-12)


def test_wilson_limits_of_no_unit_are_unknown() -> None:
    assert np.isnan(wilson_interval(0, 0)).all()
