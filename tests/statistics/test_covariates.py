"""Laws of pre-period covariates and strata; GrowthBook's records are under tests/vectors."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.statistics.clusters import RatioEstimate, harm, relative_lift, row_mean
from optimizer.statistics.covariates import (
    UnitSums,
    adjusted,
    adjusted_lift,
    unit_sums,
    with_history_filled,
)
from optimizer.statistics.planning import wilson_interval
from optimizer.statistics.strata import post_stratified, post_stratified_ratio

FloatArray = npt.NDArray[np.float64]

seeds = st.integers(0, 2**32 - 1)


def units(rng: np.random.Generator, n: int, *, effect: float = 0.0) -> FloatArray:
    """Outcome and covariate of units: the covariate explains about 80 % of the variance."""
    x = rng.normal(10.0, 2.0, n)
    return np.stack([x + rng.normal(effect, 1.0, n), x], axis=-1)


def requests(rng: np.random.Generator, n: int) -> FloatArray:
    """Cost and requests now, cost and requests before, of units that keep their habits."""
    habit, price = rng.gamma(4.0, 2.0, n), rng.lognormal(0.0, 0.4, n)
    now, before = rng.poisson(habit) + 1, rng.poisson(habit) + 1
    return np.stack([price * now, now, price * before, before], axis=-1).astype(np.float64)


@given(seed=seeds)
def test_sums_of_parts_add_to_the_sums_of_the_whole(seed: int) -> None:
    rows = units(np.random.default_rng(seed), 50)

    parts = unit_sums(rows[:20]) + unit_sums(rows[20:])

    whole = unit_sums(rows)
    assert parts.n == whole.n
    assert parts.total == pytest.approx(whole.total)
    assert parts.covariance == pytest.approx(np.cov(rows.T))


@given(seed=seeds)
def test_adjusting_by_sums_is_adjusting_each_unit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    canary, control = units(rng, 60, effect=0.5), units(rng, 80)
    both = np.concatenate([canary, control])
    theta = np.cov(both.T)[0, 1] / np.var(both[:, 1], ddof=1)

    found = adjusted(unit_sums(canary), unit_sums(control))

    for arm, rows in ((found.canary, canary), (found.control, control)):
        each = rows[:, 0] - theta * (rows[:, 1] - both[:, 1].mean())
        assert float(arm.value) == pytest.approx(each.mean(), rel=1e-9)
        assert float(arm.variance) == pytest.approx(each.var(ddof=1) / len(rows), rel=1e-7)
    assert float(found.theta) == pytest.approx(theta)


@given(seed=seeds, scale=st.sampled_from([1e-9, 1e-3, 1e6]), unit=st.sampled_from([1e-6, 1e4]))
def test_scaling_outcome_or_covariate_changes_no_z(seed: int, scale: float, unit: float) -> None:
    rng = np.random.default_rng(seed)
    arms = units(rng, 60, effect=0.5), units(rng, 80)

    plain = adjusted(*(unit_sums(rows) for rows in arms))
    scaled = adjusted(*(unit_sums(rows * [scale, unit]) for rows in arms))

    one = harm(plain.canary, plain.control, harm_sign=1)
    other = harm(scaled.canary, scaled.control, harm_sign=1)
    assert float(other.z) == pytest.approx(float(one.z), rel=1e-5, abs=1e-5)
    assert float(scaled.kept) == pytest.approx(float(plain.kept), rel=1e-5)


@given(seed=seeds)
def test_swapping_arms_flips_the_sign(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = unit_sums(requests(rng, 60)), unit_sums(requests(rng, 80))

    forward, backward = adjusted(one, other), adjusted(other, one)

    assert float(forward.theta) == pytest.approx(float(backward.theta))
    assert float(forward.canary.value - forward.control.value) == pytest.approx(
        -float(backward.canary.value - backward.control.value)
    )


@given(seed=seeds, shift=st.floats(-50.0, 50.0))
def test_a_covariate_is_only_known_up_to_its_origin(seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    arms = units(rng, 60), units(rng, 60)

    plain = adjusted(*(unit_sums(rows) for rows in arms))
    moved = adjusted(*(unit_sums(rows + np.array([0.0, shift])) for rows in arms))

    assert float(moved.canary.value) == pytest.approx(float(plain.canary.value), rel=1e-6)
    assert float(moved.canary.variance) == pytest.approx(float(plain.canary.variance), rel=1e-5)


def test_a_covariate_without_spread_changes_nothing() -> None:
    rng = np.random.default_rng(1)
    canary, control = (np.stack([rng.normal(5, 1, 50), np.full(50, 3.3)], axis=-1) for _ in "ab")

    found = adjusted(unit_sums(canary), unit_sums(control))

    plain = row_mean(50, canary[:, 0].sum(), (canary[:, 0] ** 2).sum())
    assert float(found.theta) == 0.0
    assert float(found.kept) == pytest.approx(1.0)
    assert float(found.canary.value) == pytest.approx(float(plain.value))
    assert float(found.canary.variance) == pytest.approx(float(plain.variance))


def test_a_covariate_takes_out_the_variance_it_explains() -> None:
    rng = np.random.default_rng(2)

    mean = adjusted(unit_sums(units(rng, 4000)), unit_sums(units(rng, 4000)))
    ratio = adjusted(unit_sums(requests(rng, 4000)), unit_sums(requests(rng, 4000)))

    # Of the outcome's variance of 5 the covariate explains 4.
    assert float(mean.kept) == pytest.approx(0.2, abs=0.01)
    assert float(ratio.kept) < 0.5


def test_few_units_or_no_spread_are_never_certainty() -> None:
    rng = np.random.default_rng(3)
    few, many = unit_sums(units(rng, 29)), unit_sums(units(rng, 60))
    constant = unit_sums(np.stack([np.full(60, 0.1), rng.normal(size=60)], axis=-1))

    assert np.isnan(adjusted(few, many).canary.variance)
    assert np.isnan(adjusted(constant, constant).canary.variance)
    assert np.isnan(adjusted_lift(constant, many).z)
    assert np.isfinite(adjusted(few, many, min_units=20).canary.variance)


def test_units_of_a_ratio_without_denominator_leave_it_unknown() -> None:
    rng = np.random.default_rng(4)
    rows = requests(rng, 40)
    rows[:, 1] = 0.0

    found = adjusted(unit_sums(rows), unit_sums(requests(rng, 40)))

    assert np.isnan(found.canary.value)
    assert np.isnan(found.canary.variance)


def test_a_lift_over_a_control_near_zero_is_unknown() -> None:
    rng = np.random.default_rng(5)
    rows = units(rng, 50) - [10.0, 0.0]

    assert np.isnan(adjusted_lift(unit_sums(rows), unit_sums(rows)).value)


def test_a_lift_without_covariate_is_the_plain_lift() -> None:
    rng = np.random.default_rng(6)
    arms = [np.stack([rng.normal(5, 1, 60), np.zeros(60)], axis=-1) for _ in "ab"]
    plain = [row_mean(60, rows[:, 0].sum(), (rows[:, 0] ** 2).sum()) for rows in arms]

    lift, expected = adjusted_lift(*map(unit_sums, arms)), relative_lift(*plain)

    for name in ("value", "variance", "df", "z"):
        assert float(getattr(lift, name)) == pytest.approx(float(getattr(expected, name)))


@given(seed=seeds)
def test_an_adjusted_lift_varies_as_the_units_of_its_arms(seed: int) -> None:
    rng = np.random.default_rng(seed)
    canary, control = units(rng, 60, effect=0.5), units(rng, 80)
    theta = float(adjusted(unit_sums(canary), unit_sums(control)).theta)

    lift = adjusted_lift(unit_sums(canary), unit_sums(control))

    ahead = canary[:, 0] - theta * canary[:, 1]
    behind = (1.0 + float(lift.value)) * control[:, 0] - theta * control[:, 1]
    variance = ahead.var(ddof=1) / 60 + behind.var(ddof=1) / 80
    assert float(lift.variance) == pytest.approx(variance / control[:, 0].mean() ** 2, rel=1e-7)


def test_many_targets_equal_each_alone() -> None:
    rng = np.random.default_rng(7)
    canary = np.stack([requests(rng, 40) for _ in range(3)])
    control = np.stack([requests(rng, 50) for _ in range(3)])

    together = adjusted_lift(unit_sums(canary), unit_sums(control))

    for target in range(3):
        alone = adjusted_lift(unit_sums(canary[target]), unit_sums(control[target]))
        assert float(together.value[target]) == pytest.approx(float(alone.value))
        assert float(together.z[target]) == pytest.approx(float(alone.z))


@given(seed=seeds, fresh=st.integers(0, 30))
def test_units_without_history_stand_at_the_mean_of_both_arms(seed: int, fresh: int) -> None:
    rng = np.random.default_rng(seed)
    rows = units(rng, 60)
    at = 9.5

    filled = with_history_filled(unit_sums(rows[fresh:]), unit_sums(rows[:fresh, :1]), [at])

    by_hand = rows.copy()
    by_hand[:fresh, 1] = at
    assert filled.n == 60
    assert filled.total == pytest.approx(unit_sums(by_hand).total)
    assert filled.products == pytest.approx(unit_sums(by_hand).products)


def test_ratios_of_units_without_history_are_filled_alike() -> None:
    rows = requests(np.random.default_rng(8), 50)
    at = [7.0, 6.0]

    filled = with_history_filled(unit_sums(rows[20:]), unit_sums(rows[:20, :2]), at)

    by_hand = rows.copy()
    by_hand[:20, 2:] = at
    assert filled.products == pytest.approx(unit_sums(by_hand).products)


def test_a_target_whose_units_are_all_new_is_compared_unadjusted() -> None:
    rng = np.random.default_rng(9)
    none = UnitSums(n=np.array(0.0), total=np.zeros(2), products=np.zeros((2, 2)))
    rows = [rng.normal(5, 1, (50, 1)) for _ in "ab"]

    arms = [with_history_filled(none, unit_sums(arm), (none + none).mean[1:]) for arm in rows]
    found = adjusted(*arms)

    assert float(found.theta) == 0.0
    assert float(found.canary.value) == pytest.approx(rows[0].mean())


def test_columns_that_do_not_fit_are_refused() -> None:
    three = unit_sums(np.ones((4, 3)))

    with pytest.raises(ValueError, match="2 columns for means or 4"):
        adjusted(three, three)
    with pytest.raises(ValueError, match="do not go with"):
        with_history_filled(three, unit_sums(np.ones((4, 1))), [1.0])
    with pytest.raises(ValueError, match="not finite"):
        unit_sums([[1.0, np.nan]])
    with pytest.raises(ValueError, match="2 columns, numerator"):
        post_stratified_ratio(three, [1.0])


@pytest.mark.slow
@pytest.mark.parametrize("draw", [units, requests])
def test_adjusted_harm_keeps_its_level_and_its_aim(
    draw: Callable[[np.random.Generator, int], FloatArray],
) -> None:
    rng, runs = np.random.default_rng(10), 2000
    canary = unit_sums(np.stack([draw(rng, 120) for _ in range(runs)]))
    control = unit_sums(np.stack([draw(rng, 120) for _ in range(runs)]))

    found = adjusted(canary, control)
    difference = harm(found.canary, found.control, harm_sign=1)

    low, high = wilson_interval(int((np.abs(difference.z) > 1.959964).sum()), runs)
    assert float(low) <= 0.055
    assert float(high) >= 0.035
    assert abs(float(difference.value.mean())) < 4 * float(difference.value.std()) / runs**0.5


# ---- strata


def strata(rng: np.random.Generator, sizes: tuple[int, ...]) -> UnitSums:
    """Cost and requests of units in strata that differ threefold in cost."""
    parts = [requests(rng, n)[:, :2] * [3.0**at, 1.0] for at, n in enumerate(sizes)]
    each = [unit_sums(rows) for rows in parts]
    return UnitSums(
        n=np.stack([part.n for part in each]),
        total=np.stack([part.total for part in each]),
        products=np.stack([part.products for part in each]),
    )


def means(found: UnitSums) -> RatioEstimate:
    return row_mean(found.n, found.total[:, 0], found.products[:, 0, 0])


def test_the_planned_mix_is_estimated_whichever_mix_came() -> None:
    rng = np.random.default_rng(11)
    planned = [0.5, 0.5]
    balanced, skewed = strata(rng, (4000, 4000)), strata(rng, (7000, 1000))

    pairs = [
        [post_stratified(means(found), planned) for found in (balanced, skewed)],
        [post_stratified_ratio(found, planned) for found in (balanced, skewed)],
    ]
    for one, other in pairs:
        gap = abs(float(one.value - other.value))
        assert gap < 4 * float(one.variance + other.variance) ** 0.5
    plain = [found.total[:, 0].sum() / found.n.sum() for found in (balanced, skewed)]
    assert plain[0] > 1.3 * plain[1]


@given(seed=seeds)
def test_the_order_of_strata_changes_nothing(seed: int) -> None:
    found = strata(np.random.default_rng(seed), (40, 50, 60))
    backward = UnitSums(n=found.n[::-1], total=found.total[::-1], products=found.products[::-1])

    one = post_stratified_ratio(found, [0.2, 0.3, 0.5])
    other = post_stratified_ratio(backward, [0.5, 0.3, 0.2])

    assert float(one.value) == pytest.approx(float(other.value))
    assert float(one.variance) == pytest.approx(float(other.variance))


def test_one_stratum_is_no_stratum() -> None:
    found = strata(np.random.default_rng(12), (60,))
    total, products = found.total[0], found.products[0]
    ratio = total[0] / total[1]
    # The delta method by moments, G / (G - 1) sum (y - R x)^2 / X^2.
    squares = products[0, 0] - 2 * ratio * products[0, 1] + ratio**2 * products[1, 1]

    mean, quotient = post_stratified(means(found), [1.0]), post_stratified_ratio(found, [1.0])

    assert float(mean.value) == pytest.approx(total[0] / 60)
    assert float(quotient.value) == pytest.approx(ratio)
    assert float(quotient.variance) == pytest.approx(60 / 59 * squares / total[1] ** 2)


def test_a_planned_stratum_that_was_not_measured_makes_the_whole_unknown() -> None:
    found = strata(np.random.default_rng(13), (40, 50))
    empty = UnitSums(n=found.n * [1, 0], total=found.total * [[1], [0]], products=found.products)

    assert np.isnan(post_stratified(means(empty), [0.5, 0.5]).value)
    assert np.isnan(post_stratified_ratio(empty, [0.5, 0.5]).value)
    assert np.isfinite(post_stratified(means(empty), [1.0, 0.0]).variance)
    assert np.isfinite(post_stratified_ratio(empty, [1.0, 0.0]).variance)


@pytest.mark.parametrize("weights", [[0.5, 0.6], [1.5, -0.5]])
def test_weights_that_are_no_plan_are_refused(weights: list[float]) -> None:
    found = strata(np.random.default_rng(14), (40, 50))

    with pytest.raises(ValueError, match="add to 1"):
        post_stratified(means(found), weights)
    with pytest.raises(ValueError, match="add to 1"):
        post_stratified_ratio(found, weights)
