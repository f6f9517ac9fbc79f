"""Reference values: statistical specification 4.3 and 4.4; those of 4.3 agree with GrowthBook."""

from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from optimizer.statistics.anytime import (
    asymptotic_rho2,
    bernoulli_interval,
    bounded_mean_sequence,
    half_width_multiplier,
)
from optimizer.statistics.clusters import RatioEstimate, harm, relative_lift, row_mean
from optimizer.statistics.planning import wilson_interval

ALPHA = 0.05


def test_rho2_agrees_with_reference() -> None:
    assert float(asymptotic_rho2(ALPHA, 5000, two_sided=False)) == pytest.approx(
        0.001265772, abs=5e-10
    )


def test_one_sided_multipliers_agree_with_reference() -> None:
    multiplier = half_width_multiplier(
        [500, 2000, 5000, 10000, 21600], alpha=ALPHA, tightest_at=5000, two_sided=False
    )

    assert multiplier.tolist() == pytest.approx([3.6791, 2.8860, 2.7791, 2.8013, 2.8773], abs=1e-4)


def test_relative_lift_of_proportions_agrees_with_growthbook() -> None:
    # GrowthBook's proportions have the variance p (1 - p) / n, without n - 1.
    rate, n = np.array([1396 / 3000, 2422 / 3461]), np.array([3000, 3461])
    control, canary = (
        RatioEstimate(
            value=rate[arm], variance=rate[arm] * (1 - rate[arm]) / n[arm], clusters=n[arm]
        )
        for arm in (0, 1)
    )
    lift = relative_lift(canary, control)
    multiplier = half_width_multiplier(6461, alpha=ALPHA, tightest_at=5000, two_sided=True)

    half = float(multiplier) * sqrt(float(lift.variance))

    assert float(multiplier) == pytest.approx(3.03852, abs=1e-5)
    assert float(lift.value) - half == pytest.approx(0.40098, abs=1e-5)
    assert float(lift.value) + half == pytest.approx(0.60675, abs=1e-5)


def test_relative_lift_of_means_agrees_with_growthbook() -> None:
    control, canary = row_mean(3000, 1396.87, 52377.9767), row_mean(3461, 2422.70, 134698.29)
    lift = relative_lift(canary, control)
    multiplier = half_width_multiplier(6461, alpha=ALPHA, tightest_at=5000, two_sided=False)

    half = float(multiplier) * sqrt(float(lift.variance))

    assert float(multiplier) == pytest.approx(2.78012, abs=1e-5)
    assert float(lift.value) - half == pytest.approx(-0.42356, abs=1e-5)
    assert float(lift.value) + half == pytest.approx(1.43029, abs=1e-5)


def test_multiplier_is_unknown_without_units() -> None:
    multiplier = half_width_multiplier([0, 100], alpha=ALPHA, tightest_at=500, two_sided=False)

    assert np.isnan(multiplier).tolist() == [True, False]


@pytest.mark.parametrize(
    ("alpha", "tightest_at", "two_sided"), [(0.0, 500, True), (0.5, 500, False), (0.05, 0, True)]
)
def test_a_meaningless_tuning_is_refused(
    alpha: float, tightest_at: float, *, two_sided: bool
) -> None:
    with pytest.raises(ValueError, match="alpha lies in"):
        asymptotic_rho2(alpha, tightest_at, two_sided=two_sided)


@pytest.mark.parametrize("two_sided", [True, False])
def test_the_sequence_is_tightest_near_where_it_is_tuned(*, two_sided: bool) -> None:
    tuned = [
        float(half_width_multiplier(5000, alpha=ALPHA, tightest_at=at, two_sided=two_sided))
        for at in (500, 5000, 50_000)
    ]

    assert tuned[1] == min(tuned)


def test_bounded_sequence_agrees_with_reference() -> None:
    # Four windows of 50 units: 1, 0, 1, 1, .5 ten times over.
    lower, upper = bounded_mean_sequence([50] * 4, [35.0] * 4, [32.5] * 4, alpha=ALPHA)

    assert lower.tolist() == pytest.approx([0.45658, 0.55124, 0.58377, 0.60119], abs=1e-5)
    assert upper.tolist() == pytest.approx([0.94342, 0.84876, 0.81623, 0.79881], abs=1e-5)


def test_bounded_sequence_knows_nothing_before_the_first_unit() -> None:
    lower, upper = bounded_mean_sequence([0, 0, 80], [0.0, 0.0, 60.0], [0, 0, 50.0], alpha=ALPHA)

    assert lower.tolist()[:2] == [0.0, 0.0]
    assert upper.tolist()[:2] == [1.0, 1.0]
    assert float(upper[2]) < 1.0


def test_bounded_sequence_of_many_targets_equals_each_alone() -> None:
    rng = np.random.default_rng(2)
    n = rng.integers(0, 60, (3, 4, 6))
    total = n * rng.uniform(0.2, 0.9, n.shape)
    squares = total * rng.uniform(0.7, 1.0, n.shape)

    lower, upper = bounded_mean_sequence(n, total, squares, alpha=ALPHA)

    for index in np.ndindex(3, 4):
        alone = bounded_mean_sequence(n[index], total[index], squares[index], alpha=ALPHA)
        assert np.array_equal(alone[0], lower[index])
        assert np.array_equal(alone[1], upper[index])


@pytest.mark.parametrize(
    ("n", "total", "squares"), [(5, 6.0, 6.0), (5, 2.0, 3.0), (5, 2.0, -1.0), (5, float("nan"), 1)]
)
def test_sums_that_no_bounded_scores_can_have_are_refused(
    n: int, total: float, squares: float
) -> None:
    with pytest.raises(ValueError, match="scores must lie"):
        bounded_mean_sequence([n], [total], [squares], alpha=ALPHA)


def test_bounded_sequence_refuses_an_error_outside_its_range() -> None:
    with pytest.raises(ValueError, match="alpha"):
        bounded_mean_sequence([1], [1], [1], alpha=1.0)


@pytest.mark.parametrize(
    ("k", "n", "lower", "upper"),
    [(0, 50, 0.0, 0.10464), (20, 1000, 0.00782, 0.04064), (950, 1000, 0.92076, 0.97128)],
)
def test_bernoulli_interval_agrees_with_reference(
    k: int, n: int, lower: float, upper: float
) -> None:
    limits = bernoulli_interval(k, n, alpha=ALPHA)

    assert float(limits[0]) == pytest.approx(lower, abs=1e-5)
    assert float(limits[1]) == pytest.approx(upper, abs=1e-5)


@given(k=st.integers(0, 300), more=st.integers(0, 300), alpha=st.sampled_from([0.05, 0.01, 0.2]))
def test_bernoulli_limits_are_where_the_evidence_reaches_alpha(
    k: int, more: int, alpha: float
) -> None:
    n = k + more

    limits = [float(limit) for limit in bernoulli_interval(k, n, alpha=alpha)]

    for limit in limits:
        if 0.0 < limit < 1.0:
            mixture = special.betaln(0.5 + k, 0.5 + more) - special.betaln(0.5, 0.5)
            evidence = mixture - k * log(limit) - more * log(1 - limit)
            assert evidence == pytest.approx(log(1 / alpha), abs=1e-6)
    if n:
        assert limits[0] <= k / n <= limits[1]
    else:
        assert limits == [0.0, 1.0]


@given(k=st.integers(0, 300), more=st.integers(0, 300))
def test_bernoulli_limits_mirror_when_success_and_failure_swap(k: int, more: int) -> None:
    lower, upper = bernoulli_interval(k, k + more, alpha=ALPHA)
    mirrored = bernoulli_interval(more, k + more, alpha=ALPHA)

    assert float(lower) == pytest.approx(1 - float(mirrored[1]), abs=1e-12)
    assert float(upper) == pytest.approx(1 - float(mirrored[0]), abs=1e-12)


@pytest.mark.parametrize(("k", "n", "alpha"), [(-1, 5, 0.05), (6, 5, 0.05), (1, 5, 0.0)])
def test_bernoulli_interval_refuses_impossible_counts(k: int, n: int, alpha: float) -> None:
    with pytest.raises(ValueError, match="required"):
        bernoulli_interval(k, n, alpha=alpha)


def test_bernoulli_limits_cover_at_every_look_together() -> None:
    rng = np.random.default_rng(21)
    k = rng.binomial(50, 0.05, (1500, 60)).cumsum(axis=1)
    n = np.full((1500, 60), 50).cumsum(axis=1)

    lower, upper = bernoulli_interval(k, n, alpha=ALPHA)

    missed = int(((lower > 0.05) | (upper < 0.05)).any(axis=1).sum())
    assert missed > 0
    assert float(wilson_interval(missed, 1500)[1]) <= ALPHA


def test_bounded_limits_cover_at_every_look_together() -> None:
    rng = np.random.default_rng(22)
    scores = rng.beta(0.4, 0.1, (800, 60, 20))

    lower, upper = bounded_mean_sequence(
        np.full((800, 60), 20), scores.sum(axis=2), (scores**2).sum(axis=2), alpha=ALPHA
    )

    missed = int(((lower > 0.8) | (upper < 0.8)).any(axis=1).sum())
    assert float(wilson_interval(missed, 800)[1]) <= ALPHA
    assert float(np.median(upper[:, -1] - lower[:, -1])) < 0.15


def test_harmless_costs_rarely_alarm_at_any_of_many_looks() -> None:
    rng = np.random.default_rng(23)
    # Lognormal costs of 2e-6 USD: tiny and skewed.
    cost_usd = 2e-6 * rng.lognormal(0.0, 1.2, (2, 1000, 48, 100))
    total = cost_usd.sum(axis=3).cumsum(axis=2)
    squares = (cost_usd**2).sum(axis=3).cumsum(axis=2)
    n = np.arange(1, 49) * 100
    canary, control = (row_mean(n, total[arm], squares[arm]) for arm in (0, 1))
    found = harm(canary, control, harm_sign=1)

    multiplier = half_width_multiplier(2 * n, alpha=ALPHA, tightest_at=2400, two_sided=False)
    sequence = found.t > multiplier
    naive = found.t > 1.645

    assert float(wilson_interval(sequence.any(axis=1).sum(), 1000)[1]) <= ALPHA
    # The same data peeked at without correction: the simulation can fail.
    assert float(wilson_interval(naive.any(axis=1).sum(), 1000)[0]) > 0.15
