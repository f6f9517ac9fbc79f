"""Planned looks: when one is taken, and what it may spend."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from judging import GOOD, LOOSE, by_metric
from looking import (
    HOURLY,
    HOURS,
    LAST_STAGE,
    PLAN,
    SIMPLE,
    carried,
    end_of,
    harm_looks,
    hourly,
    made,
    planned,
    seen,
)
from optimizer.decision import State
from optimizer.evidence import Outcome, Reason, spent_until
from optimizer.judge import judge
from optimizer.judge.case import GOAL, GUARDRAIL
from optimizer.metrics import METRICS
from optimizer.policy import Guardrail, Policy, Stage
from optimizer.statistics.sequential import pocock_spending
from rollouts import HOUR, T0, World, case


def whole_error(policy: Policy, **changes: object) -> float:
    """Error of all checks of a rollout, in the canary and once promoted."""
    canary = case(policy=policy, **changes)  # type: ignore[arg-type]
    later = {"state": State.DEPLOYED, "deployed_at": T0}
    promoted = case(policy=policy, **(changes | later))  # type: ignore[arg-type]
    roles = [(rail.metric, GUARDRAIL) for rail in policy.guardrails]
    roles += [(policy.goal.metric, GOAL)] if canary.asks_goal else []
    return sum(sum(given.alphas(*role)) for given in (canary, promoted) for role in roles)


@pytest.mark.parametrize("metrics", [("quality",), ("failure_rate", "cost_usd"), METRICS])
def test_the_tests_of_a_planned_rollout_share_its_error_to_the_last_part(
    metrics: tuple[str, ...],
) -> None:
    policy = Policy(guardrails=tuple(Guardrail(metric=name, margin=0.02) for name in metrics))

    assert whole_error(policy, plan=PLAN) == pytest.approx(policy.alpha_rollback)
    assert whole_error(policy, plan=PLAN, urgent=True) < policy.alpha_rollback
    assert whole_error(policy) <= policy.alpha_rollback * (1 + 1e-12)
    assert whole_error(policy, urgent=True) < policy.alpha_rollback


def test_only_a_canary_with_a_plan_takes_planned_looks_and_failures_get_most_of_their_error() -> (
    None
):
    policy = Policy()
    planned = case(plan=PLAN)
    promoted = case(plan=PLAN, state=State.DEPLOYED, deployed_at=T0)

    looks = [planned.alphas(rail.metric, GUARDRAIL)[0] for rail in policy.guardrails]

    # The usual three guardrails and the goal of the specification: .006, .025, .006 and .003.
    assert looks == pytest.approx([0.006, 0.025, 0.006])
    assert planned.alphas("cost_usd", GOAL)[0] == pytest.approx(0.003)
    assert case().alphas("failure_rate", GUARDRAIL)[0] == 0.0
    assert promoted.alphas("failure_rate", GUARDRAIL)[0] == 0.0
    assert promoted.plan is None


@pytest.mark.parametrize(
    "world",
    [
        GOOD,
        replace(GOOD, failure=(0.02, 0.06)),
        replace(GOOD, session=6.0, icc=0.1),
        replace(GOOD, failure=(0.0, 0.0)),
    ],
    ids=["good", "failing", "sessions", "no failure"],
)
@pytest.mark.parametrize("stage", [0, LAST_STAGE])
@pytest.mark.parametrize("blip_tolerance", [False, True])
def test_the_same_look_twice_gives_the_same_verdict_and_spends_once(
    world: World,
    stage: int,
    blip_tolerance: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    policy = replace(LOOSE, blip_tolerance=blip_tolerance)
    frame, given = made(world), planned(policy, stage=stage)

    for hour in (1, 2, 5, HOURS, HOURS + 1):
        once = seen(frame, given, hour)
        given = carried(given, once)
        assert seen(frame, given, hour) == once


def test_the_guard_takes_no_look_and_keeps_what_was_spent() -> None:
    frame = made(replace(GOOD, failure=(0.02, 0.045)))
    given = carried(planned(), seen(frame, planned(), 3))

    guarded = seen(frame, given, 5, looking=False)

    assert guarded.spent == given.spent
    assert "none due now" in by_metric(guarded)["failure_rate"].method
    after = seen(frame, carried(given, guarded), 5)
    assert after == seen(frame, given, 5)
    assert after.outcome is Outcome.FAIL
    # The test without a plan, all that the guard has, does not know yet.
    assert guarded.outcome is not Outcome.FAIL


def test_a_guard_before_the_first_look_leaves_nothing_to_store() -> None:
    guarded = seen(made(GOOD), planned(), 3, looking=False)

    assert spent_until(guarded.spent) is None


def test_the_guard_still_rolls_back_on_harm_beyond_doubt() -> None:
    frame = made(replace(GOOD, failure=(0.02, 0.3)))

    assert seen(frame, planned(), 3, looking=False).outcome is Outcome.FAIL


def test_a_look_without_new_data_spends_nothing() -> None:
    frame, given = made(GOOD, hours=3), planned()
    before = seen(frame, given, 3)

    after = seen(frame, carried(given, before), 4)

    assert harm_looks(before).fractions
    assert harm_looks(after) == harm_looks(before)
    # Labels of the third hour have matured since: they are news.
    assert len(harm_looks(after, "quality").fractions) > len(
        harm_looks(before, "quality").fractions
    )


def test_a_run_that_comes_late_takes_no_look() -> None:
    frame = made(GOOD)
    given = carried(planned(), seen(frame, planned(), 4))
    more = pd.concat(
        [frame, made(GOOD, seed=8).assign(window_start_s=frame["window_start_s"] + 300)]
    )

    late = seen(more, given, 3)

    assert late.n_canary > seen(frame, given, 4).n_canary
    assert late.spent == given.spent


def test_a_look_after_missed_ones_spends_their_share() -> None:
    frame = made(GOOD)

    every = hourly(frame, planned(), range(1, 6))[-1]
    folded = hourly(frame, planned(), [1, 5])[-1]

    looks = harm_looks(folded)
    alpha = planned().alphas("failure_rate", GUARDRAIL)[0]
    assert len(looks.fractions) == 2
    assert looks.spent == harm_looks(every).spent
    assert looks.spent == pytest.approx(float(pocock_spending(looks.fractions[-1], alpha=alpha)))


def test_looks_never_go_back_and_never_spend_more_than_their_error() -> None:
    given = planned(stage=LAST_STAGE)
    verdicts = hourly(made(GOOD, hours=14), given, range(1, 15))

    for earlier, later in pairwise(verdicts):
        for old, new in zip(earlier.spent, later.spent, strict=True):
            assert new.harm.fractions[: len(old.harm.fractions)] == old.harm.fractions
            assert new.harm.spent >= old.harm.spent
            assert new.promotion.spent >= old.promotion.spent
    for spent in verdicts[-1].spent:
        assert all(np.diff((0.0, *spent.harm.fractions)) > 0)
        assert spent.harm.spent == pytest.approx(given.alphas(spent.metric, spent.role)[0])
        assert spent.promotion.spent <= given.policy.alpha_promote


def test_information_counts_the_requests_in_which_a_metric_is_known() -> None:
    shares = {"quality": 0.5, "latency_exceedance": 1.0}
    half = replace(PLAN, measured=shares)

    plain, known = (
        harm_looks(seen(made(GOOD), planned(plan=each), 4), "quality") for each in (PLAN, half)
    )

    assert known.fractions[0] == pytest.approx(2 * plain.fractions[0])


def test_evidence_that_starts_anew_has_spent_nothing() -> None:
    frame, restarted = made(GOOD), end_of(4)
    before = hourly(frame, planned(), range(1, 5))[-1]

    anew = seen(frame, carried(planned(evidence_from=restarted), before), 6)

    assert harm_looks(before).until == restarted
    assert anew == seen(frame, planned(evidence_from=restarted), 6)
    assert len(harm_looks(anew).fractions) == 1


def test_a_larger_control_brings_the_planned_end_no_nearer() -> None:
    stages = (Stage(share=0.05, bake_time=HOUR), Stage(share=0.1, bake_time=HOUR))
    wide = replace(SIMPLE, stages=stages, control_ratio=4.0)
    frame = made(World(requests=(4.0 * HOURLY, HOURLY)))

    half = seen(frame, planned(wide), HOURS // 2)

    assert harm_looks(half).fractions == pytest.approx([0.5], rel=0.06)


@pytest.mark.parametrize("traffic", [0.6, 1.5])
def test_the_planned_end_or_the_planned_information_is_the_last_look(traffic: float) -> None:
    scale = HOURLY * traffic
    frame = made(World(requests=(scale, scale)), hours=HOURS + 2)

    verdicts = hourly(frame, planned(SIMPLE), range(1, HOURS + 3))

    looks = [harm_looks(verdict) for verdict in verdicts]
    alpha = planned(SIMPLE).alphas("failure_rate", GUARDRAIL)[0]
    last = next(hour for hour, each in enumerate(looks, start=1) if each.closed)
    assert (last == HOURS) is (traffic < 1)
    assert last <= HOURS
    assert looks[last - 1].spent == pytest.approx(alpha)
    assert looks[last - 2].spent < alpha
    assert all(later == looks[last - 1] for later in looks[last:])


def test_a_case_is_judged_alike_alone_and_among_others_that_looked_more_often() -> None:
    names = ["a", "b", "c"]
    frame = made(replace(GOOD, failure=(0.02, 0.03)), targets=names)
    cases = [case(name, LOOSE, plan=PLAN, stage=LAST_STAGE) for name in names]
    hours = {"a": [1, 2, 3, 4], "b": [4], "c": []}
    before = [
        carried(each, hourly(frame, each, hours[each.decision.target])[-1])
        if hours[each.decision.target]
        else each
        for each in cases
    ]
    until = end_of(5)

    verdicts = judge(before, frame, now=until, data_until=until)

    for each in before:
        assert verdicts[each.decision.id] == seen(frame, each, 5)


def test_without_a_plan_nothing_is_spent_and_nothing_is_carried() -> None:
    frame = made(GOOD)
    promoted = planned(state=State.DEPLOYED, stage=LAST_STAGE, deployed_at=T0)

    for given in (case(policy=LOOSE), promoted):
        assert seen(frame, given, HOURS).spent == ()


def test_unusable_numbers_keep_what_was_spent() -> None:
    frame, given = made(GOOD), planned()
    given = carried(given, seen(frame, given, 3))
    broken = frame.assign(n_failed=frame["n_failed"] + frame["n"])

    verdict = seen(broken, given, 4)

    assert verdict.reason is Reason.NON_FINITE
    assert verdict.spent == given.spent
