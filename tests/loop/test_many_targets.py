"""Many targets: what is wrong with one never touches the others."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from optimizer.cycle import events_for
from optimizer.evidence import DecisionId, Outcome
from optimizer.loop.evaluate import assess
from optimizer.rollout import Move
from rides import GOOD, Ride, after
from rollout_scene import START, TARGET, acting, propose, put, traffic

OTHER = "other/target"


@pytest.fixture
def ride(tmp_path: Path) -> Ride:
    """Two targets, each with a canary that is ready for its next stage."""
    ride = Ride(tmp_path)
    target, policy = ride.given.targets[TARGET], ride.given.policies[TARGET]
    ride.given = replace(
        ride.given,
        targets={OTHER: replace(target, name=OTHER), TARGET: target},
        policies={OTHER: policy, TARGET: policy},
        gateway_of={OTHER: "files", TARGET: "files"},
    )
    ride.align()
    first = propose(ride.given, START)
    second = replace(first, id=DecisionId("d-other"), target=OTHER, salt="other")
    ride.given.ledger.decisions.create(second, events_for(second))
    own = traffic(START, after(2), quality=GOOD)
    put(ride.given, pd.concat([own.assign(target=OTHER), own], ignore_index=True))
    for decision in (first, second):
        ride.step(decision.id, START)
    return ride


def looked(ride: Ride) -> dict[str, tuple[Move, Outcome | None]]:
    found = assess(ride.given, acting=acting(after(1.5), "look"), as_of=after(1.5))
    return {
        item.decision.target: (
            item.step.move,
            None if item.verdict is None else item.verdict.outcome,
        )
        for item in found
    }


def test_every_target_is_judged_by_its_own_data(ride: Ride) -> None:
    assert looked(ride) == {
        OTHER: (Move.ADVANCE, Outcome.PASS),
        TARGET: (Move.ADVANCE, Outcome.PASS),
    }


@pytest.mark.parametrize("column", ["histogram", "clusters"])
def test_a_target_whose_evidence_is_damaged_is_held_and_the_others_go_on(
    ride: Ride, column: str
) -> None:
    with sqlite3.connect(ride.directory / "ledger.db") as connection:
        changed = connection.execute(
            f"UPDATE aggregates SET {column} = x'00ff' WHERE target = ?",  # noqa: S608 - literals
            (OTHER,),
        )
        assert changed.rowcount > 0

    found = looked(ride)

    assert found[TARGET] == (Move.ADVANCE, Outcome.PASS)
    assert found[OTHER][0] is Move.HOLD
    assert found[OTHER][1] in {None, Outcome.INCONCLUSIVE}


def test_a_pause_of_one_lets_the_others_go_on(ride: Ride) -> None:
    ride.given.ledger.effects.pause(OTHER, at=START, actor="ann", reason="deploy")

    moves = {target: move for target, (move, _) in looked(ride).items()}

    assert moves == {OTHER: Move.HOLD, TARGET: Move.ADVANCE}
