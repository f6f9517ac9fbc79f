"""Effects: nothing lost, nothing twice, whatever the gateway answers and whoever wakes up late."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from optimizer.allocation import Allocation, whole
from optimizer.decision import State
from optimizer.errors import ConflictError, DataError, UnavailableError
from optimizer.loop.act import resume
from optimizer.loop.steps import end_now, tick
from rides import BAD, Ride, after
from rollout_scene import START, TARGET, acting


@pytest.fixture
def ride(tmp_path: Path) -> Ride:
    return Ride(tmp_path)


@pytest.fixture
def shared(tmp_path: Path, database_url: str) -> Iterator[Ride]:
    """The same on each supported database."""
    ride = Ride(tmp_path, url=database_url)
    yield ride
    ride.given.ledger.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("call", ["apply", "read"])
def test_a_gateway_that_stays_away_leaves_an_intent_that_the_next_run_finishes(
    ride: Ride, call: str
) -> None:
    decision = ride.to("canary")
    ride.gateway.away = {call}
    with pytest.raises(UnavailableError):
        ride.step(decision, after(1.5), aligned=False)
    assert len(ride.given.ledger.effects.open_intents()) == 1
    assert ride.get(decision).stage == 0

    ride.gateway.away = set()
    ride.step(decision, after(1.6))

    assert ride.given.ledger.effects.open_intents() == []
    found = ride.get(decision)
    assert (found.stage, found.stage_entered_at) == (1, after(1.6))
    assert ride.shares() == {"canary": 0.5, "control": 0.5}


def test_a_start_that_changed_nothing_has_failed_to_deploy(ride: Ride) -> None:
    decision = ride.to("validating")
    ride.gateway.alter = lambda _: None

    ride.step(decision, START, aligned=False)

    found = ride.get(decision)
    assert found.state is State.DEPLOYMENT_FAILED
    assert "another split" in found.reason


def test_a_start_that_cannot_be_published_has_failed_to_deploy(ride: Ride) -> None:
    decision = ride.to("validating")
    small = ride.given.targets[TARGET].arm("small")
    broken = replace(small, config=replace(small.config, params={"x": float("nan")}))
    arms = (ride.given.targets[TARGET].arm("large"), broken)
    edited = replace(ride.given.targets[TARGET], arms=arms)
    ride.given = replace(ride.given, targets={TARGET: edited})

    ride.step(decision, START, aligned=False)

    assert ride.get(decision).state is State.DEPLOYMENT_FAILED
    assert ride.shares() == {"baseline": 1.0}


def test_a_start_that_took_hold_in_part_is_rolled_back(ride: Ride) -> None:
    decision = ride.to("validating")
    ride.gateway.alter = lambda wanted: replace(wanted, salt="another")

    ride.step(decision, START, aligned=False)
    assert ride.get(decision).state is State.ROLLING_BACK

    ride.gateway.alter = lambda allocation: allocation
    ride.step(decision, after(0.1))

    assert ride.get(decision).state is State.ROLLED_BACK
    assert ride.shares() == {"baseline": 1.0}


def test_a_stage_that_is_not_proven_is_rolled_back(ride: Ride) -> None:
    decision = ride.to("canary")
    ride.gateway.alter = lambda _: None

    ride.step(decision, after(1.5), aligned=False)

    found = ride.get(decision)
    assert (found.state, found.abort_to) == (State.ROLLING_BACK, State.ROLLED_BACK)
    assert ride.align(after(1.6)) == []  # the stage that was not proven is not pushed again


def test_a_rollback_is_tried_under_new_generations_until_it_is_proven(ride: Ride) -> None:
    decision = ride.to("canary", BAD)
    ride.gateway.alter = lambda _: None
    for hours in (1.5, 1.6, 1.7):
        with pytest.raises(UnavailableError, match="not proven"):
            ride.step(decision, after(hours))
        assert ride.get(decision).state is State.ROLLING_BACK
    stuck = ride.get(decision).generation

    ride.gateway.alter = lambda allocation: allocation
    ride.step(decision, after(1.8))

    found = ride.get(decision)
    assert (found.state, found.generation) == (State.ROLLED_BACK, stuck + 1)
    assert ride.shares() == {"baseline": 1.0}
    pages = [title for severity, title, _ in ride.listener.told if severity == "critical"]
    assert pages == [f"{TARGET}: the roll-back of small is not done"]


def test_a_rollback_gets_above_a_generation_that_was_raised_by_hand(ride: Ride) -> None:
    decision = ride.to("canary", BAD)
    held = ride.held()
    ride.gateway.inner.apply(
        whole(TARGET, "small", generation=held.generation + 40), arms=ride.given.arms_of(TARGET)
    )
    with pytest.raises(UnavailableError, match="older"):
        ride.step(decision, after(1.5), aligned=False)

    ride.step(decision, after(1.6), aligned=False)

    assert ride.get(decision).state is State.ROLLED_BACK
    assert (ride.held().baseline, ride.held().generation) == ("large", held.generation + 41)


def test_a_rollback_that_gets_no_answer_is_told_once(ride: Ride) -> None:
    decision = ride.to("canary", BAD)
    ride.gateway.away = {"apply"}
    for hours in (1.5, 1.6):
        with pytest.raises(UnavailableError):
            ride.step(decision, after(hours), aligned=False)

    assert len(ride.listener.told) == 1
    severity, _, body = ride.listener.told[0]
    assert severity == "critical"
    assert "does not answer" in body


def tamper_snapshot(ride: Ride) -> None:
    with sqlite3.connect(ride.directory / "ledger.db") as connection:
        changed = connection.execute(
            "UPDATE configuration_snapshots SET arms = replace(arms, 'large-1', 'x')"
        )
        assert changed.rowcount == 1


@pytest.mark.parametrize("by_hand", [False, True])
def test_nothing_is_restored_from_a_damaged_snapshot(ride: Ride, *, by_hand: bool) -> None:
    decision = ride.to("canary", BAD)
    before = ride.held()
    tamper_snapshot(ride)

    def go() -> object:
        if by_hand:
            return end_now(ride.given, decision, "now", acting=acting(after(1.5), "hand"))
        return ride.step(decision, after(1.5))

    with pytest.raises(DataError, match="damaged"):
        go()

    assert ride.held() == before
    assert ride.get(decision).state is State.DEPLOYING
    assert [severity for severity, *_ in ride.listener.told] == ["critical"]


def test_a_zombie_changes_nothing(shared: Ride) -> None:
    ride = shared
    decision = ride.to("canary")
    effects = ride.given.ledger.effects
    late = acting(after(1.5), "zombie")
    old_lease = effects.acquire(TARGET, late.holder, now=late.now, ttl_s=300)
    assert old_lease is not None
    ride.gateway.away = {"apply"}
    with pytest.raises(UnavailableError):
        ride.step(decision, after(1.6), aligned=False)
    (intent,) = effects.open_intents()
    ride.gateway.away = set()
    ride.step(decision, after(3))
    newest, split = ride.get(decision), ride.held()
    assert split.generation >= intent.allocation.generation

    with pytest.raises(ConflictError):
        resume(ride.given, intent, acting=late, lease=old_lease)
    with pytest.raises(ConflictError):
        effects.begin(
            replace(intent, key="zombie", allocation=replace(split, generation=99)),
            None,
            [],
            lease=old_lease,
        )

    assert ride.get(decision) == newest
    assert ride.held() == split


def test_the_gateway_refuses_a_generation_that_was_overtaken(ride: Ride) -> None:
    decision = ride.to("canary")
    overtaken = ride.held()
    ride.step(decision, after(1.5))
    newest = ride.held()

    with pytest.raises(ConflictError):
        ride.gateway.apply(overtaken, arms=ride.given.arms_of(TARGET))

    assert ride.held() == newest


class Meanwhile:
    """A gateway on which time passes: another run takes over while this one is applying."""

    def __init__(self, ride: Ride, run: object) -> None:
        self.ride, self.run, self.name = ride, run, ride.gateway.name

    def apply(self, allocation: Allocation, *, arms: object) -> None:
        self.run()  # type: ignore[operator]
        self.ride.gateway.apply(allocation, arms=arms)  # type: ignore[arg-type]

    def read(self, name: str) -> Allocation | None:
        return self.ride.gateway.read(name)


def test_a_run_that_slept_through_its_lease_in_the_middle_of_an_effect_changes_nothing(
    shared: Ride,
) -> None:
    ride = shared
    decision = ride.to("canary")

    def others() -> None:
        ride.step(decision, after(1.7))
        ride.step(decision, after(3.5))

    slow = replace(ride.given, gateways={"files": Meanwhile(ride, others)})
    with pytest.raises(ConflictError):
        tick(slow, decision, acting=acting(after(1.5), "sleeper"), as_of=after(1.5))

    found = ride.get(decision)
    assert (found.state, found.generation) == (State.DEPLOYED, ride.held().generation)
    log = [entry.kind for entry in ride.given.ledger.decisions.events(decision)]
    assert log == ["transition", "transition", "stage", "stage", "transition"]


def test_stages_taken_out_of_the_policy_in_mid_rollout_break_nothing(ride: Ride) -> None:
    decision = ride.to("second_stage")
    ride.policy(stages=ride.given.policies[TARGET].stages[:1])

    found = ride.step(decision, after(3))

    assert found.decision.state is State.DEPLOYED


def test_a_split_is_proven_when_it_is_read_back_not_when_its_run_began(ride: Ride) -> None:
    decision = ride.to("validating")
    ride.given = replace(ride.given, clock=lambda: after(0.2))

    ride.step(decision, START)

    found = ride.get(decision)
    assert found.stage_entered_at == after(0.2)
    assert found.evidence_from == after(0.25)
