"""Telling: what changed, why, how sure, and how to undo it; and never at the cost of the loop."""

from dataclasses import replace
from pathlib import Path

import pytest

from faulty import Broken, Listener
from optimizer.decision import State
from optimizer.errors import UnavailableError
from optimizer.evidence import Outcome, Reason
from optimizer.loop.evaluate import assess, record_looks
from optimizer.loop.tell import Message, message_of, page_of, tell
from optimizer.rollout import Move, Step
from rides import BAD, Ride, after
from rollout_scene import TARGET, acting, put, traffic


@pytest.fixture
def ride(tmp_path: Path) -> Ride:
    return Ride(tmp_path)


def message(
    ride: Ride, place: str, hours: float, quality: dict[str, float] | None = None
) -> object:
    """What is told of the step that is due then."""
    found = ride.step(ride.to(place, quality), after(hours))
    return message_of(found.decision, found.step, found.verdict)


@pytest.mark.parametrize(
    "error", [UnavailableError("away"), ValueError("a bug"), OSError("no route")]
)
def test_a_notifier_that_fails_never_stops_the_others(ride: Ride, error: Exception) -> None:
    listener = Listener()
    given = replace(ride.given, notifiers=(Broken(error), listener, Broken(error)))

    tell(given, Message(title="t", body="b", severity="info", decision_id=None))

    assert listener.told == [("info", "t", "b")]


def test_nothing_is_told_of_nothing(ride: Ride) -> None:
    tell(ride.given, None)

    assert ride.listener.told == []


def test_a_promotion_is_told_with_its_evidence_and_how_to_undo_it(ride: Ride) -> None:
    found = message(ride, "second_stage", 3)

    assert isinstance(found, Message)
    assert found.severity == "info"
    assert found.title == f"{TARGET}: deployed (large -> small)"
    assert "Evidence: " in found.body
    assert f"Undo: llmopt rollback {found.decision_id} --reason" in found.body


def test_a_rollback_is_told_with_the_metric_and_without_an_undo(ride: Ride) -> None:
    found = message(ride, "canary", 1.5, BAD)

    assert isinstance(found, Message)
    assert (found.severity, found.title) == ("error", f"{TARGET}: rolled_back (large -> small)")
    assert "quality" in found.body
    assert "Undo" not in found.body


@pytest.mark.parametrize(("place", "hours"), [("canary", 0.5), ("canary", 1.5), ("deployed", 4.5)])
def test_holds_and_what_lies_between_are_not_told(ride: Ride, place: str, hours: float) -> None:
    assert message(ride, place, hours) is None


def test_a_stage_that_ended_in_a_rollback_is_told_all_the_same(ride: Ride) -> None:
    decision = ride.to("canary")
    ride.gateway.alter = lambda _: None

    found = ride.step(decision, after(1.5), aligned=False)

    told = message_of(found.decision, found.step, found.verdict)
    assert found.step.move is Move.ADVANCE
    assert told is not None
    assert (told.severity, found.decision.state) == ("critical", State.ROLLING_BACK)


def test_a_rollback_that_a_later_run_finished_is_told(ride: Ride) -> None:
    decision = ride.to("canary", BAD)
    ride.gateway.away = {"read"}
    with pytest.raises(UnavailableError):
        ride.step(decision, after(1.5), aligned=False)
    ride.gateway.away = set()

    found = ride.step(decision, after(1.6), aligned=False)

    assert (found.step.move, found.decision.state) == (Move.ROLL_BACK, State.ROLLED_BACK)
    assert message_of(found.decision, found.step, found.verdict) is not None


def test_every_final_state_has_a_message(ride: Ride) -> None:
    decision = ride.get(ride.to("canary"))
    step = Step(move=Move.CANCEL, to=State.CANCELLED, stage=0, reason="why")

    for state in State:
        told = message_of(replace(decision, state=state), step, None)
        assert told is not None
        assert state.value in told.title
        assert "why" in told.body


def sick(ride: Ride) -> None:
    """Control fails far beyond the safety limit from now on."""
    failing = {"small": 0.4, "large": 0.4}
    put(
        ride.given,
        traffic(after(0), after(3), quality={"small": 0.8, "large": 0.8}, failures=failing),
    )


def test_a_sick_control_pages_once_and_nothing_is_moved(ride: Ride) -> None:
    decision = ride.to("canary")
    sick(ride)
    before = ride.held()
    for number, hours in enumerate((1.5, 1.6, 1.7)):
        who = acting(after(hours), f"look-{number}")
        found = assess(ride.given, acting=who, as_of=who.now)
        assert found[0].verdict is not None
        assert found[0].verdict.reason is Reason.CONTROL_SICK
        assert not found[0].is_due
        record_looks(ride.given, found, acting=who)
        record_looks(ride.given, found, acting=who)

    assert [title for _, title, _ in ride.listener.told] == [
        f"{TARGET}: the control itself is sick, nothing is moved"
    ]
    assert ride.listener.told[0][0] == "critical"
    assert ride.held() == before
    assert len(ride.given.ledger.decisions.looks(decision)) == 3


def test_evidence_that_cannot_be_used_is_not_called_a_sick_control(ride: Ride) -> None:
    decision = ride.to("canary")
    (found,) = assess(ride.given, acting=acting(after(1), "look"), as_of=after(1))
    assert found.verdict is not None
    unusable = replace(
        found.verdict, outcome=Outcome.INCONCLUSIVE, reason=Reason.NON_FINITE, page=True
    )

    told = page_of(ride.get(decision), unusable)

    assert told.title == f"{TARGET}: the evidence cannot be used, a person must look"
    assert told.severity == "critical"


def test_the_step_that_was_taken_leaves_the_look_it_rests_on(ride: Ride) -> None:
    decision = ride.to("second_stage")

    ride.step(decision, after(3))

    looks = ride.given.ledger.decisions.looks(decision)
    assert looks[-1].move == "promote"
    assert looks[-1].at == after(3)
