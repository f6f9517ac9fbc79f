"""What the bench of deciding measures is what an hour decides."""

from dataclasses import replace

import pytest

from bench.deciding import BUDGET_S, KINDS, TARGETS, Measured, gate, markdown, measure, scene
from optimizer import wiring

SMALL = 60


@pytest.fixture(scope="module")
def found() -> Measured:
    return measure(scene(SMALL), 1)


def test_every_analyzer_and_strategy_is_in_the_sum(found: Measured) -> None:
    stages = [f"analyzer {name}" for name in wiring.ANALYZERS]
    stages += [f"strategy {name}" for name in wiring.STRATEGIES]

    assert list(found.seconds) == [*stages, "arbitration"]
    assert found.rows == SMALL * (168 + 24 * (len(KINDS) - 1))


def test_what_is_decided_on_has_work_for_all(found: Measured) -> None:
    assert found.insights > 0
    assert SMALL / 2 < found.proposals == sum(found.outcomes.values())
    assert found.outcomes["accepted"] == found.decisions > 0


def test_the_same_scene_is_decided_alike(found: Measured) -> None:
    again = measure(scene(SMALL), 1)

    assert replace(again, seconds=found.seconds) == found


@pytest.mark.parametrize("targets", [TARGETS, TARGETS // 10])
def test_the_gate_holds_up_to_the_time_that_so_many_targets_may_take(
    found: Measured, targets: int
) -> None:
    allowed_s = BUDGET_S * targets / TARGETS

    assert gate(replace(found, seconds={"all": allowed_s}), targets)[0]
    holds, says = gate(replace(found, seconds={"all": 1.01 * allowed_s}), targets)
    assert not holds
    assert says.startswith(f"- broken: deciding for {targets:,} targets")


def test_the_section_names_the_command_that_made_it(found: Measured) -> None:
    text = markdown(found, targets=SMALL, repeats=1)

    assert "`python -m bench deciding --targets 60 --repeats 1`" in text
