"""Reconciling: the gateway ends up holding what the ledger wants, and nothing else moves it."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from optimizer.allocation import Allocation, canary, whole
from optimizer.client import file_name
from optimizer.decision import State, move
from optimizer.errors import DataError
from optimizer.loop.equipment import Equipment
from optimizer.loop.reconcile import reconcile
from optimizer.targets import Arm, ModelConfig
from rides import Ride, after
from rollout_scene import START, TARGET, acting, equipment, file_gateway, propose, target


@pytest.fixture
def ride(tmp_path: Path) -> Ride:
    return Ride(tmp_path)


def by_hand(ride: Ride, allocation: Allocation) -> None:
    """Somebody publishes a split that the ledger knows nothing of."""
    ride.gateway.inner.apply(allocation, arms=ride.given.arms_of(TARGET))


def other_split(generation: int) -> Allocation:
    return whole(TARGET, "small", generation=generation)


def published(ride: Ride) -> Path:
    return ride.directory / "allocations" / file_name(TARGET)


def wanted(given: Equipment) -> dict[str, Any]:
    found = given.ledger.effects.desired(TARGET)
    assert found is not None
    return asdict(found)


def drifts(ride: Ride) -> list[dict[str, Any]]:
    return [
        dict(row["detail"])
        for row in ride.given.ledger.runs.audit_log(limit=100)
        if row["operation"] == "gateway_drift"
    ]


def test_the_first_run_publishes_every_target(tmp_path: Path) -> None:
    given = equipment(tmp_path)
    names = [f"team/{number}" for number in range(3)]
    given = replace(
        given,
        targets={name: replace(target(), name=name) for name in names},
        policies=dict.fromkeys(names, given.policies[TARGET]),
        gateway_of=dict.fromkeys(names, "files"),
    )

    findings = reconcile(given, acting=acting(START))

    assert [(f.target, f.kind) for f in findings] == [(name, "published") for name in names]
    for name in names:
        held = given.gateway(name).read(name)
        assert held is not None
        assert held.same_split(whole(name, "large", generation=1))


def test_a_repeated_run_changes_nothing_but_freshness(ride: Ride) -> None:
    ride.align()
    before, ledger_before = published(ride).read_bytes(), wanted(ride.given)

    later = replace(ride.given, gateways={"files": file_gateway(ride.directory, after(1))})
    assert reconcile(later, acting=acting(after(1), "later")) == ()

    assert wanted(ride.given) == ledger_before
    assert asdict(ride.held()) == ledger_before
    assert published(ride).read_bytes() != before
    assert b"09:00:00" in published(ride).read_bytes()


@pytest.mark.parametrize("generation", [2, 90])
def test_a_split_set_by_hand_is_reported_audited_and_repaired(ride: Ride, generation: int) -> None:
    ride.align()
    by_hand(ride, other_split(generation))

    (finding,) = ride.findings(after(1))

    assert finding.kind == "repaired"
    assert "small" in finding.detail
    assert ride.held().baseline == "large"
    assert ride.held().generation == generation + 1
    assert drifts(ride)[0]["found"]["generation"] == generation
    assert ride.align(after(2)) == []


def test_a_newer_generation_of_the_same_split_is_taken_over(ride: Ride) -> None:
    ride.align()
    by_hand(ride, whole(TARGET, "large", generation=40))

    assert ride.align(after(1)) == ["repaired"]

    assert wanted(ride.given)["generation"] == 41
    assert ride.align(after(2)) == []


def test_a_damaged_file_is_repaired_under_a_newer_generation(ride: Ride) -> None:
    ride.align()
    text = published(ride).read_text(encoding="utf-8")
    published(ride).write_text(text.replace("large", "small"), encoding="utf-8")
    with pytest.raises(DataError):
        ride.held()

    assert ride.align(after(1)) == ["repaired"]

    assert (ride.held().baseline, ride.held().generation) == ("large", 2)
    assert "not what was published" in drifts(ride)[0]["problem"]


def test_a_deleted_file_is_published_again(ride: Ride) -> None:
    ride.align()
    published(ride).unlink()

    assert ride.align(after(1)) == ["repaired"]

    assert ride.held().generation == 2


def test_drift_in_mid_canary_is_repaired_to_the_canary(ride: Ride) -> None:
    decision = ride.to("canary")
    ride.policy(adopt_drift=True)
    shares = ride.shares()
    by_hand(ride, other_split(9))

    assert ride.align(after(0.5)) == ["repaired"]

    assert ride.shares() == shares
    assert ride.held().decision_id == decision


def test_a_split_repaired_while_a_decision_waits_outlives_that_decision(ride: Ride) -> None:
    ride.align()
    waiting = propose(ride.given, START)
    by_hand(ride, other_split(9))
    assert ride.align(after(1)) == ["repaired"]
    assert ride.held().decision_id is None

    cancelled = move(waiting, State.CANCELLED, after(1))
    ride.given.ledger.decisions.update(cancelled, [], lease=None)

    assert ride.align(after(2)) == []


def test_drift_is_adopted_where_the_policy_allows_and_nothing_is_in_flight(ride: Ride) -> None:
    ride.align()
    ride.policy(adopt_drift=True)
    by_hand(ride, other_split(9))

    assert ride.align(after(1)) == ["adopted"]

    assert (ride.held().baseline, ride.held().generation) == ("small", 10)
    assert ride.given.baseline_arms() == {TARGET: "small"}
    assert ride.align(after(2)) == []


def test_an_arm_nobody_configured_is_never_adopted(ride: Ride) -> None:
    ride.align()
    ride.policy(adopt_drift=True)
    ride.gateway.inner.apply(
        whole(TARGET, "huge", generation=9), arms={"huge": {"model": "huge-1"}}
    )

    assert ride.align(after(1)) == ["repaired"]

    assert ride.held().baseline == "large"


def test_a_baseline_changed_in_the_configuration_is_published(ride: Ride) -> None:
    ride.align()
    edited = replace(target(), baseline="small")
    ride.given = replace(ride.given, targets={TARGET: edited})

    assert ride.align(after(1)) == ["published"]

    assert ride.held().baseline == "small"
    assert drifts(ride) == []
    assert ride.align(after(2)) == []


def test_a_promoted_arm_that_leaves_the_configuration_gives_way_to_its_baseline(
    ride: Ride,
) -> None:
    ride.to("completed")
    assert ride.given.baseline_arms() == {TARGET: "small"}
    ride.without_arm("small")

    assert ride.align(after(7)) == ["published"]

    assert ride.held().baseline == "large"


def test_a_ledger_that_was_lost_goes_on_above_the_published_generation(ride: Ride) -> None:
    by_hand(ride, other_split(57))

    assert ride.align() == ["published"]

    assert (ride.held().baseline, ride.held().generation) == ("large", 58)


class Overtaking:
    """A gateway on which another run advances the rollout between two reads of this run."""

    def __init__(self, ride: Ride, advance: Any) -> None:  # noqa: ANN401 - any callable
        self.ride, self.advance = ride, advance
        self.name = ride.gateway.name

    def apply(self, allocation: Allocation, *, arms: Any) -> None:  # noqa: ANN401 - as the port
        self.ride.gateway.apply(allocation, arms=arms)

    def read(self, name: str) -> Allocation | None:
        advance, self.advance = self.advance, lambda: None
        advance()
        return self.ride.gateway.read(name)


def test_a_run_that_looks_while_another_advances_repairs_nothing(ride: Ride) -> None:
    decision = ride.to("canary")
    slow = Overtaking(ride, lambda: ride.step(decision, after(1.5), aligned=False))

    findings = reconcile(
        replace(ride.given, gateways={"files": slow}), acting=acting(after(1.5), "guard")
    )

    assert findings == ()
    assert ride.get(decision).stage == 1
    assert ride.shares()["canary"] == 0.5


def test_a_split_that_failed_to_deploy_is_given_up_for_the_snapshot(ride: Ride) -> None:
    decision = ride.to("validating")
    ride.gateway.alter = lambda _: None
    ride.step(decision, START, aligned=False)
    ride.gateway.alter = lambda allocation: allocation
    assert ride.get(decision).state is State.DEPLOYMENT_FAILED

    assert ride.align(after(1)) == ["published"]

    assert ride.shares() == {"baseline": 1.0}
    assert ride.align(after(2)) == []


def test_one_target_in_trouble_never_stops_the_others(tmp_path: Path) -> None:
    ride = Ride(tmp_path)
    bad = replace(
        target(),
        name="bad",
        arms=(
            Arm(name="large", config=ModelConfig(model="large-1", params={"x": float("nan")})),
            Arm(name="small", config=ModelConfig(model="small-1")),
        ),
    )
    ride.given = replace(
        ride.given,
        targets={"bad": bad, "nowhere": replace(target(), name="nowhere"), TARGET: target()},
        policies=dict.fromkeys(["bad", "nowhere", TARGET], ride.given.policies[TARGET]),
        gateway_of={"bad": "files", "nowhere": "gone", TARGET: "files"},
    )

    findings = ride.findings()

    assert [(f.target, f.kind) for f in findings] == [
        ("bad", "failed"),
        ("nowhere", "failed"),
        (TARGET, "published"),
    ]


def test_an_unanswered_publication_is_finished_by_the_next_run(ride: Ride) -> None:
    ride.gateway.away = {"apply"}
    assert ride.align() == ["failed"]
    assert len(ride.given.ledger.effects.open_intents()) == 1

    ride.gateway.away = set()
    assert ride.align(after(1)) == ["resumed"]

    assert ride.shares() == {"baseline": 1.0}
    assert ride.given.ledger.effects.open_intents() == []


def test_a_repair_that_a_dead_run_began_does_not_undo_a_newer_split(ride: Ride) -> None:
    decision = ride.to("canary")
    by_hand(ride, other_split(9))
    ride.gateway.away = {"apply"}
    assert ride.align(after(0.5)) == ["failed"]
    ride.gateway.away = set()
    ride.step(decision, after(1.5), aligned=False)

    assert ride.align(after(2)) == ["resumed"]

    assert ride.given.ledger.effects.open_intents() == []
    assert ride.shares() == {"canary": 0.5, "control": 0.5}


def test_a_canary_by_hand_is_not_taken_for_ours(ride: Ride) -> None:
    ride.align()
    foreign = canary(
        TARGET,
        baseline="large",
        candidate="small",
        share=0.1,
        control_share=0.1,
        generation=5,
        salt="s",
        decision_id="d-unknown",
    )
    by_hand(ride, foreign)

    assert ride.align(after(1)) == ["repaired"]

    assert ride.held().decision_id is None
