"""R's onlineFDR 2.19.1 on two series of p-values (15 and 200), levels and decisions of 48 cases.

20 cases are ruled on by the project's own procedures. 24 belong to methods that the library has and
the project does not use; they are run on the library alone, which ties its constants and recursions
to R's. 4 are declared. BatchBH in R is BatchBH in the library, not its BatchBHOfficial.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from online_fdr.p_values import (
    Addis,
    AlphaSpending,
    BatchStoreyBH,
    Lond,
    LordThree,
    Saffron,
)
from online_fdr.p_values.spending.functions.lord_three import LordThree as LordThreeSpending

from datasets import datasets
from optimizer.statistics.multiplicity import Method, Procedure, e_benjamini_hochberg, start

FOLDER = "ab_test_vectors"
Case = dict[str, Any]

PROCEDURES: dict[str, Callable[[float], Procedure]] = {
    # R starts LORD++ with a tenth of alpha.
    "LORD++": lambda alpha: start(Method.LORD_PLUS_PLUS, alpha=alpha, start_wealth=0.1),
    "BatchBH": lambda alpha: start(Method.BATCH_BH, alpha=alpha),
    "BatchPRDS": lambda alpha: start(Method.BATCH_PRDS, alpha=alpha),
    # With e = 1 / p, e-LOND is LOND: the same levels and the same decisions.
    "LOND": lambda alpha: start(Method.E_LOND, alpha=alpha),
}
UNUSED: dict[str, Callable[[float, int], Any]] = {
    "LORD3": lambda alpha, _: LordThree(alpha, alpha / 10, 0.9 * alpha),
    "SAFFRON": lambda alpha, _: Saffron(alpha, alpha / 2, 0.5),
    "ADDIS": lambda alpha, _: Addis(alpha, alpha / 2, 0.25, 0.5),
    "LOND_dep": lambda alpha, _: Lond(alpha, dependent=True),
    "AlphaSpending": lambda alpha, n: AlphaSpending(alpha, LordThreeSpending(n)),
    "BatchStBH": lambda alpha, _: BatchStoreyBH(alpha, 0.5),
}
# One batch without a successor; with e = 1 / p, e-BH is Benjamini and Hochberg's rule.
ONE_BATCH = "BH_offline"
DECLARED = {"BY_offline": "under unknown dependence e-values decide, by e-BH; there is no BY"}


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    file = datasets(FOLDER) / FOLDER / "online_fdr_reference.json"
    found: list[Case] = json.loads(file.read_text("utf-8"))["cases"]
    return found


def of(cases: list[Case], method: str) -> list[Case]:
    found = [case for case in cases if case["method"] == method]
    assert len(found) == 4
    return found


def batches(case: Case) -> list[list[float]]:
    size = case.get("batch_size", len(case["p"]))
    return [case["p"][first : first + size] for first in range(0, len(case["p"]), size)]


def test_every_case_is_ruled_on_or_declared(cases: list[Case]) -> None:
    known = {*PROCEDURES, *UNUSED, ONE_BATCH, *DECLARED}

    assert {case["method"] for case in cases} == known
    assert len(cases) == 48


@pytest.mark.parametrize("method", list(PROCEDURES))
def test_a_procedure_agrees_with_r(method: str, cases: list[Case]) -> None:
    for case in of(cases, method):
        procedure, rejected, level = PROCEDURES[method](case["alpha"]), [], []
        for p in batches(case):
            if procedure.method is Method.E_LOND:
                ruling = procedure.test_log_e_values(-np.log(p))
            else:
                ruling = procedure.test_p_values(p)
            procedure = ruling.after
            rejected += ruling.rejected.tolist()
            level += ruling.level.tolist()

        assert rejected == [bool(one) for one in case["R"]]
        assert level == pytest.approx(case["alphai"], rel=1e-12)


@pytest.mark.parametrize("method", list(UNUSED))
def test_a_method_of_the_library_alone_agrees_with_r(method: str, cases: list[Case]) -> None:
    for case in of(cases, method):
        held, rejected, level = UNUSED[method](case["alpha"], len(case["p"])), [], []
        for p in batches(case):
            if method.startswith("Batch"):
                found = held.test_batch_detail(p)
                rejected += list(found.rejected)
                level += [found.test_level] * len(p)
            else:
                single = [held.test_one_detail(value) for value in p]
                rejected += [one.rejected for one in single]
                level += [one.test_level for one in single]

        assert rejected == [bool(one) for one in case["R"]]
        assert level == pytest.approx(case["alphai"], rel=1e-12)


def test_one_batch_of_e_values_agrees_with_r(cases: list[Case]) -> None:
    for case in of(cases, ONE_BATCH):
        found = e_benjamini_hochberg(-np.log(case["p"]), alpha=case["alpha"])

        assert found.tolist() == [bool(one) for one in case["R"]]
