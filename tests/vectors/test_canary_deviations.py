"""The ledger of deviations keeps its own law: nothing undeclared, nothing declared in vain."""

import re

import pytest

from deviations import DEVIATIONS, NOT_COMPARABLE, Tally, tally

KEPT = {
    "canary happy path (stepWeight 100, stepWeightPromotion 50)": False,
    "new revision during analysis resets": None,
    "primary not ready while Promoting: keep canary": None,
    "primary fails after traffic moved (Finalising): move back to canary": None,
}


def test_a_table_whose_rows_are_all_declared_is_counted() -> None:
    assert tally("flagger", KEPT) == Tally(agree=0, deviate=1, not_comparable=3)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"another": False}, "differ and are not declared"),
        ({next(iter(KEPT)): True}, "are declared and do not differ"),
        ({"another": None}, "have no counterpart and no reason"),
        ({"new revision during analysis resets": True}, "are excused and compared"),
    ],
)
def test_a_wrong_declaration_fails(changed: dict[str, bool | None], problem: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(problem)):
        tally("flagger", KEPT | changed)


def test_a_declared_row_that_is_gone_fails() -> None:
    with pytest.raises(AssertionError, match="are declared and do not differ"):
        tally("flagger", {name: agreed for name, agreed in KEPT.items() if agreed is None})


def test_no_row_is_both_declared_and_excused_by_name() -> None:
    assert not set(DEVIATIONS) & set(NOT_COMPARABLE)
    assert all(DEVIATIONS.values())
    assert all(NOT_COMPARABLE.values())
