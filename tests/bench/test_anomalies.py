"""The benchmark's score as its authors define it, and the detectors that are compared by it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.anomalies import compared, main
from bench.nab.corpus import Labelled, Profile, Windows, read_corpus, read_profiles
from bench.nab.detectors import OURS, RELEASED, analyzers, told_once, windowed_gaussian
from bench.nab.report import checked, markdown
from bench.nab.scoring import (
    OUTSIDE,
    UNSCORED,
    alarms,
    at_threshold,
    best,
    by_threshold,
    probation,
    worth,
    worths,
)
from datasets import datasets

STANDARD = Profile(true_positive=1.0, false_positive=0.11, false_negative=1.0)
LOW_FALSE_NEGATIVE = Profile(true_positive=1.0, false_positive=0.11, false_negative=2.0)


def labelled(
    values: np.ndarray, *windows: tuple[int, int], name: str = "g/a.csv", step_s: int = 300
) -> Labelled:
    return Labelled(
        name=name,
        group=name.split("/", maxsplit=1)[0],
        at_s=step_s * np.arange(len(values)),
        values=values,
        windows=windows,
    )


def of(series: Labelled, found: Mapping[int, float]) -> dict[str, np.ndarray]:
    """Scores of a series that are 0 but at these points."""
    scores = np.zeros(len(series.values))
    for point, score in found.items():
        scores[point] = score
    return {series.name: scores}


def test_a_window_of_ten_is_worth_what_its_authors_say() -> None:
    """By hand: 2 / (1 + exp(5 y)) - 1 at y = -1, -.5 and -.1, over its value at -1."""
    value, number = worths(100, ((40, 49),))

    assert value[40] == pytest.approx(1.0)
    assert value[45] == pytest.approx(0.848284 / 0.986614, abs=1e-6)
    assert value[49] == pytest.approx(0.244919 / 0.986614, abs=1e-6)
    assert number[40:50].tolist() == [0] * 10


def test_a_false_alarm_is_worse_the_longer_after_a_window() -> None:
    """By hand: distances over the width less one, here 9; -1 before a window and from 3 widths."""
    value, number = worths(100, ((40, 49),))

    assert value[20:40].tolist() == [-1.0] * 20
    assert value[50] == pytest.approx(2 / (1 + np.exp(5 / 9)) - 1)
    assert value[58] == pytest.approx(-0.986614, abs=1e-6)
    assert value[75] > -1.0
    assert value[76:].tolist() == [-1.0] * 24
    assert (np.diff(value[50:]) <= 0).all()
    assert number[15:40].tolist() == [OUTSIDE] * 25


@pytest.mark.parametrize(("points", "unscored"), [(100, 15), (4_032, 604), (5_000, 750)])
def test_the_first_of_a_series_are_not_scored(points: int, unscored: int) -> None:
    _, number = worths(points, ())

    assert probation(points) == unscored
    assert (number == UNSCORED).sum() == unscored
    assert probation(20_000) == 750


@pytest.mark.parametrize("profile", [STANDARD, LOW_FALSE_NEGATIVE])
def test_a_detector_without_alarm_has_zero_and_a_perfect_one_a_hundred(profile: Profile) -> None:
    series = labelled(np.zeros(200), (60, 79), (120, 139))
    silent = of(series, {})
    perfect = of(series, {60: 1.0, 120: 1.0})

    assert by_threshold([series], silent, profile)[0][0] == 0.0
    assert best([series], silent, profile).value == 0.0
    assert best([series], perfect, profile).value == pytest.approx(100.0)


def test_a_small_corpus_scored_by_hand() -> None:
    """One window found half through it, one missed, one false alarm long before both.

    Standard: .848284/.986614 - 1 - .11 = -.250206; null -2, perfect 2: 100 * 1.749794 / 4.
    """
    series = labelled(np.zeros(200), (60, 69), (120, 139))
    scores = of(series, {40: 0.9, 65: 0.9})

    values, thresholds = by_threshold([series], scores, STANDARD)

    assert thresholds.tolist() == [np.inf, 0.9, 0.0]
    assert values[1] == pytest.approx(100 * (0.848284 / 0.986614 + 1 - 0.11) / 4, abs=1e-4)
    assert at_threshold([series], scores, STANDARD, 0.5) == values[1]
    assert at_threshold([series], scores, STANDARD, 0.95) == 0.0
    assert best([series], scores, STANDARD).threshold == 0.9


def test_of_several_alarms_in_a_window_the_earliest_counts() -> None:
    series = labelled(np.zeros(200), (60, 79))

    alone = best([series], of(series, {64: 1.0}), STANDARD)
    several = best([series], of(series, {64: 1.0, 70: 1.0, 79: 1.0}), STANDARD)

    assert several == alone


def test_one_threshold_holds_for_all_series() -> None:
    quiet = labelled(np.zeros(200), (60, 79), name="g/quiet.csv")
    noisy = labelled(np.zeros(200), name="g/noisy.csv")
    wolf = dict.fromkeys(range(40, 160), 0.8)

    alone = best([quiet], of(quiet, {60: 0.5}), STANDARD)
    both = best([quiet, noisy], of(quiet, {60: 0.5}) | of(noisy, wolf), STANDARD)

    assert alone.value == pytest.approx(100.0)
    assert both.value == 0.0


def test_alarms_in_the_probation_cost_nothing_and_find_nothing() -> None:
    series = labelled(np.zeros(200), (60, 79))

    early = of(series, dict.fromkeys(range(30), 1.0))

    assert best([series], early, STANDARD).value == 0.0
    assert alarms([series], early, 1.0)["g"].false == 0


@given(st.lists(st.floats(0, 1), min_size=100, max_size=100))
def test_the_score_of_any_detector_lies_between_none_and_perfect(scores: list[float]) -> None:
    series = labelled(np.zeros(100), (30, 39), (70, 79))

    found = best([series], {series.name: np.asarray(scores)}, STANDARD)

    assert 0.0 <= found.value <= 100.0 + 1e-9


@given(st.lists(st.floats(0.0625, 1, width=32), min_size=100, max_size=100))
def test_only_the_order_of_scores_counts(scores: list[float]) -> None:
    series, values = labelled(np.zeros(100), (30, 39)), np.asarray(scores)

    plain = best([series], {series.name: values}, STANDARD)
    cubed = best([series], {series.name: values**3}, STANDARD)

    assert cubed.value == pytest.approx(plain.value)


def swept(points: int, windows: Windows, scores: np.ndarray, threshold: float) -> float:
    """The score as the definition reads, window by window and alarm by alarm."""
    total = 0.0
    for first, last in windows:
        hits = [i for i in range(max(first, probation(points)), last + 1) if scores[i] >= threshold]
        place = -(last - hits[0] + 1) / (last - first + 1) if hits else None
        total += -1.0 if place is None else float(worth(place)) / float(worth(-1.0))
    for i in range(probation(points), points):
        if scores[i] >= threshold and not any(a <= i <= b for a, b in windows):
            past = [(a, b) for a, b in windows if b < i]
            far = (i - past[-1][1]) / (past[-1][1] - past[-1][0]) if past else 3.0
            total += 0.11 * float(worth(far))
    return 100 * (total + len(windows)) / (2 * len(windows))


@pytest.mark.parametrize("seed", range(5))
def test_every_threshold_has_the_score_of_the_definition(seed: int) -> None:
    scores = np.round(np.random.default_rng(seed).random(120), 1)
    windows = ((30, 41), (60, 64), (100, 119))
    series = labelled(np.zeros(120), *windows)

    values, thresholds = by_threshold([series], {series.name: scores}, STANDARD)

    for value, threshold in zip(values, thresholds, strict=True):
        assert value == pytest.approx(swept(120, windows, scores, threshold))


def test_alarms_are_counted_by_group_and_week() -> None:
    week = 7 * 288
    one = labelled(np.zeros(2 * week), (week, week + 99), name="x/one.csv")
    two = labelled(np.zeros(2 * week), name="y/two.csv")
    scores = of(one, {week: 1.0, week + 500: 1.0}) | of(two, {week + 3: 1.0})

    found = alarms([one, two], scores, 1.0)

    assert (found["x"].windows, found["x"].found, found["x"].false) == (1, 1, 1)
    assert found["y"].weeks == pytest.approx((2 * week - 604) / week, rel=1e-3)
    assert found["y"].false_per_week == pytest.approx(1 / found["y"].weeks)


def test_the_windowed_gaussian_is_the_benchmarks() -> None:
    """Its window grows until it is full, then moves on by whole steps."""
    values = np.random.default_rng(1).standard_normal(60)

    found = windowed_gaussian(labelled(values), window=20, step=5)

    for now, (first, end) in {10: (0, 10), 19: (0, 19), 22: (0, 20), 25: (5, 25)}.items():
        seen = values[first:end]
        z = abs(values[now] - seen.mean()) / seen.std()
        assert found[now] == pytest.approx(1 - stats.norm.sf(z))
    assert found[0] == 0.0


def noise(days: int, seed: int = 1) -> np.ndarray:
    hour = np.arange(days * 288) / 12
    wave = 50 + 20 * np.sin(hour / 24 * 2 * np.pi)
    return wave + np.random.default_rng(seed).standard_normal(hour.size)


@pytest.mark.parametrize("detect", [analyzers, lambda s: windowed_gaussian(s, window=500, step=1)])
def test_a_point_is_scored_from_those_before_it_alone(
    detect: Callable[[Labelled], np.ndarray],
) -> None:
    values = noise(6)
    changed = np.append(values[:1_500], values[1_500:] * 3)

    plain, other = detect(labelled(values)), detect(labelled(changed))

    np.testing.assert_allclose(plain[:1_500], other[:1_500])
    assert not np.allclose(plain[1_500:], other[1_500:])


@pytest.mark.parametrize("factor", [1e-6, 1e3])
def test_the_unit_of_a_series_changes_no_strength(factor: float) -> None:
    values = noise(5)

    np.testing.assert_allclose(
        analyzers(labelled(factor * values)), analyzers(labelled(values)), rtol=1e-6
    )


def test_a_spike_is_told_at_once_and_a_daily_peak_is_not() -> None:
    values = noise(10)
    values[2_400] += 40

    found = analyzers(labelled(values))

    assert found[2_400] > 3
    assert found.argmax() == 2_400
    assert (np.delete(found, 2_400)[6 * 288 :] >= 1).sum() <= 2


def test_an_anomaly_is_told_once_a_week_unless_it_grows() -> None:
    day = 86_400 * np.arange(6)

    assert told_once(np.asarray([0.0, 2, 1, 2, 3, 0]), day).tolist() == [0, 2, 0, 0, 3, 0]
    assert told_once(np.asarray([2.0, 2]), np.asarray([0, 8 * 86_400])).tolist() == [2, 2]


def test_a_series_of_zeros_has_no_anomaly() -> None:
    assert analyzers(labelled(np.zeros(1_500))).max() == 0.0


def test_the_page_says_what_was_found() -> None:
    corpus = [labelled(noise(4), (900, 960)), labelled(noise(4, seed=2), name="h/b.csv")]
    report = compared(corpus, {"standard": STANDARD, "reward_low_FN_rate": LOW_FALSE_NEGATIVE})

    text = markdown(report)

    assert "| detector | standard | reward low FN rate |" in text
    assert f"{report.results[OURS].scores['standard'].value:.1f}" in text
    assert f"{report.results[RELEASED].alarms['h'].false_per_week:.2f}" in text
    assert len(checked(report)) == 2
    assert "2 series with 1 windows" in text


@pytest.mark.slow
def test_the_published_series_are_scored_above_a_windowed_gaussian(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    data = datasets("nab")
    report = compared(read_corpus(data), read_profiles(data))

    for name, result in report.results.items():
        record_property(name, result.scores["standard"].value)
    # Measured: 54.4, 52.3 with the analyzers' own limits, 38.0 and 42.9 for the Gaussians.
    assert all(gate.holds for gate in checked(report))
    assert report.results[OURS].scores["standard"].value > 50
    assert report.results[OURS].fixed["standard"] > 45
    page = tmp_path / "page.md"
    assert main(["--data", str(data), "--quick", "--write", str(page)]) == 0
    assert "Nothing is promised" in page.read_text(encoding="utf-8")
