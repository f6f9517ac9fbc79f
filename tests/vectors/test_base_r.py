"""Outputs of base R 4.2.2: two proportions, sample sizes, ranks and adjusted p-values."""

import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bench.rollouts.mann_whitney import deviate, shift_interval
from datasets import datasets
from optimizer.statistics.clusters import RatioEstimate, harm
from optimizer.statistics.multiplicity import e_benjamini_hochberg
from optimizer.statistics.planning import units_needed
from optimizer.statistics.sequential import mid_p_z

FOLDER = "ab_test_vectors"
Case = dict[str, Any]

TWO_SIDED_5 = 1.959963984540054
DECLARED = {
    "two_proportions: chisq_p, fisher_p": "counts are tested one-sided, exactly, with mid-p; "
    "doubled, it is near the first and below the second",
    "p.adjust BY, holm, hommel, bonferroni": "targets share a false discovery rate, on p-values by "
    "BatchBH or on e-values by e-BH; guardrails share alpha by plan",
}
OTHER_ADJUSTMENTS = {"BY", "holm", "hommel", "bonferroni"}


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    file = datasets(FOLDER) / FOLDER / "r_stats_reference.json"
    found: list[Case] = json.loads(file.read_text("utf-8"))["cases"]
    return found


def of(cases: list[Case], function: str, count: int) -> list[Case]:
    found = [case for case in cases if case["fn"].startswith(function)]
    assert len(found) == count
    return found


def test_every_output_is_compared_or_declared(cases: list[Case]) -> None:
    known = {"wilcox": 1, "two_proportions": 4, "power.prop": 4, "power.t": 4, "p.adjust": 5}

    assert sum(len(of(cases, function, count)) for function, count in known.items()) == len(cases)
    adjustments = {case["method"] for case in of(cases, "p.adjust", 5)}
    assert adjustments == OTHER_ADJUSTMENTS | {"BH"}
    assert len(DECLARED) == 2


def test_the_interval_of_two_proportions_agrees(cases: list[Case]) -> None:
    for case in of(cases, "two_proportions", 4):
        arms = []
        for at in ("1", "2"):
            n, p = case[f"n{at}"], case[f"x{at}"] / case[f"n{at}"]
            arms.append(
                RatioEstimate(
                    value=np.asarray(p),
                    variance=np.asarray(p * (1 - p) / n),
                    clusters=np.asarray(n, dtype=np.int64),
                )
            )

        found = harm(arms[0], arms[1], harm_sign=1)

        half = TWO_SIDED_5 * float(np.sqrt(found.variance))
        limits = [float(found.value) - half, float(found.value) + half]
        assert limits == pytest.approx(case["wald_ci_p1_minus_p2"], abs=1e-12)


def test_mid_p_of_two_proportions_is_near_chi_square_and_below_fisher(cases: list[Case]) -> None:
    for case in of(cases, "two_proportions", 4):
        z = float(mid_p_z(case["x1"], case["n1"], case["x2"], case["n2"]))

        p = 2 * float(stats.norm.sf(abs(z)))

        # The chi-square test is the limit for many failures; at 15 of 100 they are 9 % apart.
        assert p == pytest.approx(case["chisq_p"], rel=0.1)
        assert p < case["fisher_p"]


def test_units_for_a_difference_of_proportions_agree(cases: list[Case]) -> None:
    for case in of(cases, "power.prop.test", 4):
        p = np.array([case["p1"], case["p2"]])

        # R takes the pooled variance without a difference and the arms' own with one.
        gap = abs(case["p1"] - case["p2"])
        upper = units_needed(p.mean() * (1 - p.mean()), gap, bound=TWO_SIDED_5)
        lower = units_needed((p * (1 - p)).mean(), gap, bound=TWO_SIDED_5)

        assert float(lower) < case["n"] < float(upper)
        assert float(upper) == pytest.approx(case["n"], rel=5e-3)


def test_units_for_a_difference_of_means_agree(cases: list[Case]) -> None:
    for case in of(cases, "power.t.test", 4):
        found = float(units_needed(1.0, case["delta_over_sd"], bound=TWO_SIDED_5))

        # A t quantile instead of a normal one costs z^2 / 4 units, whatever the difference.
        assert case["n"] - found == pytest.approx(TWO_SIDED_5**2 / 4, abs=0.02)


def test_adjusted_p_values_say_what_e_bh_rejects(cases: list[Case]) -> None:
    held = {case["method"]: case for case in of(cases, "p.adjust", 5)}
    case = held["BH"]

    # With e = 1 / p, e-BH rejects at alpha what is adjusted to at most alpha.
    for alpha in (0.005, 0.02, 0.05, 0.09, 0.103, 0.15, 0.215, 0.22):
        found = e_benjamini_hochberg(-np.log(case["p"]), alpha=alpha)
        assert found.tolist() == [adjusted <= alpha for adjusted in case["adj"]]


def test_other_adjustments_never_reject_more(cases: list[Case]) -> None:
    held = {case["method"]: np.array(case["adj"]) for case in of(cases, "p.adjust", 5)}

    for method in sorted(OTHER_ADJUSTMENTS):
        assert np.all(held[method] >= held["BH"] - 1e-12)


def test_the_shift_of_ranks_agrees(cases: list[Case]) -> None:
    case = of(cases, "wilcox.test", 1)[0]

    found = shift_interval(case["x"], case["y"], confidence=0.95)

    assert [found.lower, found.upper] == pytest.approx(case["ci"], abs=1e-4)
    assert found.estimate == pytest.approx(case["estimate"], abs=1e-4)
    z = deviate(case["x"], case["y"])
    assert 2 * float(stats.norm.sf(abs(z))) == pytest.approx(case["p"], rel=1e-9)
