"""A step that was begun and could not be finished meets a world that has gone on."""

from dataclasses import replace
from pathlib import Path

import pytest

from optimizer.allocation import SliceName
from optimizer.decision import State
from optimizer.errors import UnavailableError
from optimizer.evidence import DecisionId
from optimizer.loop.steps import end_now
from optimizer.targets import Arm, ModelConfig
from rides import Ride
from rollout_scene import HOUR, START, TARGET, acting, put, traffic

HARM = {"small": 0.3, "large": 0.8}


def begun(ride: Ride, place: str, hours: float) -> DecisionId:
    """A decision whose next step was written down while the gateway stayed away."""
    decision = ride.to(place)
    ride.gateway.away = {"apply"}
    with pytest.raises(UnavailableError):
        ride.step(decision, START + hours * HOUR, aligned=False)
    assert len(ride.given.ledger.effects.open_intents(TARGET)) == 1
    ride.gateway.away = set()
    return decision


def share(ride: Ride, name: SliceName) -> float:
    held = ride.gateway.read(TARGET)
    assert held is not None
    return held.share(name)


@pytest.mark.parametrize("guard_only", [True, False])
def test_a_promotion_that_was_begun_before_harm_was_seen_is_rolled_back(
    tmp_path: Path, *, guard_only: bool
) -> None:
    ride = Ride(tmp_path)
    decision = begun(ride, "second_stage", 3)
    put(ride.given, traffic(START + 3 * HOUR, START + 6 * HOUR, quality=HARM))

    found = ride.step(decision, START + 6 * HOUR, guard_only=guard_only)

    assert found.decision.state is State.ROLLED_BACK
    assert share(ride, SliceName.CANARY) == 0


def test_a_promotion_that_was_begun_is_finished_where_no_harm_was_seen(tmp_path: Path) -> None:
    ride = Ride(tmp_path)
    decision = begun(ride, "second_stage", 3)

    ride.step(decision, START + 4 * HOUR)

    assert ride.given.ledger.decisions.get(decision).state is State.DEPLOYED


def test_a_settlement_that_was_begun_before_harm_was_seen_is_rolled_back(tmp_path: Path) -> None:
    ride = Ride(tmp_path)
    decision = begun(ride, "monitoring", 6)
    put(ride.given, traffic(START + 3 * HOUR, START + 9 * HOUR, quality=HARM))

    found = ride.step(decision, START + 9 * HOUR)

    assert found.decision.state is State.ROLLED_BACK
    assert ride.given.baseline_arm(TARGET) == "large"


@pytest.mark.parametrize(("place", "hours"), [("second_stage", 3), ("monitoring", 6)])
def test_a_roll_back_by_hand_takes_the_place_of_a_step_that_was_begun(
    tmp_path: Path, place: str, hours: float
) -> None:
    ride = Ride(tmp_path)
    decision = begun(ride, place, hours)
    who = acting(START + (hours + 1) * HOUR, "by-hand")

    after = end_now(ride.given, decision, "not this one", acting=who)
    ride.align(START + (hours + 2) * HOUR)

    assert after.state is State.ROLLED_BACK
    assert ride.given.baseline_arm(TARGET) == "large"
    assert share(ride, SliceName.CANARY) == 0
    assert ride.given.ledger.effects.open_intents(TARGET) == []


@pytest.mark.parametrize("arm", ["small", "large"])
def test_an_arm_that_was_changed_in_mid_rollout_voids_the_evidence(
    tmp_path: Path, arm: str
) -> None:
    ride = Ride(tmp_path)
    decision = ride.to("second_stage")
    target = ride.given.targets[TARGET]
    changed = Arm(name=arm, config=ModelConfig(model="another-1", prompt_version="9"))
    arms = tuple(changed if each.name == arm else each for each in target.arms)
    ride.given = replace(ride.given, targets={TARGET: replace(target, arms=arms)})

    found = ride.step(decision, START + 3 * HOUR)

    assert found.decision.state is State.ROLLED_BACK
    assert "changed in mid-rollout" in found.decision.reason
