"""Checks: answers turned into outcomes, one object a metric and case."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, log
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from optimizer.errors import DataError
from optimizer.evidence import Check, Estimate, Outcome, Reason
from optimizer.judge.case import Case
from optimizer.judge.health import unlabelled_imbalance
from optimizer.judge.means import answer_mean
from optimizer.judge.questions import GOAL, Answer, Question, questions, unknown
from optimizer.judge.shares import answer_share
from optimizer.judge.sums import CANARY, CONTROL, Sums
from optimizer.judge.wording import explain
from optimizer.metrics import MetricKind

BoolArray = npt.NDArray[np.bool_]

BROKEN = (ArithmeticError, DataError, LookupError, TypeError, ValueError)
"""What unusable numbers raise. A check that raises is INCONCLUSIVE, never dropped."""

ANSWERS: Mapping[MetricKind, Callable[[Question, Sums], Answer]] = MappingProxyType(
    {
        MetricKind.SHARE: answer_share,
        MetricKind.AMOUNT: answer_mean,
        MetricKind.SCORE: answer_mean,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """A question with its answer; ``void``: cases whose labels prove nothing, shape (n,)."""

    question: Question
    answer: Answer
    void: BoolArray


def checks(cases: Sequence[Case], sums: Sums) -> list[tuple[Check, ...]]:
    """Every case's checks: its guardrails in the policy's order, then its goal if it is asked."""
    found: list[dict[tuple[str, str], Check]] = [{} for _ in cases]
    for question in questions(cases):
        for asked in _ask(question, cases, sums):
            for row, position in enumerate(asked.question.case):
                key = (question.metric.name, question.role)
                found[position][key] = _check(asked, row, float(sums.span_h[position]))
    return [
        tuple(
            own[key]
            for key in (
                *((rail.metric, "guardrail") for rail in case.policy.guardrails),
                *([(case.policy.goal.metric, GOAL)] if case.asks_goal else []),
            )
        )
        for case, own in zip(cases, found, strict=True)
    ]


def combine(required: Sequence[Check]) -> tuple[Outcome, Check | None]:
    """The outcome of required checks together, and the check that decided it.

    Any FAIL fails; else anything not known is not known; PASS only if all pass. No checks are
    NO_DATA, never PASS.

    Examples:
        >>> combine([])
        (<Outcome.NO_DATA: 'no_data'>, None)
    """
    for outcome in (Outcome.FAIL, Outcome.NO_DATA, Outcome.INCONCLUSIVE, Outcome.PASS):
        decider = next((check for check in required if check.outcome is outcome), None)
        if decider is not None:
            return outcome, decider
    return Outcome.NO_DATA, None


def _ask(question: Question, cases: Sequence[Case], sums: Sums) -> list[_Asked]:
    """The answers; cases whose numbers break the arithmetic are cut out by halving."""
    try:
        answer = ANSWERS[question.metric.kind](question, sums)
        labelled = question.metric.kind is MetricKind.SCORE
        size = question.case.size
        void = unlabelled_imbalance(sums, question.case) if labelled else np.zeros(size, dtype=bool)
    except BROKEN:
        middle = question.case.size // 2
        if middle == 0:
            answer = unknown(question, Reason.NON_FINITE)
            return [_Asked(question=question, answer=answer, void=np.zeros(1, dtype=bool))]
        halves = (question.part(slice(middle)), question.part(slice(middle, None)))
        return [asked for half in halves for asked in _ask(half, cases, sums)]
    return [_Asked(question=question, answer=answer, void=void)]


def _known(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _outcome(asked: _Asked, row: int) -> tuple[Outcome, Reason]:
    question, answer = asked.question, asked.answer
    lacking: Reason = answer.lacking[row]
    if asked.void[row]:
        return Outcome.INCONCLUSIVE, Reason.LABELS_IMBALANCED
    if answer.harm.lower[row] > question.tolerance[row]:
        goal = question.role == GOAL
        return Outcome.FAIL, Reason.GOAL_MISSED if goal else Reason.HARM
    if lacking is Reason.NO_ROWS:
        return Outcome.NO_DATA, lacking
    if lacking is not Reason.NONE:
        return Outcome.INCONCLUSIVE, lacking
    spent = question.role != GOAL and question.margin[row] <= 0
    if not spent and answer.harm.upper[row] < question.margin[row]:
        return Outcome.PASS, Reason.NONE
    return Outcome.INCONCLUSIVE, Reason.WIDE_INTERVAL


def _check(asked: _Asked, row: int, span_h: float) -> Check:
    question, answer = asked.question, asked.answer
    outcome, reason = _outcome(asked, row)
    harm = answer.harm
    check = Check(
        metric=question.metric.name,
        role=question.role,
        outcome=outcome,
        reason=reason,
        harm=_known(harm.value[row]),
        harm_lower=_known(harm.lower[row]),
        harm_upper=_known(harm.upper[row]),
        variance=_known(harm.variance[row]),
        margin=float(question.margin[row]),
        tolerance=float(question.tolerance[row]),
        relative=bool(question.relative[row]),
        estimate=_estimate(asked, row),
        method=_method(asked, row),
    )
    needed = _known(answer.needed[row])
    rate = float(answer.rows[row].min()) / span_h if span_h > 0 else 0.0
    hours = needed / rate if needed is not None and rate > 0 else None
    return replace(check, detail=explain(check, needed=needed, hours=hours))


def _method(asked: _Asked, row: int) -> str:
    """Which test decided; the count test with its e-value and the bar that proves harm."""
    log_e, method = float(asked.answer.log_e[row]), str(asked.answer.method[row])
    if not isfinite(log_e):
        return method
    bar = -log(asked.question.alpha_lower[row])
    return f"{method}: log e-value {log_e:.2f}, harm is proven above {bar:.2f}"


def _estimate(asked: _Asked, row: int) -> Estimate:
    """The effect, canary against control, in the metric's own direction."""
    question, answer = asked.question, asked.answer
    sign, harm = question.metric.direction.harm_sign, answer.harm
    ends = [sign * harm.lower[row], sign * harm.upper[row]]
    relative = question.relative[row]
    return Estimate(
        metric=question.metric.name,
        unit="relative to control" if relative else question.metric.unit,
        effect=_known(sign * harm.value[row]),
        lower=_known(ends[0] if sign > 0 else ends[1]),
        upper=_known(ends[1] if sign > 0 else ends[0]),
        canary=_known(answer.canary[row]),
        control=_known(answer.control[row]),
        n_canary=int(answer.rows[row, CANARY]),
        n_control=int(answer.rows[row, CONTROL]),
        confidence=1.0 - float(question.alpha_upper[row]),
        method=str(answer.method[row]),
    )
