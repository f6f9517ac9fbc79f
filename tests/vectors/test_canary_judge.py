"""The judge, before the series on which other canary judges have published their word.

Sources: spinnaker/kayenta a69573be and pipe-cd/pipecd 7e228592 (both Apache-2.0), figures of their
tests, and users' labelled data. How points become requests: :mod:`canary_points`. High and Low
agree with proven harm, Pass with "no harm seen", Nodata with "no data". Where this judge decides
otherwise on purpose, :mod:`deviations` says why.
"""

import json
from typing import Any

import numpy as np
import pytest

from bench.rollouts.kayenta import Scoring, passes
from canary_points import NO_DATA, NO_HARM, WORSE, Quantity, Series, answer, grains, verdict
from datasets import datasets
from deviations import Tally, tally
from optimizer.aggregates import validate
from optimizer.evidence import Check, Outcome
from optimizer.judge.checks import combine

WORDS = {
    "High": WORSE,
    "Low": WORSE,
    "fail (High or Low)": WORSE,
    "Pass": NO_HARM,
    "Nodata": NO_DATA,
}
OUTCOMES = {
    "High": Outcome.FAIL,
    "Low": Outcome.FAIL,
    "Pass": Outcome.PASS,
    "Nodata": Outcome.NO_DATA,
}
INTEGRATION = Scoring(marginal=50.0, passing=75.0)
"""The thresholds of Kayenta's own integration tests; the scorer's cases name none."""


def read(name: str) -> dict[str, Any]:
    file = datasets("canary_vectors") / "canary_vectors" / name
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def kayenta() -> dict[str, Any]:
    return read("kayenta_vectors.json")


def series(row: dict[str, Any]) -> Series:
    """A classifier case: what may not fall is a score, all else an amount that may not rise.

    Kayenta's allowed ratio of means becomes the tolerance. Its critical flag has no use here, where
    every guardrail is; a threshold on its common language effect size has no counterpart, so that
    harm of any size counts.
    """
    params = row["params"] or {}
    falls = row.get("direction") == "decrease"
    allowed = params.get("effectSizeThresholds", {})
    ratio = allowed.get("allowedDecrease" if falls else "allowedIncrease", 1.0)
    tolerance = abs(ratio - 1.0) if params.get("effectSizeMeasure", "meanRatio") != "cles" else 0.0
    return Series(
        control=row["control"],
        canary=row["experiment"],
        metric="quality" if falls else "latency_ms",
        tolerance=tolerance or None,
    )


def test_every_classifier_case_is_judged_alike_or_declared(kayenta: dict[str, Any]) -> None:
    agrees: dict[str, bool | None] = {}
    harmful = 0
    for row in kayenta["classifier_vectors"]["vectors"]:
        label, given = row["expected"]["classification"], series(row)
        # One case asks only that missing data are explained.
        agreed = answer(given) == WORDS[label] if label else bool(verdict(given, 0).sentence)
        agrees[str(row["id"])] = agreed
        harmful += agreed and WORDS.get(label) == WORSE

    assert tally("kayenta/classifier", agrees) == Tally(agree=24, deviate=10, not_comparable=0)
    assert harmful == 10


def test_labelled_cases_are_judged_as_their_users_want_or_declared(
    kayenta: dict[str, Any],
) -> None:
    """Two of the five are counts of errors by their authors' words, and are judged as such."""
    agrees: dict[str, bool | None] = {}
    alike = 0
    for row in kayenta["user_labelled_vectors"]["vectors"]:
        given = series(row)
        if row["source"] in {"spinnaker/kayenta#426", "spinnaker/kayenta#799"}:
            given = Series(control=row["control"], canary=row["experiment"], metric="failure_rate")
        found = answer(given)
        agrees[row["title"]] = found == WORDS[row["user_expected"]]
        alike += found == WORDS[row["kayenta_recomputed"]]

    assert tally("users", agrees) == Tally(agree=1, deviate=4, not_comparable=0)
    assert alike == 4


def test_every_run_of_metrics_is_combined_alike_or_declared(kayenta: dict[str, Any]) -> None:
    agrees: dict[str, bool | None] = {}
    for row in kayenta["scorer_vectors"]["vectors"]:
        required = [
            Check(
                metric=each["name"],
                role="guardrail",
                outcome=OUTCOMES[each["classification"]],
            )
            for each in row["metrics"]
        ]
        outcome, _ = combine(required)
        passed = passes(row["expected"]["summaryScore"], INTEGRATION)
        agrees[row["name"]] = (outcome is Outcome.PASS) == passed
    runs = kayenta["aggregated_judgement_vectors"]["vectors"]

    assert tally("kayenta/scorer", agrees) == Tally(agree=11, deviate=2, not_comparable=0)
    beyond = tally("kayenta/run", {str(place): None for place in range(len(runs))})
    assert beyond == Tally(agree=0, deviate=0, not_comparable=5)


def test_the_end_to_end_cases_are_judged_alike(kayenta: dict[str, Any]) -> None:
    """Sixty whole numbers a case, drawn here: upstream publishes their bounds alone."""
    chance = np.random.default_rng(0)
    agrees: dict[str, bool | None] = {}
    for row in kayenta["end_to_end_cases"]["vectors"]:
        control, canary = (
            [float(value) for value in chance.integers(low, max(high, low + 1), 60)]
            for low, high in (row["control"], row["experiment"])
        )
        found = answer(Series(control=control, canary=canary))
        expected = WORDS[row["expected"]["classification"]]
        agrees[row["name"]] = None if row.get("muted") else found == expected

    counted = tally("kayenta/end to end", agrees)
    assert counted == Tally(agree=2, deviate=0, not_comparable=1)


def test_every_pipecd_case_is_judged_alike_or_declared() -> None:
    agrees: dict[str, bool | None] = {}
    for row in read("pipecd_vectors.json")["judge_vectors"]["vectors"]:
        falls = row["deviation"] == "LOW"
        given = Series(
            control=row["control"],
            canary=row["experiment"],
            metric="quality" if falls else "latency_ms",
        )
        expected = NO_HARM if row["acceptable"] else WORSE
        agrees[row["name"]] = answer(given) == (NO_DATA if row["error"] else expected)

    assert tally("pipecd", agrees) == Tally(agree=6, deviate=2, not_comparable=0)


@pytest.mark.parametrize("metric", ["latency_ms", "quality", "failure_rate"])
def test_points_become_grains_that_an_engine_could_have_made(metric: Quantity) -> None:
    given = Series(control=[1.0, 2.0, 3.0], canary=[4.0, 0.0, 2.0], metric=metric)

    frame, unit = grains(given, np.random.default_rng(3))

    validate(frame)
    assert unit > 0
    assert frame.groupby("slice")["n"].sum().tolist() == [300, 300]


def test_the_requests_of_a_point_have_its_mean() -> None:
    given = Series(control=[1.0, 2.0, 3.0], canary=[4.0, 5.0, 3.0])

    frame, unit = grains(given, np.random.default_rng(3))

    means = frame["latency_us"] / frame["n_latency"] / 1e3
    assert unit == pytest.approx(1_000.0)
    assert (means / means[0]).tolist() == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0, 3.0], rel=1e-5)
