"""Reference values: the Welch record of GrowthBook's statistics (specification 2.3)."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from optimizer.statistics.clusters import (
    Difference,
    RatioEstimate,
    bucket_ratio,
    design_effect,
    harm,
    relative_lift,
    row_mean,
    t_interval,
    t_to_z,
)
from optimizer.statistics.planning import wilson_interval

BUCKETS = 128
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, shape: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Bucket sums of a cost and of requests."""
    rng = np.random.default_rng(seed)
    requests = rng.poisson(20.0, (*shape, BUCKETS)).astype(np.float64)
    return rng.gamma(requests + 0.1, 3e-4), requests


def estimated(seed: int) -> RatioEstimate:
    return bucket_ratio(*drawn(seed))


def same(one: RatioEstimate | Difference, other: RatioEstimate | Difference) -> bool:
    return all(
        np.array_equal(getattr(one, field.name), getattr(other, field.name), equal_nan=True)
        for field in fields(one)
    )


def test_welch_record_agrees_with_growthbook() -> None:
    control, canary = row_mean(3407, 1396.87, 52377.9767), row_mean(3461, 2422.70, 134698.29)

    lift = relative_lift(canary, control)

    assert float(lift.value) == pytest.approx(0.70732, abs=1e-5)
    assert float(np.sqrt(lift.variance)) == pytest.approx(0.37879, abs=1e-5)
    limits = [float(limit) for limit in t_interval(lift, alpha=0.05)]
    assert limits == pytest.approx([-0.03526, 1.44989], abs=1e-5)


def test_difference_of_row_means_agrees_with_scipys_welch_test() -> None:
    rng = np.random.default_rng(1)
    canary, control = rng.lognormal(0.3, 1.0, 60), rng.lognormal(0.0, 0.4, 200)
    expected = stats.ttest_ind(canary, control, equal_var=False)

    found = harm(*(row_mean(x.size, x.sum(), (x**2).sum()) for x in (canary, control)), harm_sign=1)

    assert float(found.t) == pytest.approx(float(expected.statistic), rel=1e-9)
    assert float(found.df) == pytest.approx(float(expected.df), rel=1e-9)
    assert 2 * float(stats.norm.sf(found.z)) == pytest.approx(float(expected.pvalue), rel=1e-9)


def test_buckets_of_one_row_each_are_independent_rows() -> None:
    y = np.random.default_rng(2).normal(5.0, 1.0, BUCKETS)

    buckets = bucket_ratio(y, np.ones(BUCKETS))
    rows = row_mean(BUCKETS, y.sum(), (y**2).sum())

    assert float(buckets.value) == pytest.approx(float(rows.value))
    assert float(buckets.variance) == pytest.approx(float(rows.variance))
    assert float(design_effect(buckets, rows)) == pytest.approx(1.0)


@given(seed=seeds)
def test_ratio_variance_equals_the_moment_form(seed: int) -> None:
    y, x = drawn(seed)
    ratio = y.sum() / x.sum()
    g = np.count_nonzero(x)
    moments = (y**2).sum() - 2 * ratio * (x * y).sum() + ratio**2 * (x**2).sum()

    found = bucket_ratio(y, x)

    assert float(found.variance) == pytest.approx(g / (g - 1) * moments / x.sum() ** 2, rel=1e-6)
    assert int(found.clusters) == int(x.sum() ** 2 / (x**2).sum()) <= g


@given(seed=seeds, share=st.floats(0.5, 0.99))
def test_one_heavy_unit_is_worth_one_cluster(seed: int, share: float) -> None:
    y, x = drawn(seed)
    heavy = x.copy()
    heavy[0] = x[1:].sum() * share / (1.0 - share)

    found = bucket_ratio(y, heavy)

    assert int(found.clusters) <= 1.0 / share**2
    assert np.isnan(found.variance)


@given(seed=seeds, c=st.sampled_from([1e-9, 1e-6, 1.0, 1e6]), sign=st.sampled_from([1, -1]))
def test_scaling_a_metric_changes_no_z(seed: int, c: float, sign: int) -> None:
    (y_e, x_e), (y_c, x_c) = drawn(seed), drawn(seed + 1)

    plain = harm(bucket_ratio(y_e, x_e), bucket_ratio(y_c, x_c), harm_sign=sign)
    scaled = harm(bucket_ratio(c * y_e, x_e), bucket_ratio(c * y_c, x_c), harm_sign=sign)
    margin = harm(
        bucket_ratio(c * y_e, x_e),
        bucket_ratio(c * y_c, x_c),
        harm_sign=sign,
        absolute_margin=c * 1e-5,
    )

    assert float(scaled.z) == pytest.approx(float(plain.z), rel=1e-9)
    assert float(scaled.df) == pytest.approx(float(plain.df), rel=1e-9)
    assert float(margin.value) == pytest.approx(c * (float(plain.value) - 1e-5), rel=1e-9)


@given(seed=seeds)
def test_swapping_arms_flips_the_sign(seed: int) -> None:
    one, other = estimated(seed), estimated(seed + 1)

    forth, back = harm(one, other, harm_sign=1), harm(other, one, harm_sign=1)

    assert float(forth.z) == -float(back.z)
    assert float(forth.value) == -float(back.value)
    assert float(harm(one, other, harm_sign=-1).z) == -float(forth.z)


@given(seed=seeds, smaller=st.floats(0.0, 0.3), more=st.floats(0.001, 0.3))
def test_a_wider_margin_never_shows_more_harm(seed: int, smaller: float, more: float) -> None:
    one, other = estimated(seed), estimated(seed + 1)

    for sign in (1, -1):
        tight = harm(one, other, harm_sign=sign, relative_margin=smaller)
        wide = harm(one, other, harm_sign=sign, relative_margin=smaller + more)
        absolute = harm(one, other, harm_sign=sign, absolute_margin=more)
        assert float(wide.value) < float(tight.value)
        assert float(absolute.t) < float(harm(one, other, harm_sign=sign).t)


def test_harm_at_its_relative_margin_is_zero_whichever_way_is_worse() -> None:
    base = estimated(9)
    for sign in (1, -1):
        shifted = RatioEstimate(
            value=base.value * (1 + sign * 0.25), variance=base.variance, clusters=base.clusters
        )
        found = harm(shifted, base, harm_sign=sign, relative_margin=0.25)
        assert float(found.t) == pytest.approx(0.0, abs=1e-9)
        h = 1 + sign * 0.25
        assert float(found.variance) == pytest.approx(float(base.variance) * (1 + h**2))


@given(seed=seeds)
def test_windows_in_any_split_give_the_same_estimate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Whole numbers, as the aggregates hold them: sums are exact in any order.
    y, x = rng.integers(0, 10**6, (6, BUCKETS)), rng.integers(0, 30, (6, BUCKETS))
    shuffled = rng.permutation(6)

    whole = bucket_ratio(y.sum(axis=0), x.sum(axis=0))
    halves = bucket_ratio(
        y[shuffled[:2]].sum(axis=0) + y[shuffled[2:]].sum(axis=0),
        x[shuffled[:2]].sum(axis=0) + x[shuffled[2:]].sum(axis=0),
    )

    assert same(whole, halves)


def test_many_targets_equal_each_alone() -> None:
    y, x = drawn(3, (4, 5))
    y2, x2 = drawn(4, (4, 5))
    sign = np.array([1, -1, 1, 1, -1])

    together = harm(bucket_ratio(y, x), bucket_ratio(y2, x2), harm_sign=sign, relative_margin=0.1)

    for index in np.ndindex(4, 5):
        alone = harm(
            bucket_ratio(y[index], x[index]),
            bucket_ratio(y2[index], x2[index]),
            harm_sign=sign[index[1]],
            relative_margin=0.1,
        )
        for field in fields(Difference):
            assert getattr(together, field.name)[index] == pytest.approx(
                float(getattr(alone, field.name)), rel=1e-12
            )


@pytest.mark.parametrize("filled", [0, 1, 2, 19])
def test_few_clusters_are_never_certainty(filled: int) -> None:
    y, x = drawn(5)
    y[filled:], x[filled:] = 0.0, 0.0

    few = bucket_ratio(y, x)

    assert int(few.clusters) <= np.count_nonzero(x)
    assert np.isnan(few.variance)
    assert np.isnan(harm(few, estimated(6), harm_sign=1).z)
    assert np.isnan(harm(estimated(6), few, harm_sign=1).z)


@pytest.mark.parametrize("level", [0.0, 1.0, 1e-6, 0.1])
def test_no_spread_is_never_certainty(level: float) -> None:
    requests = np.random.default_rng(7).integers(1, 40, BUCKETS).astype(np.float64)

    flat = bucket_ratio(level * requests, requests)
    rows = row_mean(5000, 5000 * level, 5000 * level**2)

    assert float(flat.value) == pytest.approx(level)
    assert np.isnan(flat.variance)
    assert np.isnan(rows.variance)
    assert np.isnan(harm(flat, estimated(6), harm_sign=1).t)
    assert np.isnan(relative_lift(estimated(6), flat).value)


def test_fewer_than_thirty_rows_have_no_variance() -> None:
    estimate = row_mean([0, 29, 30], [0.0, 50.0, 50.0], [0.0, 120.0, 120.0])

    assert np.isnan(estimate.variance).tolist() == [True, True, False]
    assert np.isnan(estimate.value).tolist() == [True, False, False]


def test_a_lift_over_a_control_near_zero_is_unknown() -> None:
    near = row_mean(100, 20.0, 100.0)
    far = row_mean(100, 90.0, 100.0)

    assert np.isnan(relative_lift(far, near).value)
    assert np.isnan(relative_lift(far, near).df)
    assert np.isfinite(relative_lift(near, far).value)


@pytest.mark.parametrize(
    ("sign", "relative", "absolute"), [(0, 0.0, 0.0), (2, 0.0, 0.0), (1, -0.1, 0.0), (1, 0.0, -1.0)]
)
def test_a_meaningless_margin_is_refused(sign: int, relative: float, absolute: float) -> None:
    with pytest.raises(ValueError, match="harm_sign"):
        harm(
            estimated(1),
            estimated(2),
            harm_sign=sign,
            relative_margin=relative,
            absolute_margin=absolute,
        )


@given(t=st.floats(-60, 60), df=st.floats(3, 1e6))
def test_z_is_finite_odd_and_no_farther_than_t(t: float, df: float) -> None:
    z = float(t_to_z(t, df))

    assert abs(z) <= abs(t) + 1e-9
    assert float(t_to_z(-t, df)) == -z


def test_an_enormous_t_stays_finite() -> None:
    assert float(t_to_z(1e9, 200.0)) < 38
    assert float(t_to_z(-1e9, 200.0)) > -38


def session_span(rng: np.random.Generator, rollouts: int) -> tuple[np.ndarray, np.ndarray]:
    """Failures and requests in each bucket of 600 sessions whose requests fail together."""
    sessions = 600
    requests = rng.geometric(0.1, (rollouts, sessions))
    # Intraclass correlation 0.1 at a failure rate of 5 %: Beta(0.05 * 9, 0.95 * 9).
    failures = rng.binomial(requests, rng.beta(0.45, 8.55, (rollouts, sessions)))
    bucket = rng.integers(0, BUCKETS, (rollouts, sessions))
    sums = np.zeros((2, rollouts, BUCKETS))
    rows = np.arange(rollouts)[:, None]
    np.add.at(sums[0], (rows, bucket), failures)
    np.add.at(sums[1], (rows, bucket), requests)
    return sums[0], sums[1]


def test_buckets_keep_their_level_on_sessions_and_requests_do_not() -> None:
    rng = np.random.default_rng(41)
    rollouts = 2000
    (k_e, n_e), (k_c, n_c) = session_span(rng, rollouts), session_span(rng, rollouts)
    by_bucket = harm(bucket_ratio(k_e, n_e), bucket_ratio(k_c, n_c), harm_sign=1)
    by_request = harm(
        *(
            row_mean(n.sum(axis=1), k.sum(axis=1), k.sum(axis=1))
            for k, n in ((k_e, n_e), (k_c, n_c))
        ),
        harm_sign=1,
    )

    buckets = int((by_bucket.z >= stats.norm.isf(0.05)).sum())
    requests = int((by_request.z >= stats.norm.isf(0.05)).sum())

    assert float(wilson_interval(buckets, rollouts)[1]) <= 0.065
    assert float(wilson_interval(requests, rollouts)[0]) > 0.10
    deff = design_effect(
        bucket_ratio(k_e, n_e), row_mean(n_e.sum(axis=1), k_e.sum(axis=1), k_e.sum(axis=1))
    )
    # Requests per session have mean 10 and second moment 190: 1 + (190 / 10 - 1) * 0.1.
    assert float(np.median(deff)) == pytest.approx(2.8, rel=0.1)
