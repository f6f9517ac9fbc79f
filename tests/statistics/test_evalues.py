"""Reference values: statistical specification 4.1 and 4.5, checked there by quadrature."""

from math import comb, exp, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from optimizer.statistics.evalues import (
    Side,
    beta_binomial_log_evalue,
    binomial_increments,
    closed_form_log_evalue,
    exact_increments,
    log_evalue,
    log_evalue_path,
    odds_ratios,
    srm_log_evalue,
)
from optimizer.statistics.planning import wilson_interval

ALPHA = 0.05
counts = st.integers(min_value=0, max_value=60)
windows = st.lists(
    st.tuples(counts, counts, counts, counts).map(
        lambda drawn: (min(drawn[:2]), max(drawn[:2]), min(drawn[2:]), max(drawn[2:]))
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize(
    ("k_e", "k_c", "theta0", "expected"),
    [
        (10, 2, 0.5, 1.546243),
        (20, 8, 0.5, 1.840392),
        (60, 40, 0.5, 1.405806),
        (8, 0, 0.5, 1.857341),
        (100, 100, 0.5, -1.315802),
        (5, 2, 0.1, 3.390198),
        (5, 10, 0.1, 1.885327),
        (10, 40, 0.1, 1.619773),
        (20, 100, 0.1, 1.814395),
    ],
)
def test_closed_form_agrees_with_reference(
    k_e: int, k_c: int, theta0: float, expected: float
) -> None:
    assert float(closed_form_log_evalue(k_e, k_c, theta0)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("k_e", "k_c", "theta0"), [(20, 8, 0.5), (10, 40, 0.1)])
def test_closed_form_is_the_integral_over_its_prior(k_e: int, k_c: int, theta0: float) -> None:
    prior = stats.beta(16 * theta0, 16 * (1 - theta0))

    def weighted(theta: float) -> float:
        ratio = (theta / theta0) ** k_e * ((1 - theta) / (1 - theta0)) ** k_c
        return float(ratio * prior.pdf(theta) / prior.sf(theta0))

    integral = integrate.quad(weighted, theta0, 1.0, epsabs=1e-12, epsrel=1e-10)[0]

    assert float(closed_form_log_evalue(k_e, k_c, theta0)) == pytest.approx(log(integral), abs=1e-6)


@pytest.mark.parametrize(
    ("theta0", "needed"),
    # Canary failures that reach alpha 0.01 against 0, 1, 2, 5, 10, 20 control failures.
    [(0.5, [16, 18, 20, 25, 33, 48]), (0.1, [6, 6, 7, 7, 9, 11])],
)
def test_failures_needed_for_an_alarm_agree_with_reference(
    theta0: float, needed: list[int]
) -> None:
    controls = np.array([0, 1, 2, 5, 10, 20])
    canary = np.arange(60)[:, None]

    alarms = closed_form_log_evalue(canary, controls, theta0) >= log(100)

    assert np.argmax(alarms, axis=0).tolist() == needed


@pytest.mark.parametrize(
    ("window", "expected"), [((18, 20, 12, 20), 2.030613), ((97, 100, 90, 100), 1.732891)]
)
def test_exact_grid_agrees_with_reference(
    window: tuple[int, int, int, int], expected: float
) -> None:
    assert float(log_evalue(exact_increments(*window))) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize(("n_e", "n_c", "failures"), [(12, 12, 7), (5, 40, 9), (30, 10, 36)])
def test_exact_evalue_has_mean_one_without_harm(
    side: Side, n_e: int, n_c: int, failures: int
) -> None:
    k_e = np.arange(max(0, failures - n_c), min(failures, n_e) + 1)
    chance = stats.hypergeom.pmf(k_e, n_e + n_c, failures, n_e)

    evalue = np.exp(log_evalue(exact_increments(k_e, n_e, failures - k_e, n_c, side=side)))

    assert float(chance @ evalue) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("window", [(30, 100, 20, 150), (900, 2_000, 800, 3_000)])
def test_a_window_of_any_size_is_priced_by_the_sum_over_its_possible_failures(
    side: Side, window: tuple[int, int, int, int]
) -> None:
    k_e, n_e, k_c, n_c = window
    failures = k_e + k_c
    possible = np.arange(max(0, failures - n_c), min(failures, n_e) + 1)[:, None]
    log_chance = stats.hypergeom.logpmf(possible, n_e + n_c, failures, n_e)
    log_psi = np.log(odds_ratios(side))

    price = special.logsumexp(log_chance + possible * log_psi, axis=0)

    found = exact_increments(*window, side=side)
    assert found == pytest.approx(k_e * log_psi - price, rel=1e-9, abs=1e-8)


@pytest.mark.parametrize("theta0", [0.1, 0.5])
def test_closed_form_evalue_has_mean_one_without_harm(theta0: float) -> None:
    failures = 25
    k_e = np.arange(failures + 1)
    chance = stats.binom.pmf(k_e, failures, theta0)

    for side in Side:
        evalue = np.exp(closed_form_log_evalue(k_e, failures - k_e, theta0, side=side))
        assert float(chance @ evalue) == pytest.approx(1.0, abs=1e-9)


@given(windows=windows, side=st.sampled_from(list(Side)))
def test_binomial_form_never_exceeds_the_exact_form(
    windows: list[tuple[int, int, int, int]], side: Side
) -> None:
    table = np.array(windows).T

    exact = exact_increments(*table, side=side)
    binomial = binomial_increments(*table, side=side)

    assert np.all(binomial <= exact + 1e-9)


@given(windows=windows, side=st.sampled_from(list(Side)))
def test_whole_columns_equal_a_loop_over_windows(
    windows: list[tuple[int, int, int, int]], side: Side
) -> None:
    table = np.array(windows).T
    psi = odds_ratios(side)
    state = np.zeros(psi.size)
    expected = []
    for k_e, n_e, k_c, n_c in windows:
        total = k_e + k_c
        for g, odds in enumerate(psi):
            support = range(max(0, total - n_c), min(total, n_e) + 1)
            weight = sum(comb(n_e, j) * comb(n_c, total - j) for j in support)
            mean = sum(
                comb(n_e, j) * comb(n_c, total - j) / weight * float(odds) ** j for j in support
            )
            state[g] += k_e * log(odds) - log(mean)
        expected.append(log(sum(exp(value) for value in state) / psi.size))

    path = log_evalue_path(exact_increments(*table, side=side))

    assert path == pytest.approx(expected, abs=1e-8)
    assert float(path[-1]) == pytest.approx(
        float(log_evalue(exact_increments(*table, side=side).sum(axis=-2))), abs=1e-12
    )


@given(windows=windows)
def test_swapping_arms_swaps_the_side(windows: list[tuple[int, int, int, int]]) -> None:
    k_e, n_e, k_c, n_c = np.array(windows).T

    for increments in (exact_increments, binomial_increments):
        higher = log_evalue_path(increments(k_e, n_e, k_c, n_c, side=Side.HIGHER))
        lower = log_evalue_path(increments(k_c, n_c, k_e, n_e, side=Side.LOWER))
        assert higher == pytest.approx(lower, abs=1e-9)
    assert closed_form_log_evalue(k_e, k_c, 0.3) == pytest.approx(
        closed_form_log_evalue(k_c, k_e, 0.7, side=Side.LOWER), abs=1e-9
    )


@given(windows=windows)
def test_counting_successes_of_the_other_arm_is_the_same_evidence(
    windows: list[tuple[int, int, int, int]],
) -> None:
    k_e, n_e, k_c, n_c = np.array(windows).T

    failures = exact_increments(k_e, n_e, k_c, n_c)
    successes = exact_increments(n_c - k_c, n_c, n_e - k_e, n_e)

    assert failures == pytest.approx(successes, abs=1e-8)


def test_empty_windows_say_nothing() -> None:
    for increments in (exact_increments, binomial_increments):
        said = increments([0, 5, 0], [0, 9, 0], [0, 0, 3], [0, 0, 8])
        assert said == pytest.approx(np.zeros((3, 16)), abs=1e-12)


def test_leading_shapes_and_many_blocks_equal_single_cases() -> None:
    rng = np.random.default_rng(7)
    n_e, n_c = rng.integers(0, 4000, (2, 5, 40, 3))
    k_e, k_c = rng.binomial(n_e, 0.3), rng.binomial(n_c, 0.4)

    together = exact_increments(k_e, n_e, k_c, n_c)

    assert together.shape == (5, 40, 3, 16)
    for index in [(0, 0, 0), (4, 39, 2), (2, 17, 1)]:
        alone = exact_increments(k_e[index], n_e[index], k_c[index], n_c[index])
        assert together[index] == pytest.approx(alone, abs=1e-9)


@pytest.mark.parametrize("bad", [(-1, 5, 0, 5), (6, 5, 0, 5), (0, 5, 6, 5), (0.5, 5, 0, 5)])
def test_impossible_counts_are_refused(bad: tuple[float, float, float, float]) -> None:
    for increments in (exact_increments, binomial_increments):
        with pytest.raises(ValueError, match="breaks this"):
            increments(*bad)


@pytest.mark.parametrize("theta0", [0.0, 1.0, float("nan")])
def test_a_share_outside_the_open_unit_interval_is_refused(theta0: float) -> None:
    with pytest.raises(ValueError, match="theta0"):
        closed_form_log_evalue(1, 1, theta0)


def test_closed_form_of_either_side_is_the_even_mixture() -> None:
    higher = np.exp(closed_form_log_evalue(12, 3))
    lower = np.exp(closed_form_log_evalue(12, 3, side=Side.LOWER))

    either = np.exp(closed_form_log_evalue(12, 3, side=Side.EITHER))

    assert float(either) == pytest.approx(float(higher + lower) / 2)


@pytest.mark.parametrize(("k", "expected"), [(5200, 6.0758), (5100, 0.6193)])
def test_sample_ratio_agrees_with_reference(k: int, expected: float) -> None:
    assert float(srm_log_evalue(k, 10000 - k)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("ratio", [1.0, 9.0])
def test_sample_ratio_evalue_has_mean_one_when_the_split_is_right(ratio: float) -> None:
    k = np.arange(201)
    chance = stats.binom.pmf(k, 200, 1 / (1 + ratio))

    evalue = np.exp(srm_log_evalue(k, 200 - k, control_ratio=ratio))

    assert float(chance @ evalue) == pytest.approx(1.0, abs=1e-9)


def test_sample_ratio_refuses_a_ratio_that_is_not_positive() -> None:
    with pytest.raises(ValueError, match="control_ratio"):
        srm_log_evalue(1, 1, control_ratio=0.0)


def test_sample_ratio_rarely_alarms_over_five_hundred_looks() -> None:
    rng = np.random.default_rng(11)
    canary = rng.binomial(40, 0.5, (3000, 500)).cumsum(axis=1)
    units = np.full((3000, 500), 40).cumsum(axis=1)

    alarmed = (srm_log_evalue(canary, units - canary) >= log(1000)).any(axis=1)

    assert float(wilson_interval(alarmed.sum(), alarmed.size)[0]) < 0.002


def test_a_skewed_split_is_found() -> None:
    rng = np.random.default_rng(12)
    canary = rng.binomial(100, 0.48, (400, 300)).cumsum(axis=1)
    units = np.full((400, 300), 100).cumsum(axis=1)

    alarm = srm_log_evalue(canary, units - canary) >= log(1000)

    found_at = np.where(alarm.any(axis=1), alarm.argmax(axis=1) + 1, 300) * 100
    assert 8_000 < float(np.median(found_at)) < 13_000


def test_harmless_canaries_rarely_alarm_at_any_look() -> None:
    rng = np.random.default_rng(13)
    rollouts, looks = 3000, 24
    # A shared drift of the failure rate, as in a provider's bad hour, must not matter.
    drift = np.exp(rng.normal(0.0, 0.5, (rollouts, looks)))
    rate = np.minimum(0.5, 0.02 * drift)
    sizes = np.repeat([100, 200, 500, 1000], 6)
    k_e, k_c = rng.binomial(sizes, rate), rng.binomial(sizes, rate)

    closed = closed_form_log_evalue(k_e.cumsum(axis=1), k_c.cumsum(axis=1))
    grid = log_evalue_path(binomial_increments(k_e, sizes, k_c, sizes))

    for path in (closed, grid):
        alarmed = int((path >= log(1 / ALPHA)).any(axis=1).sum())
        assert float(wilson_interval(alarmed, rollouts)[1]) <= ALPHA
        assert alarmed > 0


def test_doubled_failures_are_found() -> None:
    rng = np.random.default_rng(14)
    sizes = np.repeat([100, 200, 500, 1000], 6)
    k_e = rng.binomial(sizes, 0.04, (500, 24))
    k_c = rng.binomial(sizes, 0.02, (500, 24))

    path = log_evalue_path(exact_increments(k_e, sizes, k_c, sizes))

    assert float((path >= log(1 / ALPHA)).any(axis=1).mean()) > 0.95


@given(
    k=st.integers(0, 40), extra=st.integers(0, 40), p=st.floats(0.05, 0.95), c=st.floats(1.0, 500.0)
)
def test_beta_binomial_equals_the_product_of_predictions(
    k: int, extra: int, p: float, c: float
) -> None:
    n = k + extra
    predicted = 0.0
    for unit in range(n):
        seen = min(unit, k)
        chance = (c * p + seen) / (c + unit)
        predicted += log((chance if unit < k else 1 - chance) / (p if unit < k else 1 - p))

    assert float(beta_binomial_log_evalue(k, n, p, concentration=c)) == pytest.approx(
        predicted, abs=1e-8
    )
