from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from optimizer.allocation import SliceName
from optimizer.decision import Decision, State, amend, move
from optimizer.evidence import Impact, Outcome, Reason, Verdict
from optimizer.policy import Approval, Budget, Freeze, Policy, Stage
from optimizer.rollout import Move, Step, needs_approval, plan, roll_back, split
from rollouts import HOUR, T0, decision

POLICY = Policy(
    stages=(Stage(share=0.1, bake_time=HOUR), Stage(share=0.5, bake_time=2 * HOUR)),
    approval=Approval(required=True),
)
SWITCHES = {Move.START, Move.ADVANCE, Move.PROMOTE, Move.SETTLE}
PROMOTED: dict[str, Any] = {"state": State.DEPLOYED, "deployed_at": T0, "stage": 1}


def verdict(
    outcome: Outcome,
    stage: Outcome | None = None,
    reason: Reason = Reason.NONE,
    n: int = 1_000,
    of: Decision | None = None,
) -> Verdict:
    about = of or decision()
    return Verdict(
        decision_id=about.id,
        at=T0,
        outcome=outcome,
        stage_outcome=stage or outcome,
        reason=reason,
        sentence=f"the verdict is {outcome.value}",
        n_canary=n,
        n_control=n,
    )


def done(before: Decision, step: Step, now: datetime) -> Decision:
    """The decision after the step was applied and proven, as the loop records it."""
    changes: dict[str, Any] = {"stage": step.stage}
    if step.move in {Move.START, Move.ADVANCE}:
        changes |= {"stage_entered_at": now}
    if step.move is Move.PROMOTE:
        changes |= {"stage_entered_at": now, "deployed_at": now}
    if step.move is Move.ASK_APPROVAL:
        changes |= {"approval_asked_at": now}
    if step.move is Move.ROLL_BACK:
        changes |= {"abort_to": step.abort_to, "reason": step.reason}
    if step.move is Move.HOLD:
        return before
    if step.to is before.state:
        return amend(before, **changes)
    return move(before, step.to, now, **changes)


def path(start: Decision, *, hours: int = 40) -> list[Move]:
    """The moves of an hourly run in which all goes well, one tick an hour."""
    found, current = [], start
    for hour in range(hours):
        now = T0 + hour * HOUR
        step = plan(current, verdict(Outcome.PASS), POLICY, now=now, approved=True)
        current = done(current, step, now)
        found.append(step.move)
    return [each for each in found if each is not Move.HOLD]


def fresh(**changes: object) -> Decision:
    facts: dict[str, Any] = {
        "state": State.PENDING,
        "stage": -1,
        "stage_entered_at": None,
        "evidence_from": None,
        "created_at": T0,
    }
    return decision(**(facts | changes))


def test_a_good_candidate_walks_every_stage_and_settles() -> None:
    assert path(fresh()) == [
        Move.VALIDATE,
        Move.START,
        Move.ADVANCE,
        Move.PROMOTE,
        Move.WATCH,
        Move.SETTLE,
    ]


def test_a_plan_interrupted_after_any_step_continues_with_exactly_the_rest() -> None:
    whole_path = path(fresh())
    current, seen = fresh(), []

    for hour in range(40):
        now = T0 + hour * HOUR
        # The run dies before it acts; the next one plans the same step anew.
        planned = plan(current, verdict(Outcome.PASS), POLICY, now=now, approved=True)
        again = plan(current, verdict(Outcome.PASS), POLICY, now=now, approved=True)
        assert again == planned
        current = done(current, again, now)
        if planned.move is not Move.HOLD:
            seen.append(planned.move)

    assert seen == whole_path


@pytest.mark.parametrize(
    "outcome", [Outcome.INCONCLUSIVE, Outcome.NO_DATA, Outcome.FAIL], ids=lambda o: o.value
)
def test_only_a_pass_promotes(outcome: Outcome) -> None:
    last = decision(stage=1)

    step = plan(last, verdict(outcome, Outcome.PASS), POLICY, now=T0 + 5 * HOUR)

    assert step.move is (Move.ROLL_BACK if outcome is Outcome.FAIL else Move.HOLD)


def test_an_early_stage_advances_without_proof_of_no_harm() -> None:
    step = plan(decision(), verdict(Outcome.INCONCLUSIVE, Outcome.PASS), POLICY, now=T0 + HOUR)

    assert (step.move, step.to, step.stage) == (Move.ADVANCE, State.DEPLOYING, 1)


def test_nothing_advances_before_it_has_baked() -> None:
    just_before = T0 + HOUR - timedelta(seconds=1)

    step = plan(decision(), verdict(Outcome.PASS), POLICY, now=just_before)

    assert step.move is Move.HOLD


@pytest.mark.parametrize("stage", [0, 1])
def test_a_hold_expires_into_a_roll_back_even_if_it_would_pass_now(stage: int) -> None:
    held = POLICY.hold_expires_after

    inside = plan(decision(stage=stage), None, POLICY, now=T0 + held)
    expired = plan(decision(stage=stage), verdict(Outcome.PASS), POLICY, now=T0 + held + HOUR)

    assert inside.move is Move.HOLD
    assert (expired.move, expired.abort_to) == (Move.ROLL_BACK, State.ROLLED_BACK)
    assert "expired without evidence" in expired.reason


@pytest.mark.parametrize(
    "changes",
    [{"stage": 0}, {"stage": 1}, PROMOTED, PROMOTED | {"state": State.MONITORING}],
    ids=["first stage", "last stage", "deployed", "monitoring"],
)
@pytest.mark.parametrize("paused", [True, False])
@pytest.mark.parametrize("guard_only", [True, False])
def test_harm_rolls_back_at_once_from_every_state_with_traffic(
    *, changes: dict[str, Any], paused: bool, guard_only: bool
) -> None:
    frozen = replace(POLICY, freezes=(Freeze(start=T0, end=T0 + HOUR),))

    step = plan(
        decision(**changes),
        verdict(Outcome.FAIL, reason=Reason.HARM),
        frozen,
        now=T0,
        paused=paused,
        guard_only=guard_only,
    )

    assert (step.move, step.to) == (Move.ROLL_BACK, State.ROLLING_BACK)
    assert step.reason == "the verdict is fail"


def test_a_roll_back_needs_no_verdict_and_works_from_every_state() -> None:
    for state in State:
        given = decision(state=state, deployed_at=T0)
        if state.is_final:
            with pytest.raises(ValueError, match="is final"):
                roll_back(given, "by hand")
        else:
            step = roll_back(given, "by hand", abort_to=State.CANCELLED)
            ends = {Move.ROLL_BACK, Move.FINISH_ROLLBACK} if state.holds_traffic else {Move.CANCEL}
            assert step.move in ends


def test_a_cancellation_of_a_canary_ends_as_cancelled() -> None:
    step = roll_back(decision(), "not wanted", abort_to=State.CANCELLED)
    rolling = done(decision(), step, T0)

    finish = plan(rolling, None, POLICY, now=T0 + HOUR, guard_only=True)

    assert (finish.move, finish.to) == (Move.FINISH_ROLLBACK, State.CANCELLED)
    assert done(rolling, finish, T0).state is State.CANCELLED


@pytest.mark.parametrize(
    ("given", "hours"),
    [
        (fresh(state=State.VALIDATING), 0),
        (decision(), 1),
        (decision(stage=1), 2),
        (decision(**PROMOTED | {"state": State.MONITORING}), 8),
    ],
    ids=["start", "advance", "promote", "settle"],
)
@pytest.mark.parametrize("how", ["paused", "frozen"])
def test_a_pause_or_freeze_stops_what_would_happen_without_it(
    given: Decision, hours: int, how: str
) -> None:
    now = T0 + hours * HOUR
    freeze = Freeze(start=now, end=now + HOUR, reason="holidays")
    policy = replace(POLICY, freezes=(freeze,)) if how == "frozen" else POLICY

    free = plan(given, verdict(Outcome.PASS), POLICY, now=now, approved=True)
    stopped = plan(
        given, verdict(Outcome.PASS), policy, now=now, approved=True, paused=how == "paused"
    )

    assert free.move in SWITCHES
    assert stopped.move is Move.HOLD
    assert how in stopped.reason


def test_a_paused_target_in_monitoring_is_not_reverted_while_data_come_in() -> None:
    given = decision(**PROMOTED | {"state": State.MONITORING})

    step = plan(given, verdict(Outcome.PASS), POLICY, now=T0 + 500 * HOUR, paused=True)

    assert step.move is Move.HOLD


@pytest.mark.parametrize("state", [State.DEPLOYED, State.MONITORING])
def test_a_promoted_arm_that_is_never_measured_is_reverted(state: State) -> None:
    given = decision(**PROMOTED | {"state": state})
    blind = verdict(Outcome.NO_DATA, reason=Reason.NO_ROWS, n=0)

    early = plan(given, blind, POLICY, now=T0 + 8 * HOUR)
    late = plan(given, blind, POLICY, now=T0 + 32 * HOUR)

    assert (early.move, late.move) == (Move.HOLD, Move.ROLL_BACK)


def test_without_a_holdback_a_promotion_settles_by_the_clock() -> None:
    policy = replace(POLICY, holdback_share=0.0)
    given = decision(**PROMOTED | {"state": State.MONITORING})

    assert plan(given, None, policy, now=T0 + 6 * HOUR).move is Move.HOLD
    assert plan(given, None, policy, now=T0 + 7 * HOUR).move is Move.SETTLE


def test_approval_is_asked_waited_for_and_expires() -> None:
    validating = fresh(state=State.VALIDATING)

    asked = plan(validating, None, POLICY, now=T0)
    waiting = done(validating, asked, T0)

    assert asked.move is Move.ASK_APPROVAL
    assert plan(waiting, None, POLICY, now=T0 + HOUR).move is Move.HOLD
    assert plan(waiting, None, POLICY, now=T0 + HOUR, approved=True).move is Move.START
    by_name = replace(waiting, approved_by="ada")
    assert plan(by_name, None, POLICY, now=T0 + HOUR).move is Move.START
    assert plan(waiting, None, POLICY, now=T0 + HOUR, approved=False).move is Move.CANCEL
    assert plan(waiting, None, POLICY, now=T0 + 25 * HOUR).move is Move.CANCEL
    late: dict[str, Any] = {"now": T0 + 49 * HOUR, "approved": True, "paused": True}
    assert plan(waiting, None, POLICY, **late).move is Move.CANCEL


@pytest.mark.parametrize(
    ("saving", "expected"), [(None, True), (99.0, False), (101.0, True), (-101.0, True)]
)
def test_an_unknown_or_large_amount_needs_approval(*, saving: float | None, expected: bool) -> None:
    policy = replace(POLICY, approval=Approval(above_daily_usd=100.0))
    given = decision(expected=Impact(daily_saving_usd=saving))

    assert needs_approval(given, policy) is expected


@pytest.mark.parametrize("state", [State.PENDING, State.VALIDATING])
def test_a_decision_that_cannot_start_is_cancelled_in_the_end(state: State) -> None:
    step = plan(fresh(state=state), None, POLICY, now=T0 + 25 * HOUR, paused=True)

    assert step.move is Move.CANCEL


def test_the_first_stage_of_an_exploratory_decision_is_capped() -> None:
    policy = replace(POLICY, exploration_share=0.02)
    given = fresh(state=State.VALIDATING, exploratory=True)

    start = plan(given, None, policy, now=T0, approved=True)
    allocation = split(given, policy, start, generation=3)

    assert allocation is not None
    assert allocation.share(SliceName.CANARY) == pytest.approx(0.02)
    refused = plan(given, None, replace(policy, exploration_share=0.0), now=T0, approved=True)
    assert refused.move is Move.CANCEL


@pytest.mark.parametrize(
    ("held", "moved", "shares"),
    [
        (0.05, Move.ADVANCE, (0.5, 0.0, 0.5)),
        (0.05, Move.PROMOTE, (0.95, 0.0, 0.05)),
        (0.0, Move.PROMOTE, (0.0, 1.0, 0.0)),
        (0.05, Move.SETTLE, (0.0, 1.0, 0.0)),
    ],
)
def test_the_split_of_a_step(held: float, moved: Move, shares: tuple[float, ...]) -> None:
    policy = replace(POLICY, holdback_share=held)
    step = Step(move=moved, to=State.DEPLOYING, stage=1, reason="")

    allocation = split(decision(), policy, step, generation=7)

    assert allocation is not None
    names = (SliceName.CANARY, SliceName.BASELINE, SliceName.CONTROL)
    assert tuple(allocation.share(name) for name in names) == pytest.approx(shares)
    assert allocation.generation == 7
    last = allocation.slices[0]
    assert last.arm == "mini"


@pytest.mark.parametrize("moved", [Move.HOLD, Move.WATCH, Move.ROLL_BACK, Move.CANCEL])
def test_a_step_that_applies_nothing_has_no_split(moved: Move) -> None:
    step = Step(move=moved, to=State.DEPLOYING, stage=0, reason="")

    assert split(decision(), POLICY, step, generation=7) is None


def test_a_verdict_on_another_decision_is_refused() -> None:
    with pytest.raises(ValueError, match="given for decision"):
        plan(decision(), verdict(Outcome.PASS, of=decision("search")), POLICY, now=T0)


def test_a_promoted_arm_without_a_control_is_not_taken_for_measured() -> None:
    given = decision(**PROMOTED)
    alone = replace(verdict(Outcome.NO_DATA, reason=Reason.NO_ROWS), n_control=0)

    assert plan(given, alone, POLICY, now=T0 + 5 * HOUR).move is Move.HOLD


def test_an_untried_arm_gets_no_more_traffic_once_the_exploration_budget_is_spent() -> None:
    policy = replace(POLICY, budget=Budget(exploration_daily_usd=5.0))
    given = decision(exploratory=True)

    def moved(spent: float, of: Decision) -> Move:
        now = T0 + 2 * HOUR
        return plan(of, verdict(Outcome.PASS), policy, now=now, exploration_spent_usd=spent).move

    assert moved(4.9, given) is Move.ADVANCE
    assert moved(5.0, given) is Move.HOLD
    assert moved(5.0, decision()) is Move.ADVANCE
