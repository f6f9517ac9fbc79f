"""Rules of Kayenta that its documents state and its published figures do not reach.

Source: spinnaker/kayenta a69573be, docs/canary-config.md and the scorer at half without data.
"""

import numpy as np
import pytest

from bench.rollouts import kayenta
from bench.rollouts.kayenta import Classification, Label, Metric, Scoring, Settings

LOW_POINTS, HIGH_POINTS = [1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 2.4]


def run(*labels: Label, muted: bool = False) -> list[Metric]:
    return [
        Metric(
            name=str(place),
            groups=("all",),
            found=Classification(label=label),
            muted=muted and place > 0,
        )
        for place, label in enumerate(labels)
    ]


def test_half_the_metrics_without_data_are_too_many() -> None:
    half = kayenta.judge(run(Label.PASS, Label.NODATA))
    third = kayenta.judge(run(Label.PASS, Label.PASS, Label.NODATA))

    assert (half.score, third.score) == (0.0, 100.0)
    assert half.reason == "too many metrics without data"


def test_muted_metrics_are_not_scored() -> None:
    metrics = run(Label.PASS, Label.HIGH, muted=True)

    assert kayenta.judge(metrics).score == 100.0


def test_a_run_fails_at_the_marginal_score_and_passes_at_the_passing_one() -> None:
    scoring = Scoring(marginal=50.0, passing=75.0)

    assert not kayenta.passes(50.0, Scoring(marginal=50.0))
    assert kayenta.passes(75.0, scoring)
    assert not kayenta.passes(74.9, scoring)


@pytest.mark.parametrize(
    ("critical", "label", "fails_run"),
    [(False, Label.NODATA_FAIL_METRIC, False), (True, Label.NODATA, True)],
)
def test_required_data_that_are_missing_fail_the_metric_or_the_run(
    *, critical: bool, label: Label, fails_run: bool
) -> None:
    found = kayenta.examine([1.0, 2.0], [], Settings(must_have_data=True, critical=critical))

    assert (found.label, found.critical) == (label, fails_run)
    metric = Metric(name="cpu", groups=("all",), found=found)
    assert kayenta.judge([metric, *run(Label.PASS, Label.PASS)]).score == (
        0.0 if critical else 66.67
    )


def test_a_fall_is_critical_only_beyond_its_own_threshold() -> None:
    ratio = kayenta.mean_ratio(HIGH_POINTS, LOW_POINTS)

    found = [
        kayenta.examine(
            HIGH_POINTS, LOW_POINTS, Settings(critical=True, critical_decrease=threshold)
        )
        for threshold in (ratio + 0.01, ratio - 0.01)
    ]

    assert [each.label for each in found] == [Label.LOW, Label.LOW]
    assert [each.critical for each in found] == [True, False]


def test_the_common_language_effect_is_neutral_at_one_half() -> None:
    chance = np.random.default_rng(2)
    control, experiment = chance.normal(10.0, 1.0, 200), chance.normal(11.0, 1.0, 200)
    assert 0.5 < kayenta.cles(control, experiment) < 1.0

    found = kayenta.classify(control, experiment, Settings(measure="cles"))

    assert found is Label.HIGH


def test_only_points_beyond_the_first_and_last_percentile_are_removed() -> None:
    data = [*([10.0] * 196), 12.0, 12.0, 12.0, 12.0]

    usual = kayenta.iqr_outliers(data, factor=3.0)
    judges = kayenta.iqr_outliers(data, factor=3.0, reduced_sensitivity=True)

    assert (usual.sum(), judges.sum()) == (4, 0)
