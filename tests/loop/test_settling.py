"""Settling: what a promotion really did is stored, and what it cost is charged once."""

from pathlib import Path

import pandas as pd
import pytest

from optimizer.decision import State
from optimizer.errors import UnavailableError
from optimizer.evidence import DecisionId
from optimizer.judge import Case
from rides import Ride, after
from rollout_scene import START, TARGET, propose, put, traffic

WORSE = {"small": 0.78, "large": 0.8}
KEY = (TARGET, "quality")


@pytest.fixture
def ride(tmp_path: Path) -> Ride:
    return Ride(tmp_path)


def remaining(ride: Ride, decision: DecisionId) -> float:
    policy = ride.given.policies[TARGET]
    case = Case(
        decision=ride.get(decision),
        policy=policy,
        anchors=ride.given.ledger.decisions.anchors(),
    )
    return case.remaining(policy.guardrails[0])


def test_the_realised_impact_is_stored_beside_the_expected_one(ride: Ride) -> None:
    found = ride.get(ride.to("completed"))

    assert found.state is State.COMPLETED
    assert found.actual is not None
    assert found.expected.cost_reduction_pct == 50.0
    assert found.actual.cost_reduction_pct == pytest.approx(50.0, abs=2.0)
    assert found.actual.method == "concurrent holdback"
    assert ride.shares() == {"baseline": 1.0}
    assert ride.given.baseline_arms() == {TARGET: "small"}


def test_what_a_promotion_lost_is_taken_from_the_margin_of_the_next(ride: Ride) -> None:
    decision = ride.to("monitoring", WORSE)
    before = remaining(ride, decision)

    ride.step(decision, after(6))

    anchor = ride.given.ledger.decisions.anchors()[KEY]
    assert (anchor.promotions, anchor.reference_arm) == (1, "large")
    assert anchor.harm == pytest.approx(0.02, abs=0.01)
    assert before == 0.05
    assert remaining(ride, decision) < 0.05 - anchor.harm


@pytest.mark.parametrize("call", ["apply", "read"])
def test_a_settlement_that_is_taken_up_again_charges_once(ride: Ride, call: str) -> None:
    decision = ride.to("monitoring", WORSE)
    ride.gateway.away = {call}
    for hours in (6, 6.1):
        with pytest.raises(UnavailableError):
            ride.step(decision, after(hours), aligned=False)
    assert ride.given.ledger.decisions.anchors() == {}  # it has not been promoted for good yet

    ride.gateway.away = set()
    ride.step(decision, after(6.2))
    ride.step(decision, after(6.3))

    found = ride.get(decision)
    assert (found.state, found.actual is None) == (State.COMPLETED, False)
    assert ride.given.ledger.decisions.anchors()[KEY].promotions == 1


def test_a_promotion_rolled_back_in_the_middle_of_its_settlement_costs_nothing(ride: Ride) -> None:
    decision = ride.to("monitoring", WORSE)
    ride.gateway.alter = lambda _: None
    ride.step(decision, after(6), aligned=False)
    ride.gateway.alter = lambda allocation: allocation
    ride.step(decision, after(6.1))

    assert ride.get(decision).state is State.ROLLED_BACK
    assert ride.given.ledger.decisions.anchors() == {}
    assert ride.given.baseline_arms() == {TARGET: "large"}


def test_a_holdback_too_small_to_tell_is_charged_what_was_estimated_at_promotion(
    ride: Ride,
) -> None:
    ride.align()
    decision = propose(ride.given, START).id
    put(
        ride.given,
        pd.concat(
            [
                traffic(START, after(3), quality=WORSE),
                traffic(after(3), after(10), quality=WORSE, rows=1),
            ],
            ignore_index=True,
        ),
    )
    for hours in (0, 1.5, 3, 4.5, 6):
        ride.step(decision, after(hours))

    assert ride.get(decision).state is State.COMPLETED
    looks = ride.given.ledger.decisions.looks(decision)
    (promoted,) = [look for look in looks if look.move == "promote"]
    (check,) = [each for each in promoted.verdict.checks if each.metric == "quality"]
    assert ride.given.ledger.decisions.anchors()[KEY].harm == check.harm
