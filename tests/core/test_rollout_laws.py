"""The laws of the planner, on random histories."""

from datetime import datetime, timedelta
from enum import IntEnum

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from optimizer.decision import TRANSITIONS, Decision, State, amend, move
from optimizer.evidence import Outcome, Reason, Verdict
from optimizer.policy import Approval, Freeze, Policy, Stage
from optimizer.rollout import Move, Step, plan, roll_back
from rollouts import HOUR, T0, decision

STAGES = (
    Stage(share=0.05, bake_time=HOUR),
    Stage(share=0.2, bake_time=2 * HOUR),
    Stage(share=0.5, bake_time=HOUR),
)
FREEZE = Freeze(start=T0 + 5 * HOUR, end=T0 + 7 * HOUR)
SWITCHES = {Move.START, Move.ADVANCE, Move.PROMOTE, Move.SETTLE}


class Boldness(IntEnum):
    """How much a move trusts the candidate."""

    AWAY = 0
    STAY = 1
    ON = 2


BOLDNESS = {
    Move.ROLL_BACK: Boldness.AWAY,
    Move.FINISH_ROLLBACK: Boldness.AWAY,
    Move.CANCEL: Boldness.AWAY,
    Move.HOLD: Boldness.STAY,
}


def boldness(step: Step) -> Boldness:
    return BOLDNESS.get(step.move, Boldness.ON)


WORSE = {
    Outcome.PASS: Outcome.INCONCLUSIVE,
    Outcome.INCONCLUSIVE: Outcome.FAIL,
    Outcome.NO_DATA: Outcome.FAIL,
    Outcome.FAIL: Outcome.FAIL,
}


def verdict(of: Decision, outcome: Outcome, stage: Outcome) -> Verdict:
    return Verdict(
        decision_id=of.id,
        at=T0,
        outcome=outcome,
        stage_outcome=Outcome.FAIL if outcome is Outcome.FAIL else stage,
        reason=Reason.NONE,
        sentence="as drawn",
        n_canary=0 if outcome is Outcome.NO_DATA else 500,
    )


class Rollout(RuleBasedStateMachine):
    """Ticks with any verdict, at any time, paused or not, some of which die before they act."""

    @initialize(
        approval=st.booleans(),
        holdback=st.sampled_from([0.0, 0.05]),
        # Random ticks alone seldom reach the last stage.
        stage=st.sampled_from([-1, 0, 1, 2]),
    )
    def begin(self, *, approval: bool, holdback: float, stage: int) -> None:
        self.policy = Policy(
            stages=STAGES,
            freezes=(FREEZE,),
            holdback_share=holdback,
            approval=Approval(required=approval),
            hold_expires_after=10 * HOUR,
        )
        self.now: datetime = T0
        self.decision = decision(
            state=State.PENDING if stage < 0 else State.DEPLOYING,
            stage=stage,
            stage_entered_at=None if stage < 0 else T0,
            created_at=T0,
        )
        self.baked = set(range(stage))

    @rule(
        outcome=st.sampled_from([*Outcome, Outcome.PASS, Outcome.PASS, None]),
        stage=st.sampled_from([Outcome.PASS, Outcome.PASS, Outcome.INCONCLUSIVE]),
        minutes=st.sampled_from([0, 5, 30, 60, 60, 60, 130, 400]),
        paused=st.sampled_from([False, False, False, True]),
        approved=st.sampled_from([None, True, True, False]),
        guard_only=st.sampled_from([False, False, True]),
        dies=st.sampled_from([False, False, False, True]),
    )
    def tick(
        self,
        *,
        outcome: Outcome | None,
        stage: Outcome,
        minutes: int,
        paused: bool,
        approved: bool | None,
        guard_only: bool,
        dies: bool,
    ) -> None:
        self.now += timedelta(minutes=minutes)
        said = None if outcome is None else verdict(self.decision, outcome, stage)

        def planned(about: Verdict | None) -> Step:
            return plan(
                self.decision,
                about,
                self.policy,
                now=self.now,
                paused=paused,
                approved=approved,
                guard_only=guard_only,
            )

        step = planned(said)

        assert planned(said) == step
        stopped = paused or FREEZE.covers(self.now)
        self.check_laws(step, said, paused=stopped, guard=guard_only)
        # The laws hold for what could have been said here as well, and worse never moves further.
        for each in Outcome:
            other = verdict(self.decision, each, stage)
            self.check_laws(planned(other), other, paused=stopped, guard=guard_only)
            assert boldness(planned(verdict(self.decision, WORSE[each], stage))) <= boldness(
                planned(other)
            )
        if not dies:
            self.act(step)

    @rule()
    def cancel(self) -> None:
        if self.decision.state.holds_traffic and self.decision.stage > 1:
            self.act(roll_back(self.decision, "by hand", abort_to=State.CANCELLED))

    def check_laws(self, step: Step, said: Verdict | None, *, paused: bool, guard: bool) -> None:
        state = self.decision.state
        if state.is_final:
            assert step.move is Move.HOLD
        if state.holds_traffic and said is not None and said.outcome is Outcome.FAIL:
            assert step.move in {Move.ROLL_BACK, Move.FINISH_ROLLBACK}
        if paused or guard:
            assert step.move not in SWITCHES
        if guard:
            assert step.move in {Move.HOLD, Move.ROLL_BACK, Move.FINISH_ROLLBACK}
        if step.move is Move.PROMOTE:
            assert said is not None
            assert said.outcome is Outcome.PASS
            assert self.baked | {self.decision.stage} == set(range(len(STAGES)))
        if step.move in {Move.ADVANCE, Move.PROMOTE}:
            assert self.decision.stage_entered_at is not None
            stayed = self.now - self.decision.stage_entered_at
            assert STAGES[self.decision.stage].bake_time <= stayed
            assert stayed <= self.policy.hold_expires_after

    def act(self, step: Step) -> None:
        before = self.decision
        changes: dict[str, object] = {"stage": step.stage}
        if step.move in {Move.ADVANCE, Move.PROMOTE}:
            self.baked.add(before.stage)
        if step.move in SWITCHES:
            changes["stage_entered_at"] = self.now
        if step.move is Move.PROMOTE:
            changes["deployed_at"] = self.now
        if step.move is Move.ASK_APPROVAL:
            changes["approval_asked_at"] = self.now
        if step.move is Move.ROLL_BACK:
            changes["abort_to"] = step.abort_to
        if step.move is not Move.HOLD and step.to is before.state:
            self.decision = amend(before, **changes)
        elif step.move is not Move.HOLD:
            assert step.to in TRANSITIONS[before.state]
            self.decision = move(before, step.to, self.now, **changes)

    @invariant()
    def a_canary_never_outlives_its_hold(self) -> None:
        if self.decision.state is State.DEPLOYING and self.decision.stage_entered_at is not None:
            step = plan(
                self.decision,
                None,
                self.policy,
                now=self.decision.stage_entered_at + timedelta(hours=11),
                paused=True,
                guard_only=True,
            )
            assert step.move is Move.ROLL_BACK


Rollout.TestCase.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)
TestRollout = Rollout.TestCase
