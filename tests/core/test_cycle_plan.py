"""The plan of a rollout's looks, frozen with its decision."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from optimizer.cycle import decide
from optimizer.evidence import Impact, Proposal, RampPlan, proposal_id
from optimizer.policy import Policy, Stage
from scenes import LARGE, NOW, SMALL, Traffic, World

HOUR = timedelta(hours=1)
SEEN = Traffic(failed=10, labels=250)
STAGES = (Stage(share=0.1, bake_time=HOUR), Stage(share=0.5, bake_time=2 * HOUR))
PACED = Policy(stages=STAGES, hold_expires_after=10 * HOUR, exploration_share=0.02)


def planned(
    policy: Policy = PACED,
    traffic: Any = SEEN,  # noqa: ANN401 - of one hour, of each, or None
    *,
    hours: float | None = 6.0,
    exploratory: bool = False,
) -> RampPlan | None:
    """The plan of the decision for an arm with as much traffic as its baseline."""
    given = Proposal(
        id=proposal_id("pareto", "support", "small", NOW),
        strategy="pareto",
        target="support",
        candidate="small",
        rationale="cheaper",
        expected=Impact(),
        exploratory=exploratory,
        planned_hours=hours,
    )
    both = {"large": traffic, "small": Traffic(labels=0)}
    world = World(
        arms={"support": (LARGE, SMALL)},
        traffic={("support", arm): of for arm, of in both.items()} if traffic else {},
        policy=policy,
        span=24,
    )
    (decision,) = decide(world.scene(), [given], config_hash="c0ffee", actor="optimize").decisions
    return decision.plan


def test_a_decision_keeps_the_plan_of_its_looks_from_the_traffic_of_its_target() -> None:
    plan = planned()

    # 2,000 requests an hour in both arms: 200 in the first hour, 1,000 in each of five more, and
    # the last stage expires after ten.
    assert plan is not None
    assert (plan.hours, plan.requests, plan.extended) == (6.0, 5_200.0, 10_200.0)


def test_the_plan_has_the_shares_of_the_baselines_requests_that_were_measured() -> None:
    plan = planned()

    assert plan is not None
    assert plan.measured == {
        "failure_rate": 1.0,
        "fallback_rate": 1.0,
        "latency_exceedance": 1.0,
        "latency_ms": 0.99,
        "cost_usd": 0.99,
        "quality": 0.25,
    }


def test_hours_whose_labels_are_still_to_come_do_not_count_as_unmeasured() -> None:
    late = [replace(SEEN, labels=250 if hour < 21 else 0) for hour in range(24)]

    of_all, of_mature = (
        planned(replace(PACED, label_maturity=maturity * HOUR), late) for maturity in (0, 3)
    )

    assert of_all is not None
    assert of_mature is not None
    assert of_mature.measured["quality"] == 0.25
    assert of_all.measured["quality"] == pytest.approx(0.25 * 21 / 24)


def test_an_arm_without_traffic_of_its_own_is_planned_with_its_smaller_share() -> None:
    plan = planned(exploratory=True)

    # 40 requests an hour until its first stage has seen the 200 that it asks for; then two hours.
    assert plan is not None
    assert (plan.hours, plan.requests) == (7.0, 200.0 + 2 * 1_000.0)


def test_without_a_plan_check_or_traffic_no_looks_are_planned() -> None:
    assert planned(hours=None) is None
    assert planned(traffic=None) is None
