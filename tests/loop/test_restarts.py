"""Evidence from before a model changed behind its name does not count."""

from pathlib import Path

import pytest

from optimizer.decision import Decision, State
from optimizer.evidence import Looks, Spent
from optimizer.judge import Case
from optimizer.loop.restarts import TRANSITION, restart_evidence
from rides import Ride, after
from rollout_scene import START, TARGET, acting


@pytest.fixture
def ride(tmp_path: Path) -> Ride:
    return Ride(tmp_path)


def canary(ride: Ride) -> Decision:
    decision = ride.to("validating")
    ride.step(decision, START)
    return ride.get(decision)


@pytest.mark.parametrize("arm", ["candidate", "baseline"])
def test_a_change_of_either_arm_restarts_the_evidence_once(ride: Ride, arm: str) -> None:
    before = canary(ride)
    changed = {(TARGET, getattr(before, arm)): after(2)}

    first = restart_evidence(ride.given, changed, acting=acting(after(4)))
    again = restart_evidence(ride.given, changed, acting=acting(after(5)))

    now = ride.get(before.id)
    assert first == (before.id,)
    assert again == ()
    assert now.evidence_from == after(2) + TRANSITION
    assert (now.state, now.stage, now.stage_entered_at) == (
        State.DEPLOYING,
        before.stage,
        before.stage_entered_at,
    )
    notes = [e for e in ride.given.ledger.decisions.events(before.id) if e.kind == "note"]
    assert "no longer counts" in notes[-1].reason


def test_a_change_before_the_canary_began_changes_nothing(ride: Ride) -> None:
    before = canary(ride)
    assert before.evidence_from is not None
    long_ago = before.evidence_from - TRANSITION

    found = restart_evidence(
        ride.given, {(TARGET, before.candidate): long_ago}, acting=acting(after(1))
    )

    assert found == ()
    assert ride.get(before.id) == before


def test_arms_that_serve_no_canary_restart_nothing(ride: Ride) -> None:
    before = canary(ride)
    changed = {(TARGET, "another"): after(2), ("other/target", before.candidate): after(2)}

    assert restart_evidence(ride.given, changed, acting=acting(after(4))) == ()
    assert ride.get(before.id) == before


def test_what_was_spent_on_void_evidence_is_void(ride: Ride) -> None:
    decision = canary(ride)
    assert decision.evidence_from is not None
    looks = Looks(fractions=(0.1,), until=after(6), spent=0.001)
    given = Spent(metric="failure_rate", role="guardrail", since=decision.evidence_from, harm=looks)

    def spent() -> Looks:
        case = Case(
            decision=ride.get(decision.id), policy=ride.given.policies[TARGET], spent=(given,)
        )
        found = case.spent_by_check.get(("failure_rate", "guardrail"))
        return Looks() if found is None else found.harm

    assert spent() == looks
    # Found hours later, when looks at both versions of the model had been taken.
    restart_evidence(ride.given, {(TARGET, decision.candidate): after(2)}, acting=acting(after(7)))
    assert spent() == Looks()
