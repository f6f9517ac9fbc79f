"""Evaluate: judge what is in flight and plan each decision's next step. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from optimizer.decision import TRAFFIC, Decision, State
from optimizer.evidence import DecisionId, Verdict
from optimizer.judge import Case, judge
from optimizer.loop.decide import ALL
from optimizer.loop.equipment import Acting, Equipment
from optimizer.metrics import GRAIN_S, at, floor_s
from optimizer.policy import Policy
from optimizer.ports import Look
from optimizer.rollout import Move, Step, plan

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


def policy_for(equipment: Equipment, decision: Decision) -> Policy | None:
    """The target's policy; None where the target left the configuration."""
    return equipment.policies.get(decision.target)


def assess(
    equipment: Equipment,
    *,
    acting: Acting,
    as_of: datetime,
    guard_only: bool = False,
    decisions: Sequence[Decision] | None = None,
) -> tuple[Assessment, ...]:
    """Judge and plan every decision in flight, or just those given.

    A decision whose target left the configuration is left out: it cannot be judged, and removing a
    target does not move its traffic (reconciliation reports it).
    """
    in_flight = [
        decision
        for decision in (
            equipment.ledger.decisions.find(states=IN_FLIGHT) if decisions is None else decisions
        )
        if decision.target in equipment.policies and not decision.state.is_final
    ]
    until = data_until(equipment, as_of)
    verdicts = _verdicts(equipment, in_flight, now=acting.now, until=until)
    pauses = equipment.ledger.effects.paused()
    return tuple(
        Assessment(
            decision=decision,
            verdict=verdicts.get(decision.id),
            step=plan(
                decision,
                verdicts.get(decision.id),
                equipment.policies[decision.target],
                now=acting.now,
                paused=ALL in pauses or decision.target in pauses,
                guard_only=guard_only,
            ),
        )
        for decision in in_flight
    )


def _verdicts(
    equipment: Equipment, decisions: Sequence[Decision], *, now: datetime, until: datetime
) -> dict[DecisionId, Verdict]:
    judged = [d for d in decisions if d.state in TRAFFIC and d.evidence_from is not None]
    if not judged:
        return {}
    anchors = equipment.ledger.decisions.anchors()
    cases = [Case(decision=d, policy=equipment.policies[d.target], anchors=anchors) for d in judged]
    grains = grains_for(equipment, judged, until)
    return judge(cases, grains, now=now, data_until=until)


def record_looks(
    equipment: Equipment, assessments: Sequence[Assessment], *, acting: Acting
) -> None:
    """Store every verdict with the move it led to; the same look twice changes nothing."""
    for assessment in assessments:
        if assessment.verdict is None:
            continue
        equipment.ledger.decisions.add_look(
            Look(
                decision_id=assessment.decision.id,
                at=acting.now,
                run=acting.run_id,
                verdict=assessment.verdict,
                move=assessment.step.move.value,
                detail=assessment.step.reason,
            )
        )
