"""Discoveries over the hours, on a real ledger: an hour twice, a dry run, a run that died."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from optimizer.evidence import Impact, Proposal, ProposalId
from optimizer.loop.decide import Decided, gather, settle_proposals
from optimizer.ports import Json
from rides import Ride
from rollout_scene import HOUR, START, TARGET, acting

SECOND = "second/target"


@pytest.fixture
def ride(tmp_path: Path) -> Ride:
    """Two targets, each with an arm in force and one that may be proposed."""
    ride = Ride(tmp_path)
    target, policy = ride.given.targets[TARGET], ride.given.policies[TARGET]
    ride.given = replace(
        ride.given,
        targets={TARGET: target, SECOND: replace(target, name=SECOND)},
        policies={TARGET: policy, SECOND: policy},
        gateway_of={TARGET: "files", SECOND: "files"},
    )
    return ride


def proposals(hour: int, *p_values: float) -> list[Proposal]:
    """What a strategy that measured both targets proposes in one hour."""
    return [
        Proposal(
            id=ProposalId(f"p-{target}-{hour}"),
            strategy="cost_performance",
            target=target,
            candidate="small",
            rationale="half the cost at equal quality",
            expected=Impact(cost_reduction_pct=50.0, daily_saving_usd=10.0),
            p_value=p_value,
        )
        for target, p_value in zip((TARGET, SECOND), p_values, strict=True)
    ]


def decide(ride: Ride, hour: int, *p_values: float, dry_run: bool = False) -> Decided:
    now = START + hour * HOUR
    return settle_proposals(
        ride.given,
        gather(ride.given, as_of=now),
        proposals(hour, *p_values),
        acting=acting(now),
        dry_run=dry_run,
    )


def outcomes(ride: Ride, *, since: timedelta = timedelta(0)) -> dict[str, str]:
    found = ride.given.ledger.decisions.proposals(since=START + since)
    return {proposal.target: outcome for proposal, outcome, _ in found}


def kept(ride: Ride, hour: int) -> dict[str, Json] | None:
    """What the hour ended with, as the next one reads it."""
    found = ride.given.ledger.decisions.discoveries(before=START + (hour + 0.5) * HOUR)
    return None if found is None else dict(found)


def test_an_hour_that_runs_twice_tests_once_and_ends_the_same(ride: Ride) -> None:
    first = decide(ride, 0, 1e-6, 0.9)
    before = kept(ride, 0)

    again = decide(ride, 0, 1e-6, 0.9)

    assert (len(first.created), len(again.created)) == (1, 0)
    assert kept(ride, 0) == before is not None
    assert outcomes(ride) == {TARGET: "accepted", SECOND: "multiplicity"}
    assert again.plan.discoveries == first.plan.discoveries


def test_a_run_that_died_after_it_had_kept_what_it_tested_is_repeated(ride: Ride) -> None:
    whole = decide(ride, 0, 1e-6, 0.9, dry_run=True).plan
    assert whole.discoveries is not None
    ride.given.ledger.decisions.keep_discoveries(START, whole.discoveries.snapshot())

    repeated = decide(ride, 0, 1e-6, 0.9)

    assert repeated.plan == whole
    assert len(repeated.created) == 1


def test_the_next_hour_goes_on_where_the_last_one_ended(ride: Ride) -> None:
    decide(ride, 0, 1e-6, 0.9)

    after = decide(ride, 1, 1e-6, 1e-6).plan

    told = {proposal.target: outcome for proposal, outcome, _ in after.outcomes}
    # One is in flight, the other was tested an hour ago.
    assert told == {TARGET: "target_in_flight", SECOND: "multiplicity"}
    assert kept(ride, 1) == kept(ride, 0)
    assert decide(ride, 24, 0.5, 1e-6).created


def test_a_dry_run_keeps_nothing(ride: Ride) -> None:
    assert decide(ride, 0, 1e-6, 0.9, dry_run=True).plan.discoveries is not None

    assert kept(ride, 0) is None


def test_an_hour_that_runs_late_does_not_read_the_newer_ones(ride: Ride) -> None:
    decide(ride, 5, 0.9, 0.9)
    newer = kept(ride, 5)

    late = decide(ride, 0, 0.9, 0.9).plan

    assert late.discoveries is not None
    assert late.discoveries.sharing.tested == 2
    assert kept(ride, 5) == newer


def test_nothing_is_counted_where_the_operator_wants_it_so(ride: Ride) -> None:
    ride.given = replace(ride.given, false_discovery_rate=None)

    assert len(decide(ride, 0, 0.9, 0.9).created) == 2

    assert kept(ride, 0) is None
