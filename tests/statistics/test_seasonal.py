"""An hour is compared with its like: same hour of the week, pooled where that is too thin."""

import numpy as np
import pytest
from scipy import stats

from optimizer.statistics.seasonal import hour_of_week, seasonal

MONDAY = 4 * 86_400


def hours(weeks: float) -> np.ndarray:
    return MONDAY + 3600 * np.arange(int(168 * weeks))


def noise(rows: int, columns: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, columns))


def wave(columns: int) -> np.ndarray:
    hour = np.arange(columns)
    return np.log(2.0 + np.sin(hour / 24 * 2 * np.pi) + 0.5 * (hour % 168 >= 120))


@pytest.mark.parametrize("factor", [1e-9, 1e-6, 1e6])
def test_a_constant_factor_changes_no_score(factor: float) -> None:
    log = 0.1 * noise(5, 336)

    np.testing.assert_allclose(
        seasonal(log + np.log(factor), hours(2)).z, seasonal(log, hours(2)).z, rtol=1e-9
    )


def test_the_order_of_hours_changes_no_score() -> None:
    log, start_s = noise(3, 336), hours(2)
    order = np.random.default_rng(2).permutation(336)

    mixed = seasonal(log[:, order], start_s[order])

    np.testing.assert_array_equal(mixed.z, seasonal(log, start_s).z[:, order])


def test_the_order_of_series_changes_no_score() -> None:
    log = noise(6, 168)
    log[2:4, 50:90] = np.nan

    np.testing.assert_array_equal(seasonal(log[::-1], hours(1)).z, seasonal(log, hours(1)).z[::-1])


def test_with_four_weeks_the_centre_is_the_median_of_that_hour_of_the_week() -> None:
    log = noise(1, 168 * 5)

    found = seasonal(log, hours(5))

    expected = np.median(log.reshape(5, 168), axis=0)
    np.testing.assert_allclose(found.centre.reshape(5, 168), np.tile(expected, (5, 1)))
    assert (found.count == 5).all()


def test_the_spread_joins_the_slot_with_the_series() -> None:
    log = noise(1, 168 * 9)

    found = seasonal(log, hours(9), noise=0.0)

    own = stats.median_abs_deviation(log.reshape(9, 168), axis=0, scale=1 / 1.4826)
    spread = found.spread.reshape(9, 168)[0]
    whole = (29 * spread**2 - 9 * own**2) / 20
    np.testing.assert_allclose(whole, whole[0])
    assert whole[0] == pytest.approx(1.0, abs=0.15)


def test_in_one_week_weekdays_are_pooled_and_weekends_with_their_neighbours() -> None:
    found = seasonal(noise(1, 168), hours(1))

    assert set(found.count[0, :120]) == {5}
    assert set(found.count[0, 120:]) == {6}


def test_an_hour_unlike_any_other_has_no_score() -> None:
    weekend_missing = noise(1, 168)
    weekend_missing[0, 120:165] = np.nan

    found = seasonal(weekend_missing, hours(1))

    assert np.isnan(found.z[0, 120:]).all()
    assert found.count[0, 166] == 0
    assert not np.isnan(found.z[0, :120]).any()


def test_three_days_say_nothing() -> None:
    three_days = seasonal(noise(1, 72), hours(3 / 7), enough=10)

    assert np.isnan(three_days.z).all()


def test_no_hours_have_no_scores() -> None:
    assert seasonal(np.zeros((3, 0)), []).z.shape == (3, 0)
    assert seasonal(np.zeros((0, 24)), 3600 * np.arange(24)).z.shape == (0, 24)


@pytest.mark.parametrize("weeks", [1, 2, 4])
def test_scores_of_stationary_hours_have_unit_spread_and_are_rarely_large(weeks: int) -> None:
    log = 0.2 * noise(3_000, 168 * weeks, seed=weeks) + wave(168 * weeks)

    z = seasonal(log, hours(weeks)).z

    # Medians of four values fit them a little too well: scores then spread by 1.17.
    assert np.std(z) == pytest.approx(1.0, abs=0.2)
    assert np.mean(np.abs(z) > 5) < 0.001


def test_a_daily_and_weekly_wave_hides_no_outlier() -> None:
    log = 0.1 * noise(200, 336) + wave(336)
    log[:, 300] += 1.0

    assert np.median(seasonal(log, hours(2)).z[:, 300]) > 5


def test_an_hour_of_few_requests_is_less_unusual() -> None:
    log = 0.05 * noise(1, 336)
    log[0, -1] = 0.5
    error = np.full((1, 336), 0.01)
    error[0, -1] = 0.5

    assert seasonal(log, hours(2)).z[0, -1] > 5
    assert seasonal(log, hours(2), error=error).z[0, -1] < 1.5


def test_a_flat_history_makes_two_percent_one_standard_deviation() -> None:
    flat = np.zeros((1, 336))
    flat[0, -1] = np.log(1.02)

    assert seasonal(flat, hours(2)).z[0, -1] == pytest.approx(0.99, abs=0.01)


def test_hours_of_the_week_begin_on_monday() -> None:
    assert hour_of_week(MONDAY + 3600 * np.arange(170))[[0, 1, 167, 168]].tolist() == [0, 1, 167, 0]
