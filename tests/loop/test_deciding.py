"""Deciding: one hour twice, or broken off in the middle, decides the same once."""

from pathlib import Path

import pytest

from optimizer.cycle import events_for
from optimizer.evidence import Impact, Proposal, ProposalId
from optimizer.loop.decide import gather, settle_proposals
from rides import Ride
from rollout_scene import START, TARGET, acting

PROPOSAL = Proposal(
    id=ProposalId("p-1"),
    strategy="cost_performance",
    target=TARGET,
    candidate="small",
    rationale="half the cost at equal quality",
    expected=Impact(cost_reduction_pct=50.0, daily_saving_usd=10.0, confidence=0.9),
)


@pytest.fixture
def ride(tmp_path: Path) -> Ride:
    return Ride(tmp_path)


def decide(ride: Ride, *, dry_run: bool = False) -> int:
    """One try of the hour; how many decisions it made."""
    scene = gather(ride.given, as_of=START)
    decided = settle_proposals(ride.given, scene, [PROPOSAL], acting=acting(START), dry_run=dry_run)
    return len(decided.created)


def outcomes(ride: Ride) -> list[str]:
    return [outcome for _, outcome, _ in ride.given.ledger.decisions.proposals(since=START)]


def test_the_same_hour_twice_decides_once(ride: Ride) -> None:
    assert [decide(ride), decide(ride)] == [1, 0]

    assert len(ride.given.ledger.decisions.find()) == 1
    assert outcomes(ride) == ["accepted"]


def test_a_run_that_died_before_it_kept_its_proposals_is_repeated_to_the_same_end(
    ride: Ride,
) -> None:
    scene = gather(ride.given, as_of=START)
    plan = settle_proposals(ride.given, scene, [PROPOSAL], acting=acting(START), dry_run=True).plan
    (decision,) = plan.decisions
    ride.given.ledger.decisions.create(decision, events_for(decision))

    assert decide(ride) == 0

    assert outcomes(ride) == ["accepted"]


def test_a_dry_run_leaves_nothing(ride: Ride) -> None:
    assert decide(ride, dry_run=True) == 0

    assert ride.given.ledger.decisions.find() == []
    assert outcomes(ride) == []


def test_a_pause_of_all_pauses_every_target(ride: Ride) -> None:
    ride.given.ledger.effects.pause(None, at=START, actor="ann", reason="incident")

    assert decide(ride) == 0
    assert outcomes(ride) == ["paused"]
