"""Targets and arms that leave the configuration in mid-rollout: no canary stays unwatched."""

from dataclasses import replace
from pathlib import Path

import pytest

from optimizer.decision import State
from optimizer.errors import DataError, UnavailableError
from optimizer.loop.evaluate import assess
from optimizer.loop.steps import end_now
from rides import Ride, after
from rollout_scene import TARGET, acting, file_gateway

LEAVERS = {
    "target": lambda ride: ride.without_target(),
    "candidate": lambda ride: ride.without_arm("small"),
    "baseline": lambda ride: ride.without_arm("large"),
}


@pytest.fixture
def ride(tmp_path: Path) -> Ride:
    return Ride(tmp_path)


@pytest.mark.parametrize("leaver", LEAVERS)
def test_what_had_not_started_has_failed_validation(ride: Ride, leaver: str) -> None:
    decision = ride.to("validating")
    LEAVERS[leaver](ride)

    found = ride.step(decision, after(0.1), aligned=False)

    assert found.decision.state is State.VALIDATION_FAILED
    assert "left the configuration" in found.decision.reason


def test_a_question_about_a_target_that_left_is_cancelled(ride: Ride) -> None:
    ride.policy(approval=replace(ride.given.policies[TARGET].approval, required=True))
    decision = ride.to("validating")
    assert ride.get(decision).state is State.AWAITING_APPROVAL
    ride.without_target()

    assert ride.step(decision, after(0.1)).decision.state is State.CANCELLED


@pytest.mark.parametrize("place", ["canary", "deployed", "monitoring"])
@pytest.mark.parametrize("leaver", LEAVERS)
def test_what_holds_traffic_is_reported_and_rolled_back(
    ride: Ride, leaver: str, place: str
) -> None:
    decision = ride.to(place)
    LEAVERS[leaver](ride)

    orphans = [f for f in ride.findings(after(5)) if f.kind == "orphaned"]
    found = ride.step(decision, after(5), guard_only=True)

    assert [f.target for f in orphans] == [TARGET]
    assert decision in orphans[0].detail
    assert found.decision.state is State.ROLLED_BACK
    assert "left the configuration" in found.decision.reason
    assert ride.shares() == {"baseline": 1.0}
    assert ride.held().baseline == "large"
    assert b"large-1" in next((ride.directory / "allocations").glob("*.json")).read_bytes()


def test_a_disabled_arm_is_taken_off_traffic(ride: Ride) -> None:
    decision = ride.to("canary")
    target = ride.given.targets[TARGET]
    arms = tuple(replace(arm, enabled=arm.name != "small") for arm in target.arms)
    ride.given = replace(ride.given, targets={TARGET: replace(target, arms=arms)})

    found = ride.step(decision, after(0.1))

    assert found.decision.state is State.ROLLED_BACK
    assert "disabled" in found.decision.reason


def test_the_canary_is_kept_fresh_until_it_is_rolled_back(ride: Ride) -> None:
    ride.to("canary")
    shares = ride.shares()
    ride.without_arm("small")

    assert ride.align(after(0.1)) == ["orphaned"]

    assert ride.shares() == shares


def test_a_person_can_roll_back_a_target_that_left(ride: Ride) -> None:
    decision = ride.to("canary")
    ride.without_target()

    found = end_now(ride.given, decision, "gone", acting=acting(after(1), "hand"))

    assert (found.state, found.reason) == (State.ROLLED_BACK, "gone")
    assert ride.shares() == {"baseline": 1.0}


def test_the_gateway_that_holds_a_target_is_found_among_several(ride: Ride) -> None:
    decision = ride.to("canary")
    ride.without_target()
    other = file_gateway(ride.directory / "other", after(0))
    ride.given = replace(ride.given, gateways={"other": other, "files": ride.gateway})

    ride.step(decision, after(1))

    assert ride.shares() == {"baseline": 1.0}


def test_without_a_gateway_the_rollback_is_told_and_open(ride: Ride) -> None:
    decision = ride.to("canary")
    ride.without_target()
    ride.given = replace(ride.given, gateways={})

    with pytest.raises(DataError, match="no gateway holds it"):
        ride.step(decision, after(1))

    assert not ride.get(decision).state.is_final
    assert [severity for severity, *_ in ride.listener.told] == ["critical"]


def test_a_stage_that_a_dead_run_began_is_not_carried_on_without_its_arm(ride: Ride) -> None:
    decision = ride.to("canary")
    ride.gateway.away = {"apply"}
    with pytest.raises(UnavailableError):
        ride.step(decision, after(1.5), aligned=False)
    ride.gateway.away = set()
    ride.without_arm("small")

    assert ride.align(after(1.6)) == ["withheld", "orphaned"]
    assert ride.shares()["canary"] == 0.1
    ride.step(decision, after(1.7))

    assert ride.get(decision).state is State.ROLLED_BACK
    assert ride.align(after(1.8)) == ["resumed"]  # the stage's intent is closed unused
    assert ride.shares() == {"baseline": 1.0}
    assert ride.given.ledger.effects.open_intents() == []


def test_the_guard_leaves_what_holds_no_traffic_to_the_hourly_run(ride: Ride) -> None:
    decision = ride.to("validating")
    ride.without_target()

    (found,) = assess(ride.given, acting=acting(after(1), "guard"), as_of=after(1), guard_only=True)

    assert not found.is_due
    assert ride.get(decision).state is State.VALIDATING
