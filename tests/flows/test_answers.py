"""What people do by hand: roll back, approve, reject, or let the question lapse."""

from pathlib import Path

import pytest

from flow_scene import LIMITS, Installation, following, installed
from optimizer.decision import State
from optimizer.errors import ConfigError
from rollout_scene import HOUR, START, TARGET, propose, put

pytestmark = pytest.mark.usefixtures("prefect_harness", "closed_afterwards")

ASKING = f"""{LIMITS}
  approval: {{required: true, expires_after: 12h}}
"""
PROMOTED = {
    State.DEPLOYING: (0.0,),
    State.DEPLOYED: (0.0, 1.5, 3.0),
    State.MONITORING: (0.0, 1.5, 3.0, 4.5),
}


def brought_to(place: Path, state: State) -> tuple[Installation, str, float]:
    """A decision on its way, taken there by ``rollout`` runs alone, and the hour it got there."""
    given = installed(place)
    given.guard(START)
    decision = propose(given.equipment, START).id
    put(given.equipment, following())
    for hours in PROMOTED[state]:
        given.rollout(decision, START + hours * HOUR)
    assert given.decision(decision).state is state
    return given, decision, hours


@pytest.mark.parametrize(
    ("state", "by"),
    [
        (State.DEPLOYING, "target"),
        (State.DEPLOYED, "decision_id"),
        pytest.param(State.MONITORING, "decision_id", marks=pytest.mark.slow),
        pytest.param(State.DEPLOYED, "target", marks=pytest.mark.slow),
    ],
)
def test_a_rollback_by_hand_restores_the_snapshot_also_while_paused(
    tmp_path: Path, state: State, by: str
) -> None:
    given, decision, hours = brought_to(tmp_path, state)
    given.equipment.ledger.effects.pause(None, at=START, actor="ada", reason="audit")
    moment = START + hours * HOUR + 0.1 * HOUR

    result = given.rollback(moment, **{by: decision if by == "decision_id" else TARGET})

    assert result == {"decision": decision, "target": TARGET, "state": "rolled_back"}
    assert given.shares() == {"large": 1.0}
    assert given.transitions(decision)[-2:] == ["rolling_back", "rolled_back"]
    assert given.equipment.ledger.effects.baselines() == {}
    last = given.messages()[-1]
    assert (last["severity"], last["decision_id"]) == ("error", decision)
    assert f"{TARGET}: rolled_back (large -> small)" in last["title"]
    assert "customers complain" in last["body"]


def test_a_rollback_that_is_asked_for_again_changes_and_tells_nothing(tmp_path: Path) -> None:
    given, decision, _ = brought_to(tmp_path, State.DEPLOYING)
    given.rollback(START + HOUR, decision_id=decision)
    before, told = given.decision(decision), len(given.messages())

    again = given.rollback(START + 2 * HOUR, decision_id=decision)

    assert again["state"] == "rolled_back"
    assert given.decision(decision) == before
    assert len(given.messages()) == told
    with pytest.raises(ConfigError, match="nothing is in flight"):
        given.rollback(START + 2 * HOUR, target=TARGET)
    with pytest.raises(ConfigError, match="name a decision"):
        given.rollback(START + 2 * HOUR)


def asked(place: Path) -> tuple[Installation, str]:
    """A decision that waits for a person since the start."""
    given = installed(place, limits=ASKING)
    given.guard(START)
    decision = propose(given.equipment, START).id
    given.optimize(START)
    assert given.decision(decision).state is State.AWAITING_APPROVAL
    return given, decision


def test_an_approved_change_starts_at_once_and_not_before(tmp_path: Path) -> None:
    given, decision = asked(tmp_path)
    assert given.optimize(START + HOUR)["started"] == {}
    assert given.shares() == {"large": 1.0}

    result = given.approve(decision, START + 2 * HOUR, "approve")

    assert result["state"] == "deploying"
    assert given.decision(decision).approved_by == "ada"
    assert given.shares() == {"small": 0.1, "large": 0.9}
    log = given.equipment.ledger.decisions.events(given.decision(decision).id)
    assert ("approval", "ada") in {(entry.kind, entry.actor) for entry in log}


@pytest.mark.slow
def test_a_rejected_change_is_cancelled_and_needs_a_reason(tmp_path: Path) -> None:
    given, decision = asked(tmp_path)
    with pytest.raises(ConfigError, match="needs a reason"):
        given.approve(decision, START + HOUR, "reject")

    result = given.approve(decision, START + HOUR, "reject", reason="not before the holidays")

    assert result["state"] == "cancelled"
    assert "not before the holidays" in given.messages()[-1]["body"]
    with pytest.raises(ConfigError, match="does not wait for approval"):
        given.approve(decision, START + HOUR, "approve")


@pytest.mark.slow
def test_a_question_that_nobody_answers_lapses(tmp_path: Path) -> None:
    given, decision = asked(tmp_path)

    result = given.optimize(START + 13 * HOUR)

    assert result["started"] == {decision: "cancelled"}
    assert "expired" in given.decision(decision).reason
    assert given.shares() == {"large": 1.0}
