"""Evaluate: judge what is in flight and plan each decision's next step. Reads only."""

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import pandas as pd

from optimizer.decision import TRAFFIC, Decision, State
from optimizer.errors import DataError
from optimizer.evidence import DecisionId, Verdict
from optimizer.judge import Case, judge
from optimizer.loop.decide import ALL, exploration_spent
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.tell import page_of, tell
from optimizer.metrics import DAY_S, GRAIN_S, HOUR_S, at, floor_s
from optimizer.ports import Look
from optimizer.rollout import Move, Step, plan, roll_back

_LOG = logging.getLogger(__name__)

IN_FLIGHT = tuple(state for state in State if not state.is_final)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """One decision, what the judge says of it, and the step that is due."""

    decision: Decision
    verdict: Verdict | None
    step: Step

    @property
    def is_due(self) -> bool:
        """Whether something must be done."""
        return self.step.move is not Move.HOLD


def data_until(equipment: Equipment, as_of: datetime) -> datetime:
    """End of the newest window that is closed and aggregated, aware UTC."""
    closed = floor_s(as_of - equipment.lateness)
    newest = equipment.ledger.aggregates.newest_s(GRAIN_S)
    return at(closed if newest is None else min(closed, newest + GRAIN_S))


def grains_for(
    equipment: Equipment, decisions: Sequence[Decision], until: datetime
) -> pd.DataFrame:
    """Control and canary grains of those decisions, from the oldest evidence on."""
    starts = [d.evidence_from for d in decisions if d.evidence_from is not None]
    start = min(starts, default=until)
    return equipment.ledger.aggregates.load(
        GRAIN_S,
        start_s=floor_s(start),
        end_s=int(until.timestamp()),
        targets=sorted({decision.target for decision in decisions}),
        slices=["canary", "control"],
    )


def complete_until(
    equipment: Equipment, decisions: Sequence[Decision], as_of: datetime
) -> Mapping[str, datetime]:
    """:func:`delivered_until` for the targets of those decisions."""
    return delivered_until(equipment, sorted({d.target for d in decisions}), as_of)


def delivered_until(
    equipment: Equipment, targets: Sequence[str], as_of: datetime
) -> Mapping[str, datetime]:
    """Up to when each configured target has all of its data, aware UTC, at most `data_until`.

    Everything up to the oldest of the sources' newest rows has been delivered. Beyond that only a
    target's own rows show that its source came so far; where there are none, a source that lags
    behind must not pass for a quiet hour. Sources that never delivered are not waited for.
    """
    closed = data_until(equipment, as_of)
    states = [equipment.ledger.intake.cursor(source.name) for source in equipment.sources]
    newest = [state.newest_s for state in states if state.newest_s is not None]
    mark = min(closed, at(min(newest, default=floor_s(closed)) // GRAIN_S * GRAIN_S))
    until = dict.fromkeys(targets, mark)
    lags = [equipment.policies[name].data_lag_max for name in targets]
    if mark == closed or not lags:
        return until
    # What is older than the longest lag is stale anyway, however old it is.
    start_s = max(floor_s(mark), floor_s(closed - max(lags)) - GRAIN_S)
    rows = equipment.ledger.aggregates.load(
        GRAIN_S, start_s=start_s, end_s=floor_s(closed), targets=targets
    )
    for target, start in rows.groupby("target", observed=True)["window_start_s"].max().items():
        until[str(target)] = max(mark, at(int(start) + GRAIN_S))
    return until


def assess(
    equipment: Equipment,
    *,
    acting: Acting,
    as_of: datetime,
    guard_only: bool = False,
    decisions: Sequence[Decision] | None = None,
) -> tuple[Assessment, ...]:
    """Judge and plan every decision in flight, or just those given.

    One whose target or arm left the configuration is ended: it can no longer be judged, and a
    canary that nobody watches must not stay.
    """
    in_flight = [
        decision
        for decision in (
            equipment.ledger.decisions.find(states=IN_FLIGHT) if decisions is None else decisions
        )
        if not decision.state.is_final
    ]
    gone = {d.id: why for d in in_flight if (why := equipment.departed(d))}
    present = [_within_stages(equipment, d) for d in in_flight if d.id not in gone]
    verdicts = _verdicts(equipment, present, now=acting.now, as_of=as_of, looking=not guard_only)
    pauses = equipment.ledger.effects.paused()
    spent = _exploration(equipment, present, as_of)
    steps = {
        decision.id: plan(
            decision,
            verdicts.get(decision.id),
            equipment.policies[decision.target],
            now=acting.now,
            paused=ALL in pauses or decision.target in pauses,
            guard_only=guard_only,
            exploration_spent_usd=spent.get(decision.target, 0.0),
        )
        for decision in present
    }
    return tuple(
        Assessment(
            decision=decision,
            verdict=verdicts.get(decision.id),
            step=_leave(decision, gone[decision.id], guard_only=guard_only)
            if decision.id in gone
            else steps[decision.id],
        )
        for decision in in_flight
    )


def _exploration(
    equipment: Equipment, decisions: Sequence[Decision], as_of: datetime
) -> Mapping[str, float]:
    """What canaries of untried arms have cost today, USD per target that has a budget for them."""
    limited = [
        d
        for d in decisions
        if d.exploratory and equipment.policies[d.target].budget.exploration_daily_usd is not None
    ]
    if not limited:
        return {}
    hours = equipment.ledger.aggregates.load(
        HOUR_S,
        start_s=floor_s(as_of, DAY_S),
        end_s=int(as_of.timestamp()),
        targets=sorted({d.target for d in limited}),
        slices=["canary"],
    )
    return exploration_spent(limited, hours, as_of)


def _within_stages(equipment: Equipment, decision: Decision) -> Decision:
    """The decision at the last stage there is, where stages were taken out of its policy."""
    last = len(equipment.policies[decision.target].stages) - 1
    return replace(decision, stage=last) if decision.stage > last else decision


def _leave(decision: Decision, why: str, *, guard_only: bool) -> Step:
    """The end of a decision whose target or arm left the configuration."""
    if guard_only and not decision.state.holds_traffic:
        return Step(
            move=Move.HOLD,
            to=decision.state,
            stage=decision.stage,
            reason="the guard only protects",
        )
    if decision.state is State.VALIDATING:
        return Step(move=Move.CANCEL, to=State.VALIDATION_FAILED, stage=decision.stage, reason=why)
    return roll_back(decision, why)


def _verdicts(
    equipment: Equipment,
    decisions: Sequence[Decision],
    *,
    now: datetime,
    as_of: datetime,
    looking: bool,
) -> dict[DecisionId, Verdict]:
    judged = [d for d in decisions if d.state in TRAFFIC and d.evidence_from is not None]
    if not judged:
        return {}
    until = complete_until(equipment, judged, as_of)
    groups: dict[datetime, list[Decision]] = defaultdict(list)
    for decision in judged:
        groups[until[decision.target]].append(decision)
    found: dict[DecisionId, Verdict] = {}
    for moment, group in groups.items():
        try:
            found |= _judge(equipment, group, now=now, until=moment, looking=looking)
        except DataError:
            for decision in group:
                found |= _judge_alone(equipment, decision, now=now, until=moment, looking=looking)
    return found


def _judge_alone(
    equipment: Equipment, decision: Decision, *, now: datetime, until: datetime, looking: bool
) -> dict[DecisionId, Verdict]:
    """The verdict on one decision; none where its data contradict themselves: it is held."""
    try:
        return _judge(equipment, [decision], now=now, until=until, looking=looking)
    except DataError as error:
        _LOG.error("%s of %s cannot be judged: %s", decision.id, decision.target, error)
        return {}


def _judge(
    equipment: Equipment,
    decisions: Sequence[Decision],
    *,
    now: datetime,
    until: datetime,
    looking: bool,
) -> dict[DecisionId, Verdict]:
    anchors = equipment.ledger.decisions.anchors()
    spent = equipment.ledger.decisions.spent([decision.id for decision in decisions])
    cases = [
        Case(
            decision=decision,
            policy=equipment.policies[decision.target],
            spent=spent.get(decision.id, ()),
            anchors=anchors,
        )
        for decision in decisions
    ]
    grains = grains_for(equipment, decisions, until)
    return judge(cases, grains, now=now, data_until=until, looking=looking)


def record_looks(
    equipment: Equipment, assessments: Sequence[Assessment], *, acting: Acting
) -> None:
    """Store every verdict with the move it led to; the same look twice changes nothing.

    A verdict that asks for a person is told, once for as long as it stays the same.
    """
    decisions = equipment.ledger.decisions
    for assessment in assessments:
        verdict, decision = assessment.verdict, assessment.decision
        if verdict is None:
            continue
        if verdict.page:
            before = decisions.looks(decision.id)
            said = bool(before) and before[-1].verdict.page
            if not said or before[-1].verdict.reason is not verdict.reason:
                tell(equipment, page_of(decision, verdict))
        decisions.add_look(
            Look(
                decision_id=decision.id,
                at=acting.now,
                run=acting.run_id,
                verdict=verdict,
                move=assessment.step.move.value,
                detail=assessment.step.reason,
            )
        )
