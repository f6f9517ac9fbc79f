"""The benchmark's Kayenta, against every figure that Kayenta's own tests publish.

Source: spinnaker/kayenta a69573be (Apache-2.0), figures of its unit and integration tests; the
labelled cases are users' data in kayenta#426, #780, #799 and spinnaker#6278.
"""

import json
from collections import Counter
from math import nan
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bench.rollouts import kayenta
from bench.rollouts.kayenta import Classification, Label, Metric, Scoring, Settings
from bench.rollouts.mann_whitney import deviate, shift_interval
from datasets import datasets

TWO_ARMS = "MannWhitneyClassifier"


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    file = datasets("canary_vectors") / "canary_vectors" / "kayenta_vectors.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def settings(row: dict[str, Any]) -> Settings:
    params = row["params"] or {}
    allowed = params.get("effectSizeThresholds", {})
    critical = params.get("criticalThresholds", {})
    return Settings(
        tolerance=params.get("tolerance", kayenta.PRODUCTION.tolerance),
        confidence=params.get("confLevel", kayenta.PRODUCTION.confidence),
        direction=row.get("direction", "either"),
        nan=row.get("nanStrategy", "remove"),
        critical=row.get("isCriticalMetric", False),
        must_have_data=row.get("isDataRequired", False),
        measure=params.get("effectSizeMeasure", "meanRatio"),
        allowed_increase=allowed.get("allowedIncrease"),
        allowed_decrease=allowed.get("allowedDecrease"),
        critical_increase=critical.get("criticalIncrease"),
        critical_decrease=critical.get("criticalDecrease"),
    )


def said(row: dict[str, Any]) -> Classification:
    if row["classifier"] == TWO_ARMS:
        return kayenta.examine(row["control"], row["experiment"], settings(row))
    return Classification(label=kayenta.mean_inequality(row["control"], row["experiment"]))


def test_every_classifier_case_gets_kayentas_label(vectors: dict[str, Any]) -> None:
    rows = vectors["classifier_vectors"]["vectors"]

    wrong: dict[int, dict[str, object]] = {}
    for row in rows:
        found, expected = said(row), row["expected"]
        answer: dict[str, object] = {
            "classification": found.label.value,
            "critical": found.critical,
            "deviation": "NaN" if np.isnan(found.deviation) else found.deviation,
            "reasonNonEmpty": bool(found.reason),
        }
        differing = {
            name: (answer[name], value)
            for name, value in expected.items()
            if value is not None and answer[name] != value
        }
        wrong |= {row["id"]: differing} if differing else {}

    assert wrong == {}
    assert Counter(row["classifier"] for row in rows) == {
        TWO_ARMS: 31,
        "MeanInequalityClassifier": 3,
    }


def test_intervals_and_quantile_are_those_tied_out_to_r(vectors: dict[str, Any]) -> None:
    quantile, *intervals = vectors["mann_whitney_numeric_vectors"]["vectors"]

    assert stats.norm.ppf(quantile["p"]) == pytest.approx(quantile["expected"], abs=1e-6)
    assert len(intervals) == 2
    for row in intervals:
        shift = shift_interval(row["experiment"], row["control"], confidence=row["confLevel"])
        expected, tolerance = row["expected"], row["tol"]
        assert shift.lower == pytest.approx(expected["ciLow"], abs=tolerance["ci"])
        assert shift.upper == pytest.approx(expected["ciHigh"], abs=tolerance["ci"])
        assert shift.estimate == pytest.approx(expected["estimate"], abs=tolerance["estimate"])


def test_every_group_score_and_run_verdict_is_kayentas(vectors: dict[str, Any]) -> None:
    rows = vectors["scorer_vectors"]["vectors"]
    runs = vectors["aggregated_judgement_vectors"]["vectors"]

    for row in rows:
        metrics = [
            Metric(
                name=each["name"],
                groups=(each["group"],),
                found=Classification(
                    label=Label(each["classification"]), critical=each["critical"]
                ),
            )
            for each in row["metrics"]
        ]
        verdict = kayenta.judge(metrics, Scoring(weights=row["groupWeights"]))
        assert verdict.score == row["expected"]["summaryScore"], row["name"]
        assert verdict.groups == row["expected"].get("groupScores", verdict.groups), row["name"]
    for row in runs:
        scoring = Scoring(marginal=row["marginal"], passing=row["passThreshold"])
        assert kayenta.passes(row["final"], scoring) is row["didPass"], row
    assert (len(rows), len(runs)) == (13, 5)


def test_every_detector_case_names_the_same_outliers(vectors: dict[str, Any]) -> None:
    rows = vectors["detector_vectors"]["vectors"]

    for row in rows:
        if row["detector"] == "iqr":
            found = kayenta.iqr_outliers(row["data"], factor=row["factor"])
        else:
            found = kayenta.sigma_outliers(row["data"], k=row["k"])
        assert found.astype(int).tolist() == row["outlier"], row["name"]
    assert len(rows) == 5


def test_every_statistic_is_kayentas(vectors: dict[str, Any]) -> None:
    tables = vectors["statistic_vectors"]

    for row in tables["percentile_R7"]:
        assert np.percentile(row["data"], row["p"]) == pytest.approx(row["expected"], rel=1e-12)
    for row in tables["mean_ratio"]:
        ratio = kayenta.mean_ratio(row["control"], row["experiment"])
        expected = nan if row["expected"] == "NaN" else row["expected"]
        assert ratio == pytest.approx(expected, nan_ok=True)
    for row in tables["cohen_d"]:
        assert kayenta.cohens_d(row["a"], row["b"]) == pytest.approx(
            row["expected"], abs=row["tol"]
        )
    for row in tables["cles"]:
        assert kayenta.cles(row["control"], row["experiment"]) == row["expected"]
    sizes = [len(rows) for rows in tables.values() if isinstance(rows, list)]
    assert sum(sizes) == 10


def gauge(chance: np.random.Generator, bounds: list[int]) -> list[int]:
    """A minute of whole numbers in [lower, upper), one a second; a constant where they are equal.

    The draws are this test's own: upstream publishes the bounds alone.
    """
    lower, upper = bounds
    return [int(value) for value in chance.integers(lower, max(upper, lower + 1), 60)]


@pytest.mark.parametrize("seed", range(10))
def test_the_end_to_end_cases_end_as_published(vectors: dict[str, Any], seed: int) -> None:
    chance = np.random.default_rng(seed)
    scoring = Scoring(marginal=50.0, passing=75.0)
    increase = Settings(direction="increase", critical=True)

    for row in vectors["end_to_end_cases"]["vectors"]:
        control, experiment = (gauge(chance, row[arm]) for arm in ("control", "experiment"))
        found = kayenta.examine(control, experiment, increase)
        muted = row.get("muted", False)
        run = [Metric(name="cpu", groups=("integration",), found=found, muted=muted)]
        if muted:
            # The muted case is published with a second metric that is alike in both arms.
            same = gauge(chance, row["control"])
            alike = kayenta.examine(same, same, increase)
            run.append(Metric(name="successful", groups=("integration",), found=alike))
        verdict = kayenta.judge(run, scoring)

        expected = row["expected"]
        assert found.label.value == expected["classification"], row["name"]
        assert verdict.passed is (expected["executionStatus"] == "SUCCEEDED"), row["name"]
        assert verdict.score == expected.get("score", verdict.score), row["name"]


def test_labelled_cases_agree_with_kayenta_and_less_with_their_users(
    vectors: dict[str, Any],
) -> None:
    rows = vectors["user_labelled_vectors"]["vectors"]

    labels = [kayenta.classify(r["control"], r["experiment"], settings(r)).value for r in rows]
    reported = [
        label == row["kayenta_reported"]
        for label, row in zip(labels, rows, strict=True)
        if row["kayenta_reported"] is not None
    ]
    recomputed = [x == row["kayenta_recomputed"] for x, row in zip(labels, rows, strict=True)]
    wanted = [label in row["user_expected"] for label, row in zip(labels, rows, strict=True)]

    print(  # noqa: T201 - the two truths are reported apart
        f"kayenta reported {sum(reported)}/{len(reported)}, recomputed {sum(recomputed)}/"
        f"{len(recomputed)}, users' truth {sum(wanted)}/{len(wanted)}"
    )
    assert (sum(reported), len(reported)) == (4, 4)
    assert (sum(recomputed), len(recomputed)) == (5, 5)
    assert wanted == [False, False, True, False, True]


def test_the_interval_reported_by_a_user_is_found(vectors: dict[str, Any]) -> None:
    row = vectors["user_labelled_vectors"]["vectors"][1]
    reported = row["reported_numbers"]

    found = kayenta.examine(row["control"], row["experiment"], settings(row))
    shift = shift_interval(row["experiment"], row["control"], confidence=0.98)

    assert found.deviation == pytest.approx(reported["deviation"])
    assert shift.lower == pytest.approx(reported["ciLow"], abs=1e-6)
    assert shift.upper == pytest.approx(reported["ciHigh"], abs=1e-6)
    assert shift.estimate == pytest.approx(reported["estimate"], abs=1e-4)


def test_the_rank_deviate_is_that_of_scipys_test_with_ties() -> None:
    chance = np.random.default_rng(5)
    x, y = chance.poisson(3, 50), chance.poisson(4, 60)

    published = stats.mannwhitneyu(x, y, alternative="two-sided", method="asymptotic")

    assert 2 * stats.norm.sf(abs(deviate(x, y))) == pytest.approx(published.pvalue, rel=1e-12)


def test_swapping_the_arms_mirrors_the_interval() -> None:
    chance = np.random.default_rng(11)
    x, y = chance.gamma(2.0, 1.0, 80), chance.gamma(2.0, 1.2, 70)

    one, other = (shift_interval(*arms, confidence=0.9) for arms in ((x, y), (y, x)))

    assert (one.lower, one.upper) == pytest.approx((-other.upper, -other.lower), abs=2e-4)


def test_one_point_in_each_arm_is_an_error_and_not_a_label() -> None:
    assert kayenta.classify([0.0], [5.0]) is Label.ERROR


def test_missing_points_are_removed_or_become_zero_and_outliers_go() -> None:
    control, spiked = [1.0, 2.0, 3.0, 4.0, nan], [1.0, 2.0, 3.0, 4.0, nan]

    assert kayenta.examine(control, spiked).reason == "the arms' data are identical"
    shifted = [*([10.0] * 200), 9.0, 11.0, 1e6]
    kept = Settings(outlier_factor=None)
    removed = Settings(outlier_factor=3.0)
    deviations = [
        kayenta.examine([9.0, 10.0, 11.0], shifted, each).deviation for each in (kept, removed)
    ]
    assert deviations[0] > 100
    assert deviations[1] == pytest.approx(1.0, abs=0.01)
    assert (
        kayenta.classify([nan] * 5, [5.0, 6.0, 7.0, 8.0, 9.0], Settings(nan="replace"))
        is Label.HIGH
    )
