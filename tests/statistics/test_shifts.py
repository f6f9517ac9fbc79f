"""What changed, when and by how much: shifts that last, hours unlike any before."""

from collections.abc import Callable

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from datasets import datasets
from optimizer.metrics import HOUR_S
from optimizer.statistics.shifts import discoveries, outliers, read, shifts

MONDAY = 4 * 86_400
WIDTH = 336
START_S = MONDAY + HOUR_S * np.arange(WIDTH)


def hours(rows: int, rho: float, *, seed: int = 1, tails: float = np.inf) -> np.ndarray:
    """Stationary logs with a deviation of 0.1; ``tails``: degrees of freedom of their noise."""
    random = np.random.default_rng(seed)
    log = random.standard_normal((rows, WIDTH))
    if np.isfinite(tails):
        log = random.standard_t(tails, (rows, WIDTH)) / np.sqrt(tails / (tails - 2))
    for hour in range(1, WIDTH):
        log[:, hour] = rho * log[:, hour - 1] + np.sqrt(1 - rho**2) * log[:, hour]
    return 0.1 * log


@pytest.mark.parametrize(
    ("tails", "rho", "limit"),
    [(np.inf, 0.0, 0.001), (np.inf, 0.5, 0.002), (np.inf, 0.8, 0.003), (5.0, 0.5, 0.003)],
)
def test_stationary_series_seldom_shift(tails: float, rho: float, limit: float) -> None:
    found = shifts(read(hours(8_000, rho, tails=tails), START_S), min_hours=96)

    assert len(found) / 8_000 <= limit


def test_no_shift_of_stationary_series_is_a_discovery() -> None:
    found = shifts(read(hours(8_000, 0.5), START_S), min_hours=96)

    assert len(found) > 0
    assert not discoveries(found["p_value"], tests=16_000).any()


@pytest.mark.parametrize("tails", [np.inf, 5.0])
def test_stationary_series_have_an_outlier_in_one_of_five_hundred_hours_at_most(
    tails: float,
) -> None:
    reading = read(hours(4_000, 0.3, tails=tails), START_S)

    assert len(outliers(reading, min_hours=96)) / 4_000 <= 0.002


@pytest.mark.parametrize(("rho", "late"), [(0.0, 6), (0.3, 7), (0.5, 10)])
def test_a_shift_of_three_deviations_is_found_soon(rho: float, late: int) -> None:
    log = hours(500, rho)
    log[:, -late:] += 0.3

    found = shifts(read(log, START_S), min_hours=96)

    assert found["row"].nunique() >= 0.8 * 500


@pytest.mark.parametrize("side", [1, -1])
def test_a_shift_is_dated_and_sized_on_its_side(side: int) -> None:
    log = hours(300, 0.3)
    log[:, -15:] += side * 0.5

    found = shifts(read(log, START_S), min_hours=96)

    assert (found["side"] == side).all()
    assert len(found) >= 295
    assert np.mean(found["onset"] == WIDTH - 15) >= 0.9
    assert found["ratio"].median() == pytest.approx(np.exp(side * 0.5), rel=0.08)
    assert found["confirmed"].mean() >= 0.9


def test_mirrored_series_shift_to_the_other_side() -> None:
    log = hours(50, 0.3)
    log[:25, -15:] += 0.4

    up, down = (shifts(read(sign * log, START_S), min_hours=96) for sign in (1, -1))

    assert up["row"].tolist() == down["row"].tolist()
    assert (up["side"] == -down["side"]).all()
    assert up["onset"].tolist() == down["onset"].tolist()


def test_fewer_hours_before_than_asked_for_are_no_shift() -> None:
    log = hours(20, 0.0)
    log[:, -12:] += 0.6
    log[:, : WIDTH - 100] = np.nan

    assert len(shifts(read(log, START_S), min_hours=80)) > 0
    assert shifts(read(log, START_S), min_hours=100).empty


def test_three_hours_in_a_row_are_unusual_sooner_than_one() -> None:
    one, three = hours(200, 0.0), hours(200, 0.0)
    one[:, -1] += 0.45
    three[:, -3:] += 0.45

    found = [len(outliers(read(log, START_S), min_hours=96)) for log in (one, three)]

    assert 0 < found[0] < 0.8 * found[1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_discoveries_are_those_of_benjamini_and_hochberg(p_values: list[float]) -> None:
    expected = stats.false_discovery_control(p_values) <= 0.05

    assert discoveries(p_values, tests=len(p_values)).tolist() == expected.tolist()


def test_tests_that_were_not_looked_at_count() -> None:
    assert discoveries([0.01], tests=4).tolist() == [True]
    assert discoveries([0.01], tests=6).tolist() == [False]
    assert discoveries([], tests=0).tolist() == []


def hourly_logs(values: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Mean log of each hour (nan = none), and the hours' starts, Unix seconds."""
    hour = values["second"].to_numpy() // HOUR_S
    log = np.log(np.maximum(values["value"].to_numpy(), 1e-3))
    total = np.bincount(hour - hour[0], weights=log)
    count = np.bincount(hour - hour[0])
    return np.where(count > 0, total / np.maximum(count, 1), np.nan), HOUR_S * (
        hour[0] + np.arange(total.size)
    )


@pytest.mark.slow
def test_published_cloud_metrics_raise_few_alarms_and_most_of_them_near_an_anomaly(
    record_property: Callable[[str, object], None],
) -> None:
    """Hourly means of the 17 realAWSCloudwatch series (Numenta Anomaly Benchmark v1.1, MIT)."""
    place = datasets("nab") / "nab" / "nab.parquet"
    rows = duckdb.execute(
        "SELECT file, epoch(timestamp::TIMESTAMP)::BIGINT AS second, value, "
        "in_anomaly_window AS marked "
        "FROM read_parquet(?) WHERE file LIKE '%realAWSCloudwatch%' ORDER BY file, timestamp",
        [str(place)],
    ).df()
    weeks, inside, outside = 0.0, 0, 0
    for _, series in rows.groupby("file"):
        log, start_s = hourly_logs(series)
        marked = set(series["second"][series["marked"] == 1] // HOUR_S)
        told: set[int] = set()
        for end in range(96, log.size, 6):
            found = shifts(read(log[None, :end], start_s[:end]), min_hours=72)
            told |= {int(start_s[onset]) // HOUR_S for onset in found["onset"]}
        weeks += (log.size - 96) / 168
        near = {hour for hour in told if any(abs(hour - other) <= 3 for other in marked)}
        inside, outside = inside + len(near), outside + len(told - near)

    record_property("alarms_per_week", (inside + outside) / weeks)
    record_property("alarms_in_windows", inside)
    record_property("alarms_outside_windows", outside)
    # Measured: 22 alarms in 24 series weeks, 16 of them in or within 3 hours of a marked window.
    assert 0.5 < (inside + outside) / weeks < 1.5
    assert inside > 2 * outside
