"""The cost-constrained choice: who may be proposed, who never, and what a scale may change."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import LARGE, NOW, SMALL, WEAK, Traffic, World, arm

from optimizer.evidence import Anchor, Considered, Past, Scene
from optimizer.policy import Goal, Guardrail, Policy, SafetyLimits
from optimizer.statistics.outlook import chance_above
from optimizer.strategies import Pareto
from optimizer.strategies.pareto import Settings
from optimizer.targets import Target

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
    known = {"price": (0.25, 1.0), "quality": 0.9} | change
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


candidates = st.lists(
    st.tuples(
        st.floats(0.05, 5.0),
        st.floats(0.5, 1.0),
        st.floats(100.0, 2000.0),
        st.sampled_from([0, 50, 1000, 10**8]),
    ),
    min_size=1,
    max_size=5,
)


def catalogue(drawn: Sequence[tuple[float, float, float, int]]) -> dict[str, Any]:
    made = [
        arm(f"arm{i}", price=(price, 4 * price), quality=quality, n=n, latency_ms=latency)
        for i, (price, quality, latency, n) in enumerate(drawn)
    ]
    base = arm("large", price=(2.5, 10.0), quality=0.9, n=1000, latency_ms=800.0)
    return {"support": (base, *made)}


@given(drawn=candidates)
def test_a_dominated_arm_is_never_proposed(drawn: Sequence[tuple[float, float, float, int]]) -> None:
    scene = World(arms=catalogue(drawn), policy=LONG, span=12).scene()

    proposals = Pareto()(scene, ())

    for proposal in proposals:
        price, quality, latency, n = drawn[int(proposal.candidate.removeprefix("arm"))]
        for i, (other_price, other_quality, other_latency, other_n) in enumerate(drawn):
            if f"arm{i}" != proposal.candidate and min(n, other_n) == 10**8:
                assert not (
                    other_price < price
                    and other_quality > quality + 0.001
                    and other_latency < latency
                )


@given(drawn=candidates)
def test_a_proposal_is_cheaper_and_not_published_as_worse(
    drawn: Sequence[tuple[float, float, float, int]],
) -> None:
    scene = World(arms=catalogue(drawn), policy=LONG, span=12).scene()

    for proposal in Pareto()(scene, ()):
        price, quality, _, n = drawn[int(proposal.candidate.removeprefix("arm"))]
        smoothed = (quality * n + 0.5) / (n + 1)
        spread = np.sqrt((smoothed * (1 - smoothed) / n if n else 0) + 0.09 / 1000)
        assert price < 2.5 * 0.95 + 1e-9
        assert quality - 0.9 + 0.02 + 1.65 * spread >= -1e-4
        assert {r.arm for r in proposal.rejected} | {proposal.candidate, "large"} == {
            a.name for a in scene.targets["support"].arms
        }


@given(drawn=candidates, power=st.sampled_from([-6, -3, 3]))
def test_the_scale_of_money_changes_no_choice(
    drawn: Sequence[tuple[float, float, float, int]], power: int
) -> None:
    scale = 10.0**power
    scaled = [(price * scale, *rest) for price, *rest in drawn]

    def plan(values: Any, factor: float) -> Any:
        arms = catalogue(values)
        base = arm(
            "large", price=(2.5 * factor, 10.0 * factor), quality=0.9, n=1000, latency_ms=800.0
        )
        usd = 1.0 * factor  # exact in nano-dollars at every scale
        traffic = {("support", "large"): Traffic(cost_usd=usd)}
        world = World(
            arms={"support": (base, *arms["support"][1:])}, traffic=traffic, policy=LONG, span=12
        )
        return [
            (each.target, each.proposal and each.proposal.candidate, [r.arm + r.reason for r in each.rejected])
            for each in Pareto().consider(world.scene(), ())
        ]

    assert plan(scaled, scale) == plan(drawn, 1.0)


NAMES = ("support", "search", "mail")


def three() -> World:
    traffic = {(name, "large"): Traffic() for name in NAMES}
    return World(arms=dict.fromkeys(NAMES, (LARGE, SMALL, WEAK)), traffic=traffic, span=24)


@given(order=st.permutations(NAMES), seed=st.integers(0, 2**32 - 1))
def test_permuting_targets_arms_and_rows_changes_nothing(order: Sequence[str], seed: int) -> None:
    scene = three().scene()
    arms = tuple(np.random.default_rng(seed).permutation(np.array((LARGE, SMALL, WEAK), dtype=object)))
    mixed = dataclasses.replace(
        scene,
        targets={
            name: dataclasses.replace(scene.targets[name], arms=arms) for name in order
        },
        hours=scene.hours.sample(frac=1, random_state=seed),
    )

    assert Pareto().consider(mixed, ()) == Pareto().consider(scene, ())


def spoiled(kind: str) -> Mapping[str, Any]:
    scene = three().scene()
    bad = scene.hours["target"] == "mail"
    if kind == "negative":
        return {"hours": scene.hours.assign(n_failed=np.where(bad, -5, scene.hours["n_failed"]))}
    if kind == "huge":
        return {"hours": scene.hours.assign(cost_nusd=np.where(bad, 2**60, scene.hours["cost_nusd"]))}
    if kind == "torn":
        torn = [b[:-1] if x else b for x, b in zip(bad, scene.hours["histogram"], strict=True)]
        return {"hours": scene.hours.assign(histogram=torn)}
    if kind == "no_policy":
        return {"policies": {k: v for k, v in scene.policies.items() if k != "mail"}}
    if kind == "no_such_arm":
        return {"baselines": {**scene.baselines, "mail": "gone"}}
    return {"hours": scene.hours[~bad]}


@pytest.mark.parametrize(
    "kind", ["negative", "huge", "torn", "no_policy", "no_such_arm", "silent"]
)
def test_a_bad_target_leaves_the_others_proposals_unchanged(kind: str) -> None:
    good = three().scene()
    bad = dataclasses.replace(good, **spoiled(kind))

    others = [p for p in Pareto()(good, ()) if p.target != "mail"]

    assert [p for p in Pareto()(bad, ()) if p.target != "mail"] == others
    assert len(others) == 2


def test_safety_limits_the_baseline_breaks_too_do_not_stop_an_improvement() -> None:
    policy = dataclasses.replace(LONG, safety=SafetyLimits(failure_rate_max=0.005))
    better = arm("better", price=(0.25, 1.0), quality=0.9, failure_rate=0.007)
    worse = arm("worse", price=(0.25, 1.0), quality=0.9, failure_rate=0.02)
    scene = World(arms={"support": (LARGE, better, worse)}, policy=policy).scene()

    (proposal,) = Pareto()(scene, ())

    assert proposal.candidate == "better"
    assert {r.arm: r.reason for r in proposal.rejected} == {"worse": "safety"}


def test_consider_and_call_agree() -> None:
    scene = three().scene()

    proposals = [c.proposal for c in Pareto().consider(scene, ()) if c.proposal is not None]

    assert tuple(proposals) == Pareto()(scene, ())


@given(
    value=st.floats(-1, 1), variance=st.floats(0, 1), limit=st.floats(-1, 1)
)
def test_a_chance_and_its_opposite_sum_to_one(value: float, variance: float, limit: float) -> None:
    above = float(chance_above(value, variance, limit))
    below = float(chance_above(-value, variance, -limit))

    assert above + below == pytest.approx(1.0)


@pytest.mark.parametrize("bad", [{"delta": 0.0}, {"min_labels": 0}, {"icc": 2.0}])
def test_settings_out_of_range_cannot_be_built(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        Settings(**bad)


def test_a_target_s_arms_are_json_able_reasons() -> None:
    text = json.dumps([dataclasses.asdict(r) for r in considered(World().scene()).rejected])

    assert "nan" not in text.lower()


def test_no_target_means_no_proposal() -> None:
    scene = dataclasses.replace(World().scene(), targets={})

    assert Pareto().consider(scene, ()) == ()
    assert Pareto()(scene, ()) == ()
    assert Target(name="t", arms=(LARGE,), baseline="large").baseline == "large"
