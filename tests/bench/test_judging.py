"""What the bench of many rollouts measures is what the judge says of them."""

from dataclasses import replace

import pytest

from bench.judging import TARGET_S, TARGETS, Measured, gate, markdown, measure
from optimizer.evidence import Outcome

SMALL = 60


@pytest.fixture(scope="module")
def found() -> Measured:
    return measure(SMALL, 3, repeats=1)


def test_harmful_canaries_are_among_the_rollouts_and_the_rest_is_judged(found: Measured) -> None:
    assert found.rows == 5 * 3 * SMALL
    assert found.rows_of_rollouts == 2 * 3 * SMALL
    assert sum(found.outcomes.values()) == SMALL
    # Targets 0, 1, 50 and 51 fail twice as often; a few others seem to.
    assert 4 <= found.outcomes[Outcome.FAIL] <= 4 + 0.05 * SMALL
    assert found.outcomes[Outcome.NO_DATA] == 0


@pytest.mark.parametrize("targets", [TARGETS, TARGETS // 10])
def test_the_gate_holds_up_to_the_time_that_so_many_rollouts_may_take(
    found: Measured, targets: int
) -> None:
    allowed_s = TARGET_S * targets / TARGETS

    assert gate(replace(found, total_s=allowed_s), targets)[0]
    holds, says = gate(replace(found, total_s=1.01 * allowed_s), targets)
    assert not holds
    assert says.startswith(f"broken: {targets:,} rollouts")


def test_the_section_names_the_command_that_made_it(found: Measured) -> None:
    text = markdown([found], targets=SMALL, repeats=1)

    assert "`python -m bench judging --targets 60 --repeats 1`" in text
    assert f"| {SMALL} | 3 | {found.rows} | {found.rows_of_rollouts} |" in text
