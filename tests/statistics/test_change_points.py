"""Reference values: statistical specification 11; the optimum by quadratic dynamic programming."""

import numpy as np
import pytest

from optimizer.statistics.change_points import MIN_SIZE, change_points
from optimizer.statistics.runs import residuals

HOURS = 336


def correlated(rho: float, seed: int, rows: int = 400) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((rows, HOURS))
    for hour in range(1, HOURS):
        noise[:, hour] = rho * noise[:, hour - 1] + np.sqrt(1 - rho**2) * noise[:, hour]
    return noise


def optimum(values: np.ndarray, penalty: float) -> tuple[int, ...]:
    """The best segmentation of all, every earlier end tried for every later one."""
    n = values.size
    total, squares = (np.r_[0.0, np.cumsum(part)] for part in (values, values**2))
    best, previous = np.full(n + 1, np.inf), np.zeros(n + 1, dtype=int)
    best[0] = -penalty
    for end in range(MIN_SIZE, n + 1):
        start = np.arange(end - MIN_SIZE + 1)
        cost = squares[end] - squares[start] - (total[end] - total[start]) ** 2 / (end - start)
        choice = best[start] + cost + penalty
        previous[end], best[end] = choice.argmin(), choice.min()
    ends, end = [], int(previous[n])
    while end:
        ends.append(end)
        end = int(previous[end])
    return tuple(reversed(ends))


def false_share(series: np.ndarray) -> float:
    return float(np.mean([bool(change_points(row)) for row in series]))


@pytest.mark.parametrize(("rho", "low", "high"), [(0.0, 0.0, 0.01), (0.3, 0.0, 0.03)])
def test_residuals_of_stationary_hours_rarely_have_a_change_point(
    rho: float, low: float, high: float
) -> None:
    assert low <= false_share(residuals(correlated(rho, seed=1))) <= high


def test_correlation_alone_looks_like_changes_unless_it_is_taken_out() -> None:
    raw = correlated(0.5, seed=2)
    # The specification standardises by the true deviation, differences understate it here.
    raw_share = np.mean([bool(optimum(row, 3 * np.log(HOURS))) for row in raw[:100]])

    assert raw_share == pytest.approx(0.32, abs=0.12)
    assert false_share(residuals(raw)) <= 0.03


def test_the_segmentation_is_the_best_of_all() -> None:
    random = np.random.default_rng(4)
    for _ in range(60):
        values = random.standard_normal(HOURS)
        for begin in random.integers(0, HOURS, size=3):
            values[begin:] += random.normal(scale=1.5)
        scale = np.sqrt(np.mean(np.diff(values) ** 2) / 2)

        assert change_points(values) == optimum(values / scale, 3 * np.log(HOURS))


@pytest.mark.parametrize("shift", [1.5, 3.0])
def test_a_shift_is_found_where_it_is(shift: float) -> None:
    series = correlated(0.0, seed=5, rows=100)
    series[:, 200:] += shift

    found = [change_points(row) for row in series]

    near = [any(abs(point - 200) <= 3 for point in points) for points in found]
    assert np.mean(near) >= 0.9
    assert np.mean([len(points) == 1 for points in found]) >= 0.95


@pytest.mark.parametrize("factor", [1e-9, 1e6, -1.0])
def test_neither_scale_nor_level_matters(factor: float) -> None:
    values = correlated(0.0, seed=6, rows=1)[0]
    values[100:] += 2.0

    assert change_points(values * factor + 3 * factor) == change_points(values) != ()


def test_unknown_hours_are_left_out_and_positions_are_those_of_the_series() -> None:
    values = np.r_[np.zeros(100), np.full(100, 9.0)] + correlated(0.0, 7, rows=1)[0, :200]
    values[[3, 50, 51, 150]] = np.nan

    assert change_points(values) == (100,)


@pytest.mark.parametrize(
    "values", [np.arange(2.0 * MIN_SIZE - 1), np.full(100, np.nan), np.full(100, 7.0), []]
)
def test_too_short_or_flat_a_series_has_no_change_point(values: np.ndarray) -> None:
    assert change_points(values) == ()
