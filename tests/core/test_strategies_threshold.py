"""The way out of an unsafe arm: only when it is proven, only where nobody else is acting."""

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from optimizer.evidence import Past, Proposal, Scene
from optimizer.policy import Budget, Policy, SafetyLimits
from optimizer.strategies import Threshold
from scenes import LARGE, NOW, SMALL, WEAK, Traffic, World, arm

ON = ("support", "large")
SICK = Traffic(failed=300)


def world(newest: Traffic, **parts: Any) -> World:  # noqa: ANN401 - parts of a world
    return World(traffic={ON: [Traffic()] * 47 + [newest], **parts.pop("traffic", {})}, **parts)


def proposed(scene: Scene) -> list[Proposal]:
    return list(Threshold()(scene, ()))


def test_a_healthy_arm_is_left_alone() -> None:
    assert Threshold().consider(World(span=120).scene(), ()) == ()


@pytest.mark.parametrize(
    ("newest", "policy"),
    [
        (SICK, Policy()),
        (Traffic(latency_ms=20_000), Policy()),
        (Traffic(quality=0.3), Policy(safety=SafetyLimits(quality_min=0.55))),
        (Traffic(cost_usd=0.02), Policy(budget=Budget(per_request_usd=0.01))),
        (Traffic(), Policy(budget=Budget(hourly_usd=3.0))),
        (Traffic(), Policy(budget=Budget(daily_usd=40.0))),
    ],
)
def test_each_broken_limit_proposes_a_way_out(newest: Traffic, policy: Policy) -> None:
    traffic = [*[Traffic()] * 46, newest, newest]
    scene = World(traffic={ON: traffic}, policy=policy).scene()

    (proposal,) = proposed(scene)

    broken_budget = policy.budget != Budget()
    assert proposal.candidate == "small"
    assert proposal.urgent is not broken_budget
    assert proposal.exploratory
    assert proposal.priority == (50 if broken_budget else 100)


@pytest.mark.parametrize(
    "newest", [Traffic(n=60, failed=20, labels=5), Traffic(n=200, failed=12, labels=20)]
)
def test_what_chance_explains_breaks_nothing(newest: Traffic) -> None:
    assert proposed(world(newest).scene()) == []


def test_traffic_of_its_own_comes_before_what_is_published() -> None:
    own = Traffic(n=50, failed=0, labels=5, quality=0.85)
    published = arm("shiny", price=(1.0, 1.0), quality=0.99)
    scene = world(
        SICK,
        traffic={("support", "small"): own},
        arms={"support": (LARGE, SMALL, published)},
    ).scene()

    (proposal,) = proposed(scene)

    assert (proposal.candidate, proposal.exploratory) == ("small", False)
    assert {r.arm: r.reason for r in proposal.rejected} == {"shiny": "outranked"}


def test_an_arm_that_breaks_the_limit_itself_is_no_way_out() -> None:
    own = Traffic(n=500, failed=100, labels=50)
    scene = world(
        SICK, traffic={("support", "small"): own}, arms={"support": (LARGE, SMALL)}
    ).scene()

    (considered,) = Threshold().consider(scene, ())

    assert considered.proposal is None
    assert [(r.arm, r.reason) for r in considered.rejected] == [("small", "unsafe")]


def test_an_arm_nobody_knows_is_no_way_out() -> None:
    scene = world(SICK, arms={"support": (LARGE, arm("unknown", price=(1, 1)))}).scene()

    (considered,) = Threshold().consider(scene, ())

    assert considered.proposal is None
    assert considered.rejected[0].reason == "no_evidence"


def test_the_cheapest_way_out_of_a_budget_keeps_quality() -> None:
    policy = Policy(budget=Budget(hourly_usd=3.0))
    scene = World(policy=policy, arms={"support": (LARGE, WEAK, SMALL)}).scene()

    (proposal,) = proposed(scene)

    assert proposal.candidate == "small"
    assert {r.arm: r.reason for r in proposal.rejected} == {"weak": "quality"}


@pytest.mark.parametrize(
    "extra",
    [
        {"in_flight": {"support": "d-1"}},
        {"paused": frozenset({"support"})},
    ],
)
def test_targets_in_flight_are_the_guards_and_paused_ones_nobodys(extra: dict[str, Any]) -> None:
    assert Threshold().consider(world(SICK, extra=extra).scene(), ()) == ()


def test_a_cooldown_is_waited_out_and_named() -> None:
    def at(ago: timedelta) -> Scene:
        return world(SICK, extra={"changes": {"support": (NOW - ago,)}}).scene()

    (cooling,) = Threshold().consider(at(timedelta(minutes=10)), ())

    assert cooling.proposal is None
    assert {r.reason for r in cooling.rejected} == {"cooldown"}
    assert len(proposed(at(timedelta(minutes=31)))) == 1


def test_a_rolled_back_arm_is_not_the_way_out() -> None:
    past = Past(target="support", arm="small", state="rolled_back", ended_at=NOW, reason="harm")
    scene = world(SICK, arms={"support": (LARGE, SMALL)}, extra={"past": (past,)}).scene()

    assert proposed(scene) == []


def test_stale_hours_prove_nothing() -> None:
    scene = world(SICK).scene()
    later = dataclasses.replace(scene, now=NOW + timedelta(hours=3))

    assert proposed(later) == []


def test_a_sick_neighbour_changes_nothing() -> None:
    names = ("mail", "search")
    arms = dict.fromkeys(names, (LARGE, SMALL))
    both = World(traffic={(n, "large"): SICK for n in names}, arms=arms).scene()
    healthy = World(
        traffic={("mail", "large"): SICK, ("search", "large"): Traffic()}, arms=arms
    ).scene()

    assert [p for p in proposed(both) if p.target == "mail"] == proposed(healthy)
