"""Newest hours are compared with their like before them, and with nothing else."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from optimizer.aggregates import SUMS
from optimizer.metrics import HOUR_S
from optimizer.statistics.anomalies import (
    HOURS,
    against_past,
    fallback_share,
    like_hourly,
    newest_outliers,
    out_of_range,
    p_values,
    read_newest,
    strengths,
    tail_freedom,
    volume,
)
from optimizer.statistics.hourly import Measure
from optimizer.statistics.seasonal import seasonal
from optimizer.statistics.shifts import outliers

MONDAY = 4 * 86_400
NOON = 12 * HOUR_S


def like_starts(weeks: int) -> np.ndarray:
    """The hours that are compared with those before Monday noon."""
    every = MONDAY + NOON + HOUR_S * np.arange(168 * weeks)
    end_s = every[-1] + HOUR_S
    return np.asarray(every[(end_s - every) // HOUR_S % 24 <= HOURS + 1])


def hours(rows: int, weeks: int, *, seed: int = 1, tails: float = np.inf) -> np.ndarray:
    """Independent logs with a deviation of 0.1 in the hours of :func:`like_starts`."""
    shape, random = (rows, like_starts(weeks).size), np.random.default_rng(seed)
    if np.isinf(tails):
        return 0.1 * random.standard_normal(shape)
    return np.asarray(0.1 * random.standard_t(tails, shape) / np.sqrt(tails / (tails - 2)))


def measured(log: np.ndarray, error: float = 0.0) -> Measure:
    return Measure(log=log, error=np.full(log.shape, error), count=np.full(log.shape, 400.0))


@pytest.mark.parametrize("later", [-9.0, 0.0, 9.0])
def test_what_comes_later_changes_no_score(later: float) -> None:
    log, start_s = hours(5, 2), like_starts(2)
    changed = log.copy()
    changed[:, 61:] += later

    plain, other = (against_past(each, start_s, cut=60) for each in (log, changed))

    np.testing.assert_array_equal(plain.z[:, :61], other.z[:, :61])
    np.testing.assert_array_equal(plain.centre, other.centre)


def test_each_series_has_a_past_of_its_own() -> None:
    log, start_s = hours(3, 2), like_starts(2)

    together = against_past(log, start_s, cut=[40, 55, 62])

    for row, cut in enumerate((40, 55, 62)):
        alone = against_past(log[row : row + 1], start_s, cut=cut)
        np.testing.assert_array_equal(together.z[row], alone.z[0])


def test_the_past_itself_is_scored_as_ever() -> None:
    log, start_s = hours(4, 2), like_starts(2)

    found = against_past(log, start_s, cut=log.shape[1])

    np.testing.assert_array_equal(found.z, seasonal(log, start_s).z)


def test_a_new_value_is_as_far_off_as_its_median_is_uncertain() -> None:
    """Scores of what comes next have the spread of those before, however few these were."""
    log, start_s = hours(8_000, 1, seed=3), like_starts(1)

    z = against_past(log, start_s, cut=log.shape[1] - 1).z

    assert stats.median_abs_deviation(z[:, -1]) * 1.4826 == pytest.approx(1.0, abs=0.12)


@pytest.mark.parametrize("factor", [1e-9, 1e6])
def test_a_constant_factor_changes_no_anomaly(factor: float) -> None:
    log, start_s = hours(400, 2), like_starts(2)
    log[::40, -1] += 1.5

    plain = newest_outliers(measured(log), start_s, min_hours=20).found
    other = newest_outliers(measured(log + np.log(factor)), start_s, min_hours=20).found

    assert plain["row"].tolist() == list(range(0, 400, 40))
    assert other["row"].tolist() == plain["row"].tolist()
    np.testing.assert_allclose(other["value"], factor * plain["value"])
    np.testing.assert_allclose(other["z"], plain["z"])


def test_the_order_of_series_changes_no_anomaly() -> None:
    log, start_s = hours(300, 2, tails=3.0), like_starts(2)
    log[7, -1] -= 1.5

    plain = newest_outliers(measured(log), start_s, min_hours=20).found
    other = newest_outliers(measured(log[::-1]), start_s, min_hours=20).found

    assert sorted(299 - other["row"]) == plain["row"].tolist()
    assert sorted(other["p_value"]) == pytest.approx(sorted(plain["p_value"]))


@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("silent", range(HOURS))
def test_a_spike_is_found_while_it_is_news(side: int, silent: int) -> None:
    log, start_s = hours(200, 2), like_starts(2)
    log[:, -1 - silent] += side * 1.5
    log[:, log.shape[1] - silent :] = np.nan

    found = newest_outliers(measured(log), start_s, min_hours=20).found

    assert len(found) >= 198
    assert (np.sign(found["z"]) == side).all()
    assert (found["start_s"] == start_s[-1 - silent]).all()


def test_a_series_that_ended_before_has_no_newest_hour() -> None:
    log, start_s = hours(50, 2), like_starts(2)
    log[:, -HOURS - 1] += 2.0
    log[:, -HOURS:] = np.nan

    newest = newest_outliers(measured(log), start_s, min_hours=20)

    assert not newest.judged.any()
    assert newest.found.empty


def test_fewer_hours_before_than_asked_for_are_not_judged() -> None:
    log, start_s = hours(20, 1), like_starts(1)
    log[:, -1] += 2.0
    before = log.shape[1] - HOURS

    enough = newest_outliers(measured(log), start_s, min_hours=before)
    short = newest_outliers(measured(log), start_s, min_hours=before + 1)

    assert enough.judged.all()
    assert len(enough.found) == 20
    assert not short.judged.any()
    assert short.found.empty


@pytest.mark.parametrize(("tails", "limit"), [(np.inf, 0.001), (5.0, 0.004)])
def test_stationary_series_are_seldom_anomalous(tails: float, limit: float) -> None:
    found = newest_outliers(measured(hours(10_000, 2, tails=tails)), like_starts(2), min_hours=20)

    assert len(found.found) / 10_000 <= limit


@pytest.mark.parametrize("weeks", [1, 2, 5])
def test_no_outlier_lies_within_the_range_of_its_like(weeks: int) -> None:
    """What is left out before the scores are computed could not have been told after."""
    log, start_s = hours(3_000, weeks, tails=3.0, seed=weeks), like_starts(weeks)
    log[::5, -1] += np.random.default_rng(weeks).uniform(-1, 1, 600)

    outside = out_of_range(log, start_s)
    told = outliers(read_newest(log, start_s), min_hours=20)

    assert len(told) > 100
    assert outside[told["row"].to_numpy()].all()
    assert outside.mean() < 0.6


def test_the_sampling_error_of_an_hour_excuses_it() -> None:
    log, start_s = hours(10, 2), like_starts(2)
    log[:, -1] += 1.5

    assert out_of_range(log, start_s, error=0.1).all()
    assert not out_of_range(log, start_s, error=1.0).any()


@given(st.lists(st.floats(-20, 20), min_size=3, max_size=30))
def test_an_hour_is_unusual_alone_or_as_the_last_of_three(scores: list[float]) -> None:
    found = strengths(np.asarray([scores]))[0]

    for hour, strength in enumerate(found):
        last = scores[max(hour - 2, 0) : hour + 1]
        three = len(last) == HOURS and (min(last) > 3.5 or max(last) < -3.5)
        if three or abs(scores[hour]) > 5:
            assert strength > 1 - 1e-12
        else:
            assert strength <= 1


def test_mirrored_scores_are_as_strong() -> None:
    z = np.random.default_rng(2).standard_normal((20, 50)) * 5

    np.testing.assert_array_equal(strengths(z), strengths(-z))


def test_unknown_scores_are_not_unusual() -> None:
    assert strengths(np.full((1, 5), np.nan)).tolist() == [[0.0] * 5]
    assert strengths(np.asarray([[10.0, np.nan]])).tolist() == [[2.0, 0.0]]


@pytest.mark.parametrize("freedom", [3.0, 5.0, 8.0, 20.0])
def test_the_tails_of_scores_are_measured(freedom: float) -> None:
    scores = stats.t.rvs(freedom, size=60_000, random_state=1)

    assert tail_freedom(scores) == pytest.approx(freedom, rel=0.15)


def test_few_scores_are_taken_for_heavy_tailed_ones() -> None:
    assert tail_freedom(np.zeros(10)) == 8.0
    assert tail_freedom(np.zeros(5_000)) == 2.5


@pytest.mark.parametrize("freedom", [3.0, 8.0, 1e6])
def test_p_values_are_uniform_where_the_tails_are_right(freedom: float) -> None:
    scores = stats.t.rvs(freedom, size=20_000, random_state=2)
    scaled = scores / stats.median_abs_deviation(scores) * 0.6744897501960817

    assert stats.kstest(p_values(scaled, freedom=freedom), "uniform").pvalue > 0.001


def frame(n: Mapping[tuple[str, str, int], int]) -> pd.DataFrame:
    rows = [
        {"target": target, "arm": arm, "slice": "baseline", "window_start_s": start_s}
        | dict.fromkeys(SUMS, 0)
        | {"n": count}
        for (target, arm, start_s), count in n.items()
    ]
    return pd.DataFrame(rows)


def test_only_hours_at_the_times_of_day_of_the_newest_are_read() -> None:
    end_s = MONDAY + 72 * HOUR_S
    starts = [MONDAY + hour * HOUR_S for hour in range(72)]
    table = frame({("t", "a", start_s): 1 + start_s // HOUR_S for start_s in starts})

    found = like_hourly(table, start_s=MONDAY, end_s=end_s, columns=("n",))

    of_day = (found.start_s // HOUR_S) % 24
    assert set(of_day.tolist()) == {20, 21, 22, 23, 0}
    assert found.start_s[-1] == end_s - HOUR_S
    np.testing.assert_array_equal(found.sums["n"][0], 1 + found.start_s // HOUR_S)


def test_slices_are_added_and_hours_outside_are_left_out() -> None:
    end_s = MONDAY + 48 * HOUR_S
    inside = frame({("t", "a", end_s - HOUR_S): 5, ("t", "b", end_s - 2 * HOUR_S): 3})
    outside = frame({("t", "a", end_s): 99, ("t", "c", MONDAY - HOUR_S): 99})
    table = pd.concat([inside, inside.iloc[:1], outside], ignore_index=True)

    found = like_hourly(table, start_s=MONDAY, end_s=end_s, columns=("n",))

    assert found.keys["arm"].tolist() == ["a", "b"]
    assert found.sums["n"][:, -2:].tolist() == [[0, 10], [3, 0]]


def test_a_target_that_contradicts_itself_is_left_out_whole() -> None:
    end_s = MONDAY + 48 * HOUR_S
    table = frame({(name, "a", end_s - HOUR_S): 5 for name in ("good", "bad")})
    table.loc[table["target"] == "bad", "n_cost"] = 6

    found = like_hourly(table, start_s=MONDAY, end_s=end_s, columns=("n",))

    assert found.keys["target"].tolist() == ["good"]


def test_an_hour_without_requests_is_a_volume_of_none_and_an_unknown_share() -> None:
    n = np.asarray([[0.0, 99.0]])
    share = fallback_share({"n": n, "n_fallback": np.asarray([[0.0, 9.5]])})

    assert np.exp(volume(n, n[:, 1:]).log).tolist() == [[0.5, pytest.approx(99.5)]]
    assert np.isnan(share.log).tolist() == [[True, False]]
    assert np.exp(share.log[0, 1]) == pytest.approx(0.1)


def test_the_error_of_a_volume_is_that_of_the_usual_count() -> None:
    found = volume(np.asarray([[0.0, 400.0]]), np.asarray([[399.5]]))

    assert found.error.tolist() == [[0.05, 0.05]]
