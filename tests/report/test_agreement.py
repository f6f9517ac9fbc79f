"""Ledger against log: equal sums agree, any difference is named."""

import numpy as np
import pandas as pd
import pytest

from optimizer.report import disagreements

LOG = pd.DataFrame(
    {
        "ts_s": [10.0, 200.0, 310.0, 700.0],
        "target": ["bot"] * 4,
        "arm": ["large", "small", "large", "large"],
        "slice": ["baseline", "canary", "baseline", "baseline"],
        "status": ["ok", "429", "ok", "ok"],
        "cost_usd": [0.002, 0.0, 0.004, 0.008],
        "score": [0.5, np.nan, 0.75, 1.0],
    }
)
GRAINS = pd.DataFrame(
    {
        "target": ["bot"] * 3,
        "arm": ["large", "small", "large"],
        "slice": ["baseline", "canary", "baseline"],
        "window_start_s": [0, 0, 300],
        "n": [1, 1, 1],
        "n_failed": [0, 1, 0],
        "cost_nusd": [2_000_000, 0, 4_000_000],
        "n_quality": [1, 0, 1],
        "quality_e6": [500_000, 0, 750_000],
    }
)


def test_equal_sums_agree_and_open_windows_are_left_out() -> None:
    assert disagreements(LOG, GRAINS, start_s=0, end_s=600) == ()


@pytest.mark.parametrize("column", ["n", "n_failed", "cost_nusd", "n_quality", "quality_e6"])
def test_one_unit_of_difference_is_named(column: str) -> None:
    changed = GRAINS.assign(**{column: GRAINS[column] + [0, 1, 0]})

    (found,) = disagreements(LOG, changed, start_s=0, end_s=600)

    assert (found.arm, found.slice, found.column) == ("small", "canary", column)
    assert found.ledger == found.log + 1


def test_rows_that_only_one_side_has_are_named() -> None:
    found = disagreements(LOG, GRAINS[GRAINS["arm"] == "large"], start_s=0, end_s=600)

    assert {(item.arm, item.column, item.ledger, item.log) for item in found} == {
        ("small", "n", 0, 1),
        ("small", "n_failed", 0, 1),
    }
