"""The cost-constrained choice: who may be proposed, who never, and what a scale may change."""

import dataclasses
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.evidence import Anchor, Considered, Past, Scene
from optimizer.policy import Goal, Guardrail, Policy, SafetyLimits
from optimizer.statistics.outlook import chance_above
from optimizer.strategies import Pareto
from optimizer.strategies.pareto import Settings
from optimizer.strategies.pareto.feasible import judged
from scenes import LARGE, NOW, SMALL, WEAK, Traffic, World, arm

LONG = Policy(hold_expires_after=timedelta(days=30))


def considered(scene: Scene, target: str = "support") -> Considered:
    return next(each for each in Pareto().consider(scene, ()) if each.target == target)


def reasons(scene: Scene, target: str = "support") -> dict[str, str]:
    return {each.arm: each.reason for each in considered(scene, target).rejected}


def with_own(**arms: Traffic) -> dict[tuple[str, str], Traffic]:
    return {("support", "large"): Traffic(), **{("support", k): v for k, v in arms.items()}}


def test_a_published_arm_that_is_as_good_and_cheaper_is_proposed_to_be_explored() -> None:
    (proposal,) = Pareto()(World().scene(), ())

    assert proposal.candidate == "small"
    assert proposal.exploratory
    assert proposal.expected.cost_reduction_pct == pytest.approx(90)
    assert proposal.expected.confidence is None
    assert proposal.expected.daily_saving_usd == pytest.approx(24 * 1000 * 0.0036)


def test_the_cheapest_feasible_arm_is_taken_and_the_others_are_named() -> None:
    dearer = arm("dearer", price=(1.0, 4.0), quality=0.95)
    scene = World(arms={"support": (LARGE, dearer, SMALL)}).scene()

    (proposal,) = Pareto()(scene, ())

    assert proposal.candidate == "small"
    assert {r.arm: r.reason for r in proposal.rejected} == {"dearer": "costlier"}


def test_own_traffic_beats_what_is_published() -> None:
    bad = Traffic(cost_usd=0.0004, quality=0.7)

    assert reasons(World(traffic=with_own(small=bad)).scene())["small"] == "quality"


def test_measured_arms_are_proposed_with_an_interval_and_no_exploration() -> None:
    good = Traffic(cost_usd=0.002, quality=0.905, labels=400)

    (proposal,) = Pareto()(World(traffic=with_own(small=good)).scene(), ())

    expected = proposal.expected
    assert not proposal.exploratory
    assert expected.cost_reduction_lower_pct is not None
    assert expected.cost_reduction_upper_pct is not None
    assert expected.cost_reduction_lower_pct < 50 < expected.cost_reduction_upper_pct
    assert expected.confidence == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("small", "weakest", "bar"),
    [
        (Traffic(cost_usd=0.002, quality=0.89), "p_quality", 0.05),
        (Traffic(cost_usd=0.002, quality=0.95, latency_ms=861.0), "p_latency", 0.05),
        (Traffic(cost_usd=0.00377, quality=0.95), "p_saving", 0.1),
    ],
)
def test_a_measured_proposal_is_as_sure_as_its_weakest_claim(
    small: Traffic, weakest: str, bar: float
) -> None:
    scene = World(traffic=with_own(small=small), policy=LONG).scene()

    (proposal,) = Pareto()(scene, ())

    book = judged(scene, Settings()).set_index("arm").loc["small"]
    assert min(book[["p_quality", "p_latency", "p_saving"]]) == book[weakest]
    assert proposal.p_value is not None
    assert proposal.p_value == pytest.approx((1 - book[weakest]) / bar)
    assert 0.01 < proposal.p_value < 1


def test_what_is_to_be_explored_rests_on_no_test() -> None:
    (proposal,) = Pareto()(World().scene(), ())

    assert (proposal.exploratory, proposal.p_value) == (True, None)


def test_an_arm_without_data_and_without_prior_is_never_proposed() -> None:
    world = World(arms={"support": (LARGE, arm("unheard_of", price=(0.01, 0.01)))}, policy=LONG)

    assert considered(world.scene()).proposal is None
    assert reasons(world.scene()) == {"unheard_of": "no_evidence"}


def test_without_a_quality_guardrail_a_price_alone_is_still_no_evidence() -> None:
    policy = dataclasses.replace(LONG, guardrails=(Guardrail(metric="failure_rate", margin=0.01),))
    world = World(arms={"support": (LARGE, arm("unheard_of", price=(0.01, 0.01)))}, policy=policy)

    assert reasons(world.scene()) == {"unheard_of": "no_evidence"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"enabled": False}, "disabled"),
        ({"quality": 0.5}, "quality"),
        ({"price": (2.45, 9.9)}, "not_cheaper"),
        ({"failure_rate": 0.2}, "safety"),
        ({"source": "elsewhere", "quality": 0.8}, "quality"),
    ],
)
def test_the_reason_against_an_arm_is_named(change: dict[str, Any], reason: str) -> None:
    known: dict[str, Any] = {"price": (0.25, 1.0), "quality": 0.9} | change
    world = World(arms={"support": (LARGE, arm("other", **known))})

    assert considered(world.scene()).proposal is None
    assert reasons(world.scene()) == {"other": reason}


def test_all_infeasible_keeps_the_baseline() -> None:
    world = World(arms={"support": (LARGE, WEAK, arm("worse", price=(0.1, 0.1), quality=0.3))})

    assert Pareto()(world.scene(), ()) == ()
    assert set(reasons(world.scene()).values()) == {"quality"}


@pytest.mark.parametrize("state", ["rolled_back", "cancelled"])
def test_a_rolled_back_arm_waits_for_retry_after(state: str) -> None:
    def scene(ago: timedelta) -> Scene:
        past = Past(target="support", arm="small", state=state, ended_at=NOW - ago, reason="harm")
        return World(extra={"past": (past,)}).scene()

    assert reasons(scene(timedelta(days=6)))["small"] == "recently_rolled_back"
    assert [p.candidate for p in Pareto()(scene(timedelta(days=8)), ())] == ["small"]


@pytest.mark.parametrize("state", ["in_flight", "paused"])
def test_a_busy_or_paused_target_is_left_alone(state: str) -> None:
    value: Any = {"support": "d-1"} if state == "in_flight" else frozenset({"support"})

    assert Pareto().consider(World(extra={state: value}).scene(), ()) == ()


def test_another_goal_than_cost_is_left_to_others() -> None:
    policy = dataclasses.replace(LONG, goal=Goal(metric="quality"))

    assert Pareto()(World(policy=policy).scene(), ()) == ()


def test_no_quality_labels_refuse_with_that_reason() -> None:
    world = World(traffic={("support", "large"): Traffic(labels=0)})

    refusal = considered(world.scene()).rejected[0]

    assert (refusal.arm, refusal.reason) == ("small", "no_quality_labels")
    assert refusal.detail.startswith("no quality labels: ")


def test_a_ramp_that_cannot_answer_in_time_is_refused_with_the_hours() -> None:
    world = World(traffic={("support", "large"): Traffic(n=100, failed=1, labels=5)})

    refusal = considered(world.scene()).rejected[0]

    assert (refusal.arm, refusal.reason) == ("small", "not_reachable")
    assert "quality needs" in refusal.detail
    assert " h of canary" in refusal.detail


def anchored(harm: float) -> Scene:
    anchor = Anchor(target="support", metric="quality", reference_arm="large", harm=harm)
    return World(extra={"anchors": {("support", "quality"): anchor}}).scene()


def test_the_plan_of_an_untried_arm_begins_with_its_own_smaller_share() -> None:
    def hours(share: float) -> float:
        policy = dataclasses.replace(LONG, exploration_share=share)
        (proposal,) = Pareto()(World(policy=policy).scene(), ())
        assert proposal.exploratory
        assert proposal.planned_hours is not None
        return proposal.planned_hours

    # The first stage asks for 200 requests of the canary: 20 hours of 1 % of 1000, not 4 of 5 %.
    assert hours(0.01) - hours(0.05) == pytest.approx(16.0, abs=0.5)
    # That none may be tried is said by validation.
    assert hours(0.0) == hours(0.05)


def test_a_margin_that_earlier_promotions_spent_is_not_spent_again() -> None:
    spent = considered(anchored(0.02))
    nearly = considered(anchored(0.012))

    for each in (spent, nearly):
        assert each.proposal is None
        small = next(r for r in each.rejected if r.arm == "small")
        assert small.reason == "margin_spent"
        assert "re-anchoring needs approval" in small.detail


def test_gains_of_earlier_promotions_do_not_widen_the_margin() -> None:
    assert considered(anchored(-0.5)) == considered(World().scene())


def test_the_wait_for_labels_and_floors_is_part_of_the_plan() -> None:
    slow = dataclasses.replace(LONG, label_maturity=timedelta(hours=5))

    fast, late = (Pareto()(World(policy=p).scene(), ())[0] for p in (LONG, slow))

    assert fast.planned_hours is not None
    assert late.planned_hours is not None
    assert late.planned_hours == pytest.approx(fast.planned_hours + 4, abs=0.5)


def test_a_cheaper_but_slower_and_worse_arm_loses_to_none_but_its_dominator() -> None:
    twin = arm("twin", price=(0.25, 1.0), quality=0.89, n=10**9)
    better = arm("better", price=(0.20, 0.8), quality=0.90, n=10**9)
    base = arm("large", price=(2.5, 10.0), quality=0.90, n=10**9)
    scene = World(arms={"support": (base, twin, better)}).scene()

    (proposal,) = Pareto()(scene, ())

    assert proposal.candidate == "better"
    assert {r.arm: r.reason for r in proposal.rejected} == {"twin": "dominated"}


def test_safety_limits_the_baseline_breaks_too_do_not_stop_an_improvement() -> None:
    policy = dataclasses.replace(LONG, safety=SafetyLimits(failure_rate_max=0.005))
    better = arm("better", price=(0.25, 1.0), quality=0.9, failure_rate=0.007)
    worse = arm("worse", price=(0.25, 1.0), quality=0.9, failure_rate=0.02)
    scene = World(arms={"support": (LARGE, better, worse)}, policy=policy).scene()

    (proposal,) = Pareto()(scene, ())

    assert proposal.candidate == "better"
    assert {r.arm: r.reason for r in proposal.rejected} == {"worse": "safety"}


def test_consider_and_call_agree() -> None:
    scene = World().scene()

    proposals = [c.proposal for c in Pareto().consider(scene, ()) if c.proposal is not None]

    assert tuple(proposals) == Pareto()(scene, ())
    assert len(proposals) == 1


@given(value=st.floats(-1, 1), variance=st.floats(0, 1), limit=st.floats(-1, 1))
def test_a_chance_and_its_opposite_sum_to_one(value: float, variance: float, limit: float) -> None:
    above = float(chance_above(value, variance, limit))
    below = float(chance_above(-value, variance, -limit))

    assert above + below == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [{"delta": 0.0}, {"min_labels": 0}, {"icc": 2.0}])
def test_settings_out_of_range_cannot_be_built(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Settings(**bad)


def test_no_target_means_no_proposal() -> None:
    scene = dataclasses.replace(World().scene(), targets={})

    assert Pareto().consider(scene, ()) == ()
    assert Pareto()(scene, ()) == ()
