"""The planner of a rollout: a decision and its verdict in, the next step out; pure.

It keeps these laws. Harm that is proven rolls back at once: before timers, and while paused, frozen
or gated. Nothing that was not measured promotes: INCONCLUSIVE and NO_DATA hold, and every hold of a
canary ends in a roll-back. A pause or a freeze stops starts, advances, promotions and settlements
(which release the holdback), never a roll-back. A run that dies after any step plans the rest anew.

::

    PENDING -VALIDATE-> VALIDATING -+-ASK_APPROVAL-> AWAITING_APPROVAL -+-CANCEL-> CANCELLED #
                                    +----------START--------------------+-START-> DEPLOYING
    DEPLOYING -ADVANCE-> DEPLOYING -PROMOTE-> DEPLOYED -WATCH-> MONITORING -SETTLE-> COMPLETED #
    DEPLOYING, DEPLOYED, MONITORING -ROLL_BACK-> ROLLING_BACK -FINISH_ROLLBACK-> ROLLED_BACK #
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType

from optimizer.allocation import Allocation, canary, whole
from optimizer.decision import Decision, State
from optimizer.evidence import Outcome, Reason, Verdict
from optimizer.policy import Policy


class Move(Enum):
    """What a step does."""

    HOLD = "hold"
    """nothing changes"""
    VALIDATE = "validate"
    """the decision is to be checked against its policy"""
    ASK_APPROVAL = "ask_approval"
    """a person is asked"""
    START = "start"
    """the first stage's split is applied"""
    ADVANCE = "advance"
    """the next stage's split is applied"""
    PROMOTE = "promote"
    """all traffic but the holdback goes to the candidate"""
    WATCH = "watch"
    """the actual impact is measured against the holdback; the split stays"""
    SETTLE = "settle"
    """the holdback is released; the candidate is the baseline"""
    ROLL_BACK = "roll_back"
    """the snapshot is restored"""
    FINISH_ROLLBACK = "finish_rollback"
    """the snapshot is restored (again) and proven by reading back"""
    CANCEL = "cancel"
    """the decision ends before it got traffic"""


APPLIES_SPLIT = frozenset({Move.START, Move.ADVANCE, Move.PROMOTE, Move.SETTLE})
"""Moves for which :func:`split` names the allocation; WATCH keeps the one in force, and a roll-back
restores the snapshot's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The next step of a decision.

    ``to`` and ``stage`` are what the decision becomes once the step is done and proven; they equal
    the decision's own where the step changes nothing of them. ``abort_to`` is the final state a
    roll-back leads to. ``reason`` is a sentence for the log.
    """

    move: Move
    to: State
    stage: int
    reason: str
    abort_to: State | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tick:
    """What one tick knows."""

    decision: Decision
    verdict: Verdict | None
    policy: Policy
    now: datetime
    blocked: str
    approved: bool | None
    exploration_spent_usd: float

    def since(self, moment: datetime | None) -> timedelta:
        """Time from ``moment`` to now; zero where it is not known."""
        return self.now - moment if moment is not None else timedelta(0)

    def step(
        self, move: Move, reason: str, to: State | None = None, stage: int | None = None
    ) -> Step:
        """A step from here."""
        return Step(
            move=move,
            to=to if to is not None else self.decision.state,
            stage=stage if stage is not None else self.decision.stage,
            reason=reason,
        )

    def hold(self, reason: str) -> Step:
        """Stay."""
        return self.step(Move.HOLD, reason)


def plan(
    decision: Decision,
    verdict: Verdict | None,
    policy: Policy,
    *,
    now: datetime,
    paused: bool = False,
    approved: bool | None = None,
    guard_only: bool = False,
    exploration_spent_usd: float = 0.0,
) -> Step:
    """The next step, one at a time; the same arguments give the same step.

    Args:
        decision: in any state. In VALIDATING it has passed its validation.
        verdict: the judge's latest word on it; None where it was not judged.
        policy: the target's limits.
        now: the time of this tick, aware UTC.
        paused: whether an operator paused the target, or all.
        approved: a person's answer; None where there is none. ``decision.approved_by`` counts too.
        guard_only: plan only HOLD, ROLL_BACK or FINISH_ROLLBACK.
        exploration_spent_usd: what canaries of untried arms have cost the target today, USD.

    Raises:
        ValueError: the verdict is about another decision.
    """
    if verdict is not None and verdict.decision_id != decision.id:
        raise ValueError(f"verdict on {verdict.decision_id} given for decision {decision.id}")
    freeze = policy.frozen_at(now)
    blocked = "the target is paused" if paused else ""
    if freeze is not None and not blocked:
        blocked = f"changes are frozen until {freeze.end.isoformat()}: {freeze.reason}".rstrip(": ")
    tick = _Tick(
        decision=decision,
        verdict=verdict,
        policy=policy,
        now=now,
        blocked=blocked,
        approved=True if decision.approved_by is not None and approved is None else approved,
        exploration_spent_usd=exploration_spent_usd,
    )
    if decision.state.holds_traffic:
        protective = _protect(tick)
        if protective is not None:
            return protective
    if guard_only:
        return tick.hold("the guard only protects")
    return _PROGRESS.get(decision.state, _stay)(tick)


def roll_back(decision: Decision, reason: str, *, abort_to: State = State.ROLLED_BACK) -> Step:
    """The step that ends a decision now, from any state that is not final, without analysis.

    A decision without traffic is cancelled; one that holds traffic is rolled back first and then
    becomes ``abort_to`` (ROLLED_BACK, or CANCELLED for a cancellation).

    Raises:
        ValueError: the decision is final.
    """
    if decision.state.is_final:
        raise ValueError(f"decision {decision.id} is final: {decision.state.value}")
    if not decision.state.holds_traffic:
        return Step(move=Move.CANCEL, to=State.CANCELLED, stage=decision.stage, reason=reason)
    if decision.state is State.ROLLING_BACK:
        return _finish(decision)
    return Step(
        move=Move.ROLL_BACK,
        to=State.ROLLING_BACK,
        stage=decision.stage,
        reason=reason,
        abort_to=abort_to,
    )


def needs_approval(decision: Decision, policy: Policy) -> bool:
    """Whether a person must agree before the decision starts."""
    return policy.approval_reason(decision.expected.daily_saving_usd) is not None


def stage_share(decision: Decision, policy: Policy, stage: int) -> float:
    """The canary's share in a stage; the first one of an exploratory decision is capped."""
    share = policy.stages[stage].share
    return min(share, policy.exploration_share) if decision.exploratory and stage == 0 else share


def split(decision: Decision, policy: Policy, step: Step, *, generation: int) -> Allocation | None:
    """The allocation a step asks for; None where it asks for none (see ``APPLIES_SPLIT``).

    In every stage the control is ``control_ratio`` times the canary. After promotion the old
    baseline keeps the holdback as concurrent control; without one the candidate gets everything.
    """
    if step.move not in APPLIES_SPLIT:
        return None
    held = policy.holdback_share
    if step.move is Move.SETTLE or (step.move is Move.PROMOTE and held == 0):
        return whole(decision.target, decision.candidate, generation=generation)
    share = 1.0 - held if step.move is Move.PROMOTE else stage_share(decision, policy, step.stage)
    return canary(
        decision.target,
        baseline=decision.baseline,
        candidate=decision.candidate,
        share=share,
        control_share=held if step.move is Move.PROMOTE else share * policy.control_ratio,
        generation=generation,
        salt=decision.salt,
        decision_id=decision.id,
    )


def _finish(decision: Decision) -> Step:
    return Step(
        move=Move.FINISH_ROLLBACK,
        to=decision.abort_to or State.ROLLED_BACK,
        stage=decision.stage,
        reason=decision.reason or "the snapshot is being restored",
        abort_to=decision.abort_to or State.ROLLED_BACK,
    )


def _protect(tick: _Tick) -> Step | None:
    """The roll-back that is due now, if any."""
    decision, verdict = tick.decision, tick.verdict
    if decision.state is State.ROLLING_BACK:
        return _finish(decision)
    if verdict is not None and verdict.outcome is Outcome.FAIL:
        return roll_back(decision, verdict.sentence)
    entered, limit = _expiry(tick)
    if tick.since(entered) > limit:
        hours = limit.total_seconds() / 3600
        return roll_back(decision, f"expired without evidence: held for more than {hours:g} h")
    return None


def _expiry(tick: _Tick) -> tuple[datetime | None, timedelta]:
    """Since when, and how long at most, the decision may stay where it is.

    A canary may not stay in a stage at all; a promoted arm only while nothing is measured, because
    its evidence is in and only the settlement is open.
    """
    decision, policy = tick.decision, tick.policy
    if decision.state is State.DEPLOYING:
        return decision.stage_entered_at, policy.hold_expires_after
    if _measured(tick):
        return None, policy.hold_expires_after
    planned = _settling(policy) if decision.state is State.MONITORING else timedelta(0)
    return decision.deployed_at, planned + policy.hold_expires_after


def _settling(policy: Policy) -> timedelta:
    """Time from promotion until labels of the whole settling time are mature."""
    return policy.settle_after + policy.label_maturity


def _measured(tick: _Tick) -> bool:
    """Whether fresh data of a promoted arm were seen.

    Without a holdback there is no control to compare with, and nothing to wait for.
    """
    if tick.policy.holdback_share == 0:
        return True
    verdict = tick.verdict
    return (
        verdict is not None
        and min(verdict.n_canary, verdict.n_control) > 0
        and verdict.reason not in _UNTRUSTED
    )


def _unmeasured(tick: _Tick) -> str:
    """What is missing for a promoted arm to count as measured."""
    verdict = tick.verdict
    return "not judged since the promotion" if verdict is None else verdict.sentence


_UNTRUSTED = frozenset({Reason.STALE, Reason.SRM, Reason.NON_FINITE})
"""Reasons for which the data themselves say nothing."""


def _stay(tick: _Tick) -> Step:
    return tick.hold(f"the decision is final: {tick.decision.state.value}")


def _pending(tick: _Tick) -> Step:
    if tick.since(tick.decision.created_at) > tick.policy.hold_expires_after:
        return tick.step(Move.CANCEL, "expired before it was validated", State.CANCELLED)
    return tick.step(Move.VALIDATE, "to be checked against the policy", State.VALIDATING)


def _validated(tick: _Tick) -> Step:
    decision, policy = tick.decision, tick.policy
    if tick.since(decision.created_at) > policy.hold_expires_after:
        return tick.step(Move.CANCEL, "expired before it could start", State.CANCELLED)
    if needs_approval(decision, policy) and tick.approved is not True:
        if tick.approved is False:
            return tick.step(Move.CANCEL, "rejected", State.CANCELLED)
        return tick.step(Move.ASK_APPROVAL, "a person must agree", State.AWAITING_APPROVAL)
    return _start(tick)


def _awaiting(tick: _Tick) -> Step:
    approval, asked = tick.policy.approval, tick.decision.approval_asked_at
    if tick.approved is False:
        return tick.step(Move.CANCEL, "rejected", State.CANCELLED)
    # An approval is for now: one that could not be used for a whole hold lapses too.
    open_for = approval.expires_after
    if tick.approved is True:
        open_for += tick.policy.hold_expires_after
    if tick.since(asked) > open_for:
        return tick.step(Move.CANCEL, "the approval expired", State.CANCELLED)
    if tick.approved is None:
        return tick.hold("awaiting approval")
    return _start(tick)


def _start(tick: _Tick) -> Step:
    decision, policy = tick.decision, tick.policy
    if decision.exploratory and policy.exploration_share == 0:
        return tick.step(Move.CANCEL, "the policy allows no exploration", State.CANCELLED)
    if tick.blocked:
        return tick.hold(tick.blocked)
    share = stage_share(decision, policy, 0)
    return tick.step(Move.START, f"the canary gets {share:.1%}", State.DEPLOYING, 0)


def _ramp(tick: _Tick) -> Step:
    """The canary's next stage, or its promotion."""
    decision, policy, verdict = tick.decision, tick.policy, tick.verdict
    if decision.stage < 0:
        return _start(tick)
    waiting = _waiting(tick)
    if waiting or verdict is None:
        return tick.hold(waiting or "not judged yet")
    following = decision.stage + 1
    if following < len(policy.stages):
        share = stage_share(decision, policy, following)
        reason = f"no harm seen: the canary gets {share:.1%}"
        return tick.step(Move.ADVANCE, reason, stage=following)
    if verdict.outcome is not Outcome.PASS:
        return tick.hold(verdict.sentence)
    return tick.step(Move.PROMOTE, verdict.sentence, State.DEPLOYED)


def _waiting(tick: _Tick) -> str:
    """What the canary's stage waits for; empty where its time has come."""
    decision, policy, verdict = tick.decision, tick.policy, tick.verdict
    if tick.blocked:
        return tick.blocked
    if verdict is not None and verdict.stage_outcome is not Outcome.PASS:
        return verdict.sentence
    bake = policy.stages[decision.stage].bake_time
    if decision.stage_entered_at is None or tick.since(decision.stage_entered_at) < bake:
        return f"baking for {bake}"
    limit, spent = policy.budget.exploration_daily_usd, tick.exploration_spent_usd
    if decision.exploratory and limit is not None and spent >= limit:
        return f"exploration spent {spent:.4g} USD today, limit {limit:g}"
    return ""


def _deployed(tick: _Tick) -> Step:
    bake = tick.policy.stages[-1].bake_time
    if not _measured(tick):
        return tick.hold(_unmeasured(tick))
    if tick.decision.deployed_at is None or tick.since(tick.decision.deployed_at) < bake:
        return tick.hold(f"baking for {bake}")
    return tick.step(Move.WATCH, "no harm seen at full share", State.MONITORING)


def _monitoring(tick: _Tick) -> Step:
    wait = _settling(tick.policy)
    if tick.blocked:
        return tick.hold(tick.blocked)
    if not _measured(tick):
        return tick.hold(_unmeasured(tick))
    if tick.decision.deployed_at is None or tick.since(tick.decision.deployed_at) < wait:
        return tick.hold(f"measuring against the holdback for {wait}")
    return tick.step(Move.SETTLE, "the holdback is released", State.COMPLETED)


_PROGRESS: Mapping[State, Callable[[_Tick], Step]] = MappingProxyType(
    {
        State.PENDING: _pending,
        State.VALIDATING: _validated,
        State.AWAITING_APPROVAL: _awaiting,
        State.DEPLOYING: _ramp,
        State.DEPLOYED: _deployed,
        State.MONITORING: _monitoring,
    }
)
