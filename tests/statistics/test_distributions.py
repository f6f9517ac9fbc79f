"""Reference values: statistical specification 11, and scipy's two-sample test."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from optimizer.statistics.distributions import (
    ks_counts,
    ks_values,
    psi,
    psi_limit,
    quantile_cells,
)

counts = st.lists(st.integers(0, 500), min_size=3, max_size=12)


def decile_samples(n: int, m: int, runs: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Two samples of one distribution, counted over the first one's deciles."""
    random = np.random.default_rng(seed)
    baseline = np.full(10, n // 10)
    # The share of the population between two sample quantiles is a Beta variable.
    gaps = random.dirichlet(np.full(10, n / 10), size=runs)
    return baseline, random.multinomial(m, gaps)


def test_without_drift_the_index_has_the_stated_mean() -> None:
    baseline, current = decile_samples(5_000, 500, runs=4_000)

    found = psi(baseline, current)

    assert found.mean() == pytest.approx(9 * (1 / 5_000 + 1 / 500), rel=0.05)
    assert found.mean() == pytest.approx(0.0198, rel=0.05)


def test_the_customary_limit_is_passed_in_two_of_five_small_samples_without_drift() -> None:
    baseline, current = decile_samples(5_000, 100, runs=4_000)

    found = psi(baseline, current)

    assert np.mean(found > 0.1) == pytest.approx(0.4, abs=0.05)
    assert not np.any(found > psi_limit(5_000, 100))


@pytest.mark.parametrize(("n", "m"), [(500, 500), (5_000, 500), (20_000, 20_000)])
def test_samples_without_drift_pass_the_limit_in_one_of_a_thousand_at_most(n: int, m: int) -> None:
    baseline, current = decile_samples(n, m, runs=20_000)

    assert np.mean(psi(baseline, current) > psi_limit(n, m)) <= 0.0015


def test_a_shift_of_half_a_deviation_passes_the_limit() -> None:
    random = np.random.default_rng(2)
    edges = stats.norm.ppf(np.linspace(0, 1, 11))
    shares = np.diff(stats.norm.cdf(edges, loc=0.5))

    found = psi(np.full(10, 500), random.multinomial(500, shares, size=500))

    assert np.mean(found > psi_limit(5_000, 500)) > 0.99


@given(counts, st.integers(1, 1_000))
def test_equal_shares_differ_by_nothing(cells: list[int], factor: int) -> None:
    full = np.asarray(cells) + 1

    assert psi(full, full * factor).item() == pytest.approx(0.0, abs=1e-12)
    assert ks_counts(full, full * factor).distance.item() == pytest.approx(0.0, abs=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_swapping_the_samples_changes_nothing(seed: int) -> None:
    a, b = np.random.default_rng(seed).integers(0, 300, size=(2, 8))

    np.testing.assert_allclose(psi(a, b), psi(b, a))
    np.testing.assert_allclose(ks_counts(a, b).distance, ks_counts(b, a).distance)


def test_an_empty_sample_is_unknown_and_not_equal() -> None:
    assert np.isnan(psi([0, 0], [5, 5]))
    assert np.isnan(ks_counts([0, 0], [5, 5]).distance)
    assert np.isnan(ks_counts([0, 0], [5, 5]).p_value)
    assert np.isnan(ks_values([], [1.0]).p_value)
    assert np.isinf(psi_limit(0, 5_000))


@given(counts)
def test_quantile_bins_are_whole_cells_in_order(cells: list[int]) -> None:
    bins = quantile_cells(cells)

    assert set(np.diff(bins)) <= {0, 1}
    assert bins[0] == 0


def test_a_fine_histogram_has_ten_bins_of_a_tenth() -> None:
    share = np.bincount(quantile_cells(np.ones(1_000)), weights=np.ones(1_000))

    np.testing.assert_array_equal(share, np.full(10, 100))


@pytest.mark.parametrize("shift", [0.0, 0.2])
def test_over_cells_of_single_values_the_test_is_scipys(shift: float) -> None:
    random = np.random.default_rng(3)
    a, b = random.standard_normal(700), random.standard_normal(400) + shift
    cells = np.sort(np.r_[a, b])

    found = ks_counts(np.isin(cells, a), np.isin(cells, b))

    expected = stats.ks_2samp(a, b, method="asymp")
    assert found.distance.item() == pytest.approx(expected.statistic)
    assert found.p_value.item() == pytest.approx(expected.pvalue, rel=0.1)
    assert ks_values(a, b).distance.item() == pytest.approx(expected.statistic)
    assert ks_values(np.r_[a, np.nan], b).p_value == ks_values(a, b).p_value


def test_coarse_cells_make_the_test_conservative() -> None:
    random = np.random.default_rng(4)
    edges = np.linspace(-4, 4, 12)
    p_values = []
    for _ in range(400):
        a, b = (np.histogram(random.standard_normal(500), edges)[0] for _ in range(2))
        p_values.append(ks_counts(a, b).p_value.item())

    assert np.mean(np.asarray(p_values) < 0.05) <= 0.05


def test_many_requests_of_few_sessions_are_few_values() -> None:
    a, b = np.array([500, 500]), np.array([450, 550])

    assert ks_counts(a, b).p_value < 0.2
    assert ks_counts(a, b, n=50, m=50).p_value > 0.9


def test_each_sample_is_as_large_as_its_own_sessions() -> None:
    a, b = np.array([400, 600]), np.array([600, 400])

    expected = special.kolmogorov(0.2 * np.sqrt(50 * 80 / 130))
    assert ks_counts(a, b, n=50, m=80).p_value == pytest.approx(expected)
    assert ks_counts(b, a, n=80, m=50).p_value == pytest.approx(expected)
