"""Urgent rollouts: the way out of an arm that provably breaks a limit."""

from dataclasses import replace
from datetime import timedelta

import pytest

from judging import GOOD, LOOSE, by_metric, look, made
from optimizer.decision import State
from optimizer.evidence import Outcome, Reason, Verdict
from optimizer.policy import Policy
from rollouts import HOUR, T0, World, case


def escape(world: World, policy: Policy = LOOSE, *, urgent: bool = True) -> Verdict:
    """The verdict on a way out of an arm that breaks a limit."""
    return look(made(world), case(policy=policy, urgent=urgent))


def test_a_healthy_way_out_of_a_failing_arm_is_promoted() -> None:
    healing = replace(GOOD, failure=(0.2, 0.005))

    verdict = escape(healing)

    assert (verdict.outcome, verdict.stage_outcome) == (Outcome.PASS, Outcome.PASS)
    assert not verdict.page
    assert "an urgent change needs no gain: failed requests: better than" in verdict.sentence
    assert escape(healing, urgent=False).reason is Reason.CONTROL_SICK


def test_a_way_out_of_bad_answers_may_cost_more() -> None:
    dearer = replace(GOOD, quality=(0.3, 0.9), cost_usd=(0.005, 0.015))

    verdict = escape(dearer)

    assert (verdict.outcome, verdict.reason) == (Outcome.PASS, Reason.NONE)
    assert "cost_usd" not in by_metric(verdict)
    assert escape(dearer, urgent=False).reason is Reason.GOAL_MISSED


@pytest.mark.parametrize(
    "worse",
    [
        replace(GOOD, failure=(0.2, 0.4)),
        replace(GOOD, failure=(0.01, 0.06)),
        replace(GOOD, quality=(0.3, 0.15)),
        replace(GOOD, failure=(0.2, 1.0)),
    ],
    ids=["than a sick control", "failures", "quality", "dead"],
)
def test_an_urgent_canary_that_is_worse_is_rolled_back(worse: World) -> None:
    assert escape(worse).outcome is Outcome.FAIL


def test_an_urgent_canary_as_sick_as_its_control_holds_and_pages() -> None:
    verdict = escape(replace(GOOD, failure=(0.2, 0.15)))

    assert (verdict.outcome, verdict.stage_outcome) == (Outcome.INCONCLUSIVE,) * 2
    assert verdict.reason is Reason.CONTROL_SICK
    assert verdict.page
    assert "and so does the canary: held, a person is needed" in verdict.sentence


def test_a_way_out_of_a_failing_arm_that_harms_otherwise_holds_and_pages() -> None:
    verdict = escape(replace(GOOD, failure=(0.2, 0.005), quality=(0.9, 0.6)))

    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, Reason.CONTROL_SICK)
    assert verdict.page
    assert "but quality fell by 0." in verdict.sentence


@pytest.mark.parametrize(
    ("world", "late", "reason"),
    [
        (World(failure=(0.2, 0.005), requests=(200.0, 150.0)), HOUR, Reason.SRM),
        (World(failure=(0.2, 0.005)), LOOSE.data_lag_max * 1.1, Reason.STALE),
        (World(failure=(0.2, 0.005), requests=(40.0, 40.0)), HOUR, Reason.MIN_SAMPLE),
    ],
    ids=["split", "age", "floor"],
)
def test_urgency_excuses_no_doubtful_data(world: World, late: timedelta, reason: Reason) -> None:
    strict = replace(LOOSE, stages=(replace(LOOSE.stages[0], min_requests=2_000),))
    given = case(policy=strict if reason is Reason.MIN_SAMPLE else LOOSE, urgent=True)

    verdict = look(made(world), given, late=late)

    assert (verdict.outcome, verdict.reason) == (Outcome.INCONCLUSIVE, reason)


def test_a_promoted_way_out_stays_and_calls_nobody() -> None:
    given = case(policy=LOOSE, urgent=True, state=State.DEPLOYED, stage=3, deployed_at=T0)
    world = World(failure=(0.2, 0.005), requests=(20.0, 380.0), cost_usd=(0.005, 0.015))

    verdict = look(made(world, windows=48), given, windows=48)

    assert verdict.outcome in {Outcome.PASS, Outcome.INCONCLUSIVE}
    assert verdict.reason is not Reason.CONTROL_SICK
    assert not verdict.page
