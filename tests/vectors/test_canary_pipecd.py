"""PipeCD's rank test, against scipy and the benchmark's own rendering.

Source: pipe-cd/pipecd 7e228592 (Apache-2.0), mannwhitney_test.go and metrics_analyzer_test.go; its
test derives from golang/perf (BSD-3-Clause), whose large cases are tied out to R. The two cases
with ties are marked unchecked upstream; here an exact permutation test confirms them.
"""

import json
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from bench.rollouts.mann_whitney import deviate
from datasets import datasets

Alternative = Literal["less", "two-sided", "greater"]
Floats = npt.NDArray[np.float64]

ALTERNATIVES: dict[str, Alternative] = {
    "p_less": "less",
    "p_two": "two-sided",
    "p_greater": "greater",
}
ALPHA = 0.05
EXACT_UP_TO = 5
"""Points an arm of the small published samples; all their 252 splits are counted."""


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    file = datasets("canary_vectors") / "canary_vectors" / "pipecd_vectors.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def arms(row: dict[str, Any]) -> tuple[Floats, Floats]:
    if "x_gen" not in row:
        return np.array(row["x"], dtype=float), np.array(row["y"], dtype=float)
    assert (row["x_gen"], row["y_gen"]) == ("2*i for i in 0..499", "2*i-41 for i in 0..599")
    x, y = (np.arange(size, dtype=np.float64) for size in (500, 600))
    return 2.0 * x, 2.0 * y - 41.0


def chance(x: Floats, y: Floats, alternative: Alternative) -> tuple[float, float]:
    """U and its p-value: exact for small samples, with ties as well, else the normal's."""
    small = max(x.size, y.size) <= EXACT_UP_TO
    if small:
        # More resamples than there are splits: every split is counted once, nothing is drawn.
        every = stats.PermutationMethod(n_resamples=1_000)
        found = stats.mannwhitneyu(x, y, alternative=alternative, method=every)
    else:
        found = stats.mannwhitneyu(x, y, alternative=alternative, method="asymptotic")
    return float(found.statistic), float(found.pvalue)


def test_every_published_triple_is_scipys(vectors: dict[str, Any]) -> None:
    rows = vectors["u_test_vectors"]["vectors"]

    for row in rows:
        for name, alternative in ALTERNATIVES.items():
            u, p = chance(*arms(row), alternative)
            assert u == row["U"]
            assert p == pytest.approx(row[name], rel=1e-6), (row["U"], name)
    assert (len(rows), sum("ties" in row for row in rows)) == (6, 2)


def test_the_large_triple_is_that_of_the_benchmarks_deviate(vectors: dict[str, Any]) -> None:
    row = vectors["u_test_vectors"]["vectors"][-1]

    z = deviate(*arms(row))

    assert stats.norm.cdf(z) == pytest.approx(row["p_less"], rel=1e-9)
    assert 2 * stats.norm.cdf(z) == pytest.approx(row["p_two"], rel=1e-9)


def test_the_base_rule_follows_from_the_rank_test(vectors: dict[str, Any]) -> None:
    """Acceptable iff p > .05 or the change goes the wanted way; both arms empty are acceptable."""
    rows = vectors["judge_vectors"]["vectors"]

    for row in rows:
        x, y = np.array(row["experiment"]), np.array(row["control"])
        if min(x.size, y.size) == 0:
            assert (row["acceptable"], row["error"]) == (x.size == y.size, x.size != y.size)
            continue
        _, p = chance(x, y, "two-sided")
        wanted = {"HIGH": x.mean() <= y.mean(), "LOW": x.mean() >= y.mean(), "EITHER": False}
        assert row["acceptable"] is bool(p > ALPHA or wanted[row["deviation"]]), row["name"]
    assert len(rows) == 8
