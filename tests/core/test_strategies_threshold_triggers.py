"""Changes against the past: only proven ones fire, in a written order, with an end to attempts."""

import dataclasses
from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.analyzers import Drift, Quality
from optimizer.cycle import decide
from optimizer.evidence import Insight, Severity
from optimizer.policy import Budget, Policy
from optimizer.strategies.threshold import TRIGGERS
from scenes import LARGE, NOW, SMALL, Traffic, World
from trigger_scene import (
    BACK,
    HOUR,
    KINDS,
    POLICY,
    TARGET,
    considered,
    promotion,
    scene,
    shift,
    way_out,
)


@pytest.mark.parametrize("trigger", ["failure_increase", "quality_drop", "latency_increase"])
def test_a_proven_change_after_a_promotion_goes_back_to_what_was_before(trigger: str) -> None:
    found = considered(scene(promotion()), shift(trigger), chosen=BACK)

    assert found is not None
    assert found.proposal is not None
    assert found.proposal.candidate == "large"
    assert found.proposal.urgent
    assert not found.proposal.asks
    assert "back to it" in found.proposal.rationale
    assert "n = 6000, p = 1e-09 against 100 hours before" in found.proposal.rationale


def test_the_way_back_starts_although_it_costs_more() -> None:
    given = scene(promotion())
    found = considered(given, shift("quality_drop"), chosen=BACK)
    assert found is not None
    assert found.proposal is not None
    assert (found.proposal.expected.cost_reduction_pct or 0) < 0

    plan = decide(given, [found.proposal], config_hash="c", actor="optimize")

    assert [decision.candidate for decision in plan.decisions] == ["large"]
    assert plan.decisions[0].urgent


def test_what_began_before_the_promotion_is_no_reason_to_undo_it() -> None:
    earlier = shift("latency_increase", hours=70)

    found = considered(scene(promotion(), fallback="large"), earlier, chosen=BACK)

    assert found is not None
    assert found.proposal is not None
    assert "fallback that the operator names" in found.proposal.rationale


def test_where_nothing_was_promoted_a_person_must_agree() -> None:
    given = scene(fallback="large")
    found = considered(given, shift("quality_drop"))
    assert found is not None
    assert found.proposal is not None

    plan = decide(given, [found.proposal], config_hash="c", actor="optimize")

    assert [state.state.value for state in plan.decisions] == ["awaiting_approval"]
    assert "a person must agree" in plan.decisions[0].reason


def test_a_dearer_arm_is_no_way_out_of_a_rising_cost() -> None:
    found = considered(scene(promotion()), shift("cost_increase"), chosen=BACK)

    assert found is not None
    assert found.proposal is None
    assert [(each.arm, each.reason) for each in found.rejected] == [("large", "not_cheaper")]


def test_an_arm_that_is_no_better_is_no_way_back() -> None:
    poor = Traffic(n=400, quality=0.75)

    found = considered(
        scene(promotion(), large=poor), shift("quality_drop", value=0.78), chosen=BACK
    )

    assert found is not None
    assert found.proposal is None
    assert {each.reason for each in found.rejected} == {"no_better"}


@pytest.mark.parametrize(
    "claim",
    [
        shift("latency_increase", value=950.0),
        shift("latency_increase", value=400.0),
        shift("latency_increase", arm="large"),
        shift("latency_increase", kind="regression_detected"),
        shift("latency_increase", end=NOW - 5 * HOUR),
        shift("latency_increase", limit=None),
        shift("failure_increase", value=0.025),
        shift("quality_drop", value=0.85),
    ],
)
def test_what_is_small_better_elsewhere_unproven_old_or_unknown_fires_nothing(
    claim: Insight,
) -> None:
    assert considered(scene(promotion()), claim) is None


@pytest.mark.parametrize("trigger", list(KINDS))
def test_within_the_cooldown_a_change_does_nothing(trigger: str) -> None:
    ended = way_out(2 * HOUR, arm="small", before="large", state="completed")

    assert considered(scene(ended), shift(trigger)) is None
    over = considered(scene(dataclasses.replace(ended, ended_at=NOW - 7 * HOUR)), shift(trigger))
    assert over is not None
    assert over.insights


def test_a_broken_limit_does_not_wait_for_that_cooldown() -> None:
    sick = Traffic(cost_usd=0.002, failed=300)

    found = considered(scene(promotion(), way_out(2 * HOUR, arm="other"), small=sick))

    assert found is not None
    assert found.proposal is not None


def test_attempts_have_an_end_which_is_told() -> None:
    tried = [way_out(n * 24 * HOUR, arm=f"other-{n}") for n in (1, 2, 3)]

    found = considered(scene(promotion(), *tried), shift("quality_drop"))

    assert found is not None
    assert found.proposal is None
    (told,) = found.insights
    assert told.severity is Severity.CRITICAL
    assert "3 ways out were tried and 3 are allowed" in told.description


def test_old_attempts_do_not_count() -> None:
    tried = [way_out((7 * 24 + n) * HOUR, arm=f"other-{n}") for n in (1, 2, 3)]

    found = considered(scene(promotion(), *tried), shift("quality_drop"), chosen=BACK)

    assert found is not None
    assert found.proposal is not None


def test_an_arm_that_was_left_because_it_was_sick_is_not_gone_back_to() -> None:
    fled = promotion(strategy="threshold", ended_at=NOW - 24 * HOUR, deployed_at=NOW - 30 * HOUR)

    found = considered(scene(fled, fallback="large"), shift("quality_drop"), chosen=BACK)

    assert found is not None
    assert found.proposal is None
    assert [(each.arm, each.reason) for each in found.rejected] == [("large", "left_sick")]
    assert "what was before it was left because it was sick" in found.insights[0].description


@given(order=st.permutations(list(KINDS)))
def test_the_most_severe_is_acted_on_whatever_came_first(order: Sequence[str]) -> None:
    claims = [shift(name) for name in order]

    found = considered(scene(promotion(), fallback="large"), *claims)

    assert found is not None
    assert [each.kind for each in found.insights] == ["trigger:failure_increase"]
    assert found.proposal is not None
    assert "latency, ms" in found.proposal.rationale


def test_twice_the_limit_is_more_severe() -> None:
    large = dataclasses.replace(shift("latency_increase"), value=1700.0)

    found = considered(scene(promotion(), fallback="large"), shift("failure_increase"), large)
    assert found is not None
    assert found.insights[0].severity is Severity.ERROR
    assert [each.kind for each in found.insights] == ["trigger:failure_increase"]

    alone = considered(scene(promotion(), fallback="large"), large)
    assert alone is not None
    assert alone.insights[0].severity is Severity.ERROR


def test_what_the_analyzers_of_this_house_prove_fires() -> None:
    healthy, sick = Traffic(cost_usd=0.002, latency_ms=400), Traffic(cost_usd=0.002, latency_ms=800)
    series = [healthy] * 130 + [sick] * 12
    given = World(
        traffic={(TARGET, "small"): series, (TARGET, "large"): Traffic(n=400, latency_ms=500)},
        arms={TARGET: (SMALL, LARGE)},
        policy=POLICY,
        span=len(series),
        extra={"past": (promotion(),)},
    ).scene()

    found = considered(given, *Drift()(given))

    assert found is not None
    assert found.proposal is not None
    assert found.proposal.candidate == "large"


def test_a_day_of_bad_scores_that_the_quality_analyzer_proves_fires() -> None:
    good, bad = Traffic(cost_usd=0.002, quality=0.9), Traffic(cost_usd=0.002, quality=0.7)
    series = [good] * 120 + [bad] * 24
    given = World(
        traffic={(TARGET, "small"): series, (TARGET, "large"): Traffic(n=400)},
        arms={TARGET: (SMALL, LARGE)},
        policy=POLICY,
        span=len(series),
        extra={"past": (promotion(),)},
    ).scene()

    found = considered(given, *Quality()(given))

    assert found is not None
    assert found.proposal is not None
    assert [each.kind for each in found.insights] == ["trigger:quality_drop"]


def test_a_money_trigger_is_not_urgent_and_asks_for_the_cheapest() -> None:
    dear = Traffic(cost_usd=0.02)
    given = scene(
        promotion(),
        small=dear,
        policy=Policy(
            label_maturity=timedelta(0),
            hold_expires_after=timedelta(hours=72),
            budget=Budget(per_request_usd=0.01),
        ),
    )

    found = considered(given)

    assert found is not None
    assert found.proposal is not None
    assert (found.proposal.urgent, found.proposal.priority) == (False, 50)


def test_every_trigger_has_a_name_of_its_own() -> None:
    assert len({each.name for each in TRIGGERS}) == len(TRIGGERS)
