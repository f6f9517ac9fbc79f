"""An experiment's states, its split, and what the planner makes of what it meets."""

import math
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiment_scene import ARMS, design, running
from optimizer.allocation import STEPS, SliceName, experiment
from optimizer.evidence import Outcome, Reason
from optimizer.experiment.design import Design, Rule
from optimizer.experiment.life import (
    TRANSITIONS,
    Experiment,
    ExperimentState,
    amend,
    draft,
    move,
)
from optimizer.experiment.plan import STEP, Circumstances, Step, end, plan
from optimizer.experiment.standing import Standing, even
from optimizer.recorded import IllegalTransitionError
from rollout_scene import HOUR, START, TARGET

STATES = st.sampled_from(ExperimentState)


def met(**changes: Any) -> Circumstances:  # noqa: ANN401 - fields of Circumstances
    return replace(Circumstances(now=START + HOUR, harmed={}), **changes)


def stands(leader: str | None = None, **changes: Any) -> Standing:  # noqa: ANN401 - as above
    first = Standing(
        outcome=Outcome.INCONCLUSIVE if leader is None else Outcome.PASS,
        reason=Reason.WIDE_INTERVAL if leader is None else Reason.NONE,
        sentence="so far",
        shares=(1 / 3, 1 / 3, 1 / 3),
        arms=(),
        leader=leader,
    )
    return replace(first, **changes)


CIRCUMSTANCES = st.builds(
    Circumstances,
    now=st.integers(0, 100).map(lambda hours: START + hours * HOUR),
    standing=st.none()
    | st.builds(
        stands,
        st.none() | st.sampled_from(ARMS),
        since=st.none() | st.just(START + HOUR),
        shares=st.permutations((0.6, 0.3, 0.1)).map(tuple),
    ),
    harmed=st.dictionaries(st.sampled_from(ARMS[1:]), st.just("it fails"), max_size=2),
    departed=st.sampled_from(["", "", "gone"]),
    blocked=st.sampled_from(["", "in the way"]),
    still=st.sampled_from(["", "paused"]),
    spent_usd=st.none() | st.floats(0, 2),
    restart=st.none() | st.just(START + 3 * HOUR),
    guard_only=st.booleans(),
)
DESIGNS = st.builds(
    design,
    rule=st.just(Rule.TOP_TWO),
    keep_running=st.booleans(),
    daily_budget_usd=st.none() | st.just(1.0),
    max_duration=st.just(timedelta(hours=50)),
    auto=st.booleans(),
)


@given(STATES, STATES)
def test_only_the_arrows_of_the_machine_are_walked(
    one: ExperimentState, other: ExperimentState
) -> None:
    there = replace(draft(design(), START, actor="ada"), state=one)
    if other in TRANSITIONS[one]:
        assert move(there, other, START).version == 1
    else:
        with pytest.raises(IllegalTransitionError):
            move(there, other, START)


@pytest.mark.parametrize("state", [ExperimentState.COMPLETED, ExperimentState.CANCELLED])
def test_final_is_final(state: ExperimentState) -> None:
    assert TRANSITIONS[state] == frozenset()
    assert plan(running(state=state), met(departed="gone")) is None


@given(DESIGNS, st.lists(CIRCUMSTANCES, max_size=12))
def test_whatever_it_meets_an_experiment_walks_legal_steps_and_ends_by_returning(
    asked: Design, meetings: list[Circumstances]
) -> None:
    now: Experiment = draft(asked, START, actor="ada")
    for each in meetings:
        step = plan(now, each)
        if step is None:
            continue
        after = step.after
        assert after.version == now.version + 1
        assert after.state is now.state or after.state in TRANSITIONS[now.state]
        # It never stops holding the target by itself: that takes a proof of the way back.
        if now.state.in_flight:
            assert after.state.in_flight
        assert set(now.dropped) <= set(after.dropped)
        assert after.baseline not in after.dropped
        if after.shares:
            assert math.fsum(after.shares) <= 1 + 1e-9
        if after.ends_as is not None:
            assert not after.holds_traffic
        begun = after.state.in_flight and not now.state.in_flight
        now = replace(after, baseline="large", evidence_from=START) if begun else after


@given(CIRCUMSTANCES)
def test_an_end_on_its_way_is_never_taken_back(meeting: Circumstances) -> None:
    ending = end(running(), ExperimentState.CANCELLED, "stopped").after

    assert plan(ending, meeting) is None


@given(CIRCUMSTANCES)
def test_the_guard_gives_no_arm_more_traffic_and_declares_nobody(meeting: Circumstances) -> None:
    before = running(design(daily_budget_usd=1.0))
    step = plan(before, replace(meeting, guard_only=True))

    if step is not None and not step.after.ends_as:
        assert all(new <= old for new, old in zip(step.after.shares, before.shares, strict=True))
        assert step.after.leader is None


@given(CIRCUMSTANCES)
def test_a_pause_or_a_freeze_publishes_no_new_split_but_the_way_back(
    meeting: Circumstances,
) -> None:
    before = running(design(rule=Rule.TOP_TWO, keep_running=True))
    step = plan(before, replace(meeting, still="paused", harmed={}))

    if step is not None and step.after.ends_as is None:
        assert step.after.shares == before.shares


@given(CIRCUMSTANCES)
def test_harm_comes_before_everything_but_departure(meeting: Circumstances) -> None:
    step = plan(running(), replace(meeting, departed="", harmed={"mini": "mini fails"}))

    assert step is not None
    assert step.after.dropped == ("mini",)
    assert step.after.shares[2] == 0
    assert step.severity == "critical"


def taken(experiment: Experiment, **changes: Any) -> Step:  # noqa: ANN401 - as above
    step = plan(experiment, met(**changes))
    assert step is not None
    return step


def test_a_declared_baseline_ends_it_as_well() -> None:
    after = taken(running(), standing=stands("large")).after

    assert (after.ends_as, after.winner) == (ExperimentState.COMPLETED, "large")
    assert "baseline wins" in after.reason


def test_one_that_keeps_running_names_its_leader_and_goes_on_until_its_time_is_over() -> None:
    asked = design(rule=Rule.TOP_TWO, keep_running=True)
    leaning = stands("small", shares=(0.05, 0.9, 0.05))
    leading = taken(running(asked), standing=leaning).after
    assert (leading.leader, leading.shares, leading.ends_as) == ("small", leaning.shares, None)
    assert plan(leading, met(standing=leaning)) is None

    over = met(now=START + asked.max_duration, standing=stands("small"))
    after = plan(leading, over)

    assert after is not None
    assert after.after.winner == "small"


def test_a_leader_that_is_no_longer_proven_at_the_end_wins_nothing() -> None:
    asked = design(rule=Rule.TOP_TWO, keep_running=True)
    before = running(asked, leader="small")

    after = taken(before, now=START + asked.max_duration, standing=stands()).after

    assert after.winner is None


def test_a_leader_that_is_no_longer_proven_is_named_no_more() -> None:
    asked = design(rule=Rule.TOP_TWO, keep_running=True)
    before = running(asked, leader="small", shares=(0.05, 0.9, 0.05))

    after = taken(before, standing=stands()).after

    assert (after.leader, after.shares) == (None, stands().shares)


def test_harm_takes_an_arm_out_of_a_paused_one_so_that_it_is_resumed_without_it() -> None:
    after = taken(running(state=ExperimentState.PAUSED), harmed={"mini": "mini fails"}).after

    assert (after.state, after.dropped) == (ExperimentState.PAUSED, ("mini",))
    assert after.shares[2] == 0


def test_small_moves_of_shares_are_not_published() -> None:
    asked = running(design(rule=Rule.TOP_TWO))
    near = tuple(
        share + by for share, by in zip(even(asked), (STEP / 2, -STEP / 2, 0), strict=True)
    )
    far = (0.5, 0.4, 0.1)

    assert plan(asked, met(standing=stands(shares=near))) is None
    assert taken(asked, standing=stands(shares=far)).after.shares == far


def test_the_same_question_has_the_same_id_whoever_starts_it_and_another_turn_another() -> None:
    ids = {
        draft(design(auto=auto), START, actor=actor).id
        for auto in (True, False)
        for actor in ("ada", "ben")
    }

    assert len(ids) == 1
    assert draft(design(), START, actor="ada", turn=2).id not in ids
    assert draft(design(share=0.5), START, actor="ada").id not in ids


@pytest.mark.parametrize(
    "wrong",
    [
        {"arms": ("large",)},
        {"arms": ("large", "large")},
        {"arms": tuple("abcdefghi")},
        {"metric": "cost_usd"},
        {"share": 0.0},
        {"delta": 1.0},
        {"floor": 1.1},
        {"min_duration": timedelta(days=3)},
        {"keep_running": True},
    ],
)
def test_a_design_that_makes_no_sense_cannot_be_built(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"arms|metric|share|delta|floor|min_duration|rule"):
        design(**wrong)


SPLITS = st.integers(2, 8).flatmap(
    lambda n: st.lists(st.integers(0, 1000), min_size=n, max_size=n).filter(any)
)


@given(SPLITS, st.floats(0.001, 1.0))
def test_each_arm_gets_its_share_of_the_traffic(parts: list[int], share: float) -> None:
    arms = [f"a{n}" for n in range(len(parts))]
    wanted = [part / sum(parts) for part in parts]

    made = experiment(
        TARGET, baseline="a0", arms=arms, shares=wanted, share=share, generation=1, salt="s"
    )

    for arm, each in zip(arms, wanted, strict=True):
        got = math.fsum(
            part.share
            for part in made.slices
            if part.name is SliceName.EXPERIMENT and part.arm == arm
        )
        assert got == pytest.approx(each * share, abs=len(parts) * 3 / STEPS)


@given(SPLITS, st.data())
def test_a_unit_changes_its_arm_only_where_it_must(parts: list[int], data: st.DataObject) -> None:
    others = data.draw(
        st.lists(st.integers(0, 1000), min_size=len(parts), max_size=len(parts)).filter(any)
    )
    arms = [f"a{n}" for n in range(len(parts))]

    def owner(shares: list[int], point: float) -> str:
        made = experiment(
            TARGET,
            baseline="a0",
            arms=arms,
            shares=[each / sum(shares) for each in shares],
            share=1.0,
            generation=1,
            salt="s",
        )
        return next(part.arm for part in made.slices if part.low <= point < part.high)

    zone = 1.0 / len(parts)
    for n, arm in enumerate(arms):
        kept = min(parts[n] / sum(parts), others[n] / sum(others), zone)
        if kept > 4 / STEPS:
            point = n * zone + 3 / STEPS
            assert owner(parts, point) == owner(others, point) == arm


def test_a_version_is_one_higher_after_every_change() -> None:
    assert amend(running(), leader="small").version == running().version + 1
