"""What an operator says holds at once: pauses, answers, freezes."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from optimizer.decision import Decision, State
from optimizer.errors import ConfigError, UnavailableError
from optimizer.evidence import DecisionId
from optimizer.loop.approval import answer
from optimizer.loop.steps import end_now
from optimizer.policy import Freeze
from rides import BAD, Ride, after
from rollout_scene import START, TARGET, acting


@pytest.fixture
def ride(tmp_path: Path) -> Ride:
    return Ride(tmp_path)


def pause(ride: Ride, target: str | None) -> None:
    ride.given.ledger.effects.pause(target, at=START, actor="ann", reason="deploy")


def unpause(ride: Ride, target: str | None) -> None:
    ride.given.ledger.effects.resume(target, at=START, actor="ann", reason="done")


@pytest.mark.parametrize("target", [TARGET, None])
@pytest.mark.parametrize(
    ("place", "hours"), [("validating", 0.0), ("canary", 1.5), ("monitoring", 7.0)]
)
def test_a_pause_stops_starts_stages_and_settlements_until_it_is_taken_back(
    ride: Ride, target: str | None, place: str, hours: float
) -> None:
    decision = ride.to(place)
    before = ride.get(decision)
    pause(ride, target)

    held = ride.step(decision, after(hours))
    unpause(ride, target)
    moved = ride.step(decision, after(hours))

    assert (held.is_due, held.decision) == (False, before)
    assert "paused" in held.step.reason
    assert moved.is_due


def test_a_pause_of_another_target_stops_nothing(ride: Ride) -> None:
    decision = ride.to("canary")
    pause(ride, "other")

    assert ride.step(decision, after(1.5)).decision.stage == 1


def test_harm_is_rolled_back_while_paused(ride: Ride) -> None:
    decision = ride.to("canary", BAD)
    pause(ride, None)

    assert ride.step(decision, after(1.5)).decision.state is State.ROLLED_BACK


def test_a_person_rolls_back_while_paused(ride: Ride) -> None:
    decision = ride.to("canary")
    pause(ride, None)

    found = end_now(ride.given, decision, "no", acting=acting(after(1), "hand"), cancel=True)

    assert (found.state, found.reason) == (State.CANCELLED, "no")
    assert ride.shares() == {"baseline": 1.0}


def paused_after_a_run_died(ride: Ride, place: str, hours: float) -> DecisionId:
    """A run began a step and died before anything was applied; then somebody pauses."""
    decision = ride.to(place)
    ride.gateway.away = {"apply"}
    with pytest.raises(UnavailableError):
        ride.step(decision, after(hours), aligned=False)
    ride.gateway.away = set()
    pause(ride, TARGET)
    return decision


@pytest.mark.parametrize(("place", "hours"), [("validating", 0.0), ("canary", 1.5)])
def test_a_step_that_a_dead_run_began_waits_for_the_end_of_the_pause(
    ride: Ride, place: str, hours: float
) -> None:
    decision = paused_after_a_run_died(ride, place, hours)
    shares = ride.shares()

    assert ride.align(after(hours + 0.2)) == ["withheld"]
    assert not ride.step(decision, after(hours + 0.3)).is_due
    assert ride.shares() == shares
    unpause(ride, TARGET)
    ride.step(decision, after(hours + 0.4))

    assert ride.shares() != shares
    assert ride.given.ledger.effects.open_intents() == []


def test_a_paused_step_never_keeps_harm_from_being_rolled_back(ride: Ride) -> None:
    decision = paused_after_a_run_died(ride, "canary", 1.5)
    found = end_now(ride.given, decision, "now", acting=acting(after(2), "hand"))

    assert found.state is State.ROLLED_BACK
    assert ride.align(after(2.5)) == ["resumed"]
    assert ride.shares() == {"baseline": 1.0}
    assert ride.given.ledger.effects.open_intents() == []


def test_a_step_that_reached_the_gateway_before_the_pause_is_recorded(ride: Ride) -> None:
    decision = ride.to("canary")
    original = ride.gateway.read

    def dying(target: str) -> None:
        original(target)
        msg = "the run died"
        raise UnavailableError(msg)

    ride.gateway.read = dying  # type: ignore[method-assign]
    with pytest.raises(UnavailableError):
        ride.step(decision, after(1.5), aligned=False)
    ride.gateway.read = original  # type: ignore[method-assign]
    pause(ride, TARGET)

    assert ride.align(after(1.6)) == ["resumed"]

    assert ride.get(decision).stage == 1


def test_a_freeze_withholds_what_a_dead_run_began(ride: Ride) -> None:
    decision = paused_after_a_run_died(ride, "canary", 1.5)
    unpause(ride, TARGET)
    ride.policy(freezes=(Freeze(start=after(1.6), end=after(3), reason="sale"),))

    assert ride.align(after(2)) == ["withheld"]
    assert ride.align(after(3)) == ["resumed"]
    assert ride.get(decision).stage == 1


@pytest.fixture
def asked(ride: Ride) -> Decision:
    """A decision that waits for a person."""
    required = replace(ride.given.policies[TARGET].approval, required=True)
    ride.policy(approval=required)
    return ride.get(ride.to("validating"))


def reply(ride: Ride, asked: Decision, hours: float, *, agreed: bool, reason: str = "") -> Decision:
    ride.runs += 1
    now = after(hours)
    who = replace(acting(now, f"run-{ride.runs}"), actor="ann")
    return answer(ride.given, asked.id, agreed=agreed, reason=reason, acting=who, as_of=now)


def test_an_approval_starts_the_rollout_at_once(ride: Ride, asked: Decision) -> None:
    found = reply(ride, asked, 1, agreed=True, reason="looks good")

    assert (found.state, found.stage, found.approved_by) == (State.DEPLOYING, 0, "ann")
    assert ride.shares()["canary"] == 0.1
    kinds = [(e.kind, e.actor) for e in ride.given.ledger.decisions.events(asked.id)]
    assert ("approval", "ann") in kinds


def test_a_rejection_cancels_and_needs_a_reason(ride: Ride, asked: Decision) -> None:
    with pytest.raises(ConfigError, match="needs a reason"):
        reply(ride, asked, 1, agreed=False, reason=" ")

    found = reply(ride, asked, 1, agreed=False, reason="not now")

    assert (found.state, found.reason) == (State.CANCELLED, "rejected: not now")
    with pytest.raises(ConfigError, match="does not wait"):
        reply(ride, asked, 2, agreed=True)


def test_a_question_that_nobody_answers_is_cancelled(ride: Ride, asked: Decision) -> None:
    assert not ride.step(asked.id, after(24)).is_due

    found = ride.step(asked.id, after(24) + timedelta(seconds=1)).decision

    assert (found.state, found.reason) == (State.CANCELLED, "the approval expired")


def test_an_approval_that_comes_too_late_is_refused(ride: Ride, asked: Decision) -> None:
    with pytest.raises(ConfigError, match="was open until"):
        reply(ride, asked, 25, agreed=True)

    assert ride.get(asked.id).approved_by is None


def test_a_second_approval_is_refused_and_names_the_first(ride: Ride, asked: Decision) -> None:
    pause(ride, TARGET)
    assert reply(ride, asked, 1, agreed=True).state is State.AWAITING_APPROVAL

    with pytest.raises(ConfigError, match="approved by ann already"):
        reply(ride, asked, 1.1, agreed=True)
    unpause(ride, TARGET)
    started = ride.step(asked.id, after(2)).decision

    assert started.state is State.DEPLOYING
    with pytest.raises(ConfigError, match="does not wait"):
        reply(ride, asked, 3, agreed=True)


def test_an_approval_can_be_taken_back_before_it_is_used(ride: Ride, asked: Decision) -> None:
    pause(ride, TARGET)
    reply(ride, asked, 1, agreed=True)

    assert reply(ride, asked, 1.1, agreed=False, reason="on second thought").state is (
        State.CANCELLED
    )
