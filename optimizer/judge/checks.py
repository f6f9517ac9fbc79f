"""Checks: answers turned into outcomes, one object a metric and case."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat, starmap
from math import isfinite
from types import MappingProxyType
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.errors import DataError
from optimizer.evidence import Check, Estimate, Looks, Outcome, Reason, Spent
from optimizer.judge.bulk import build
from optimizer.judge.case import GOAL, GUARDRAIL, Case
from optimizer.judge.health import unlabelled_imbalance
from optimizer.judge.means import answer_mean, first_reason
from optimizer.judge.questions import Answer, Question, questions, unknown
from optimizer.judge.shares import answer_share
from optimizer.judge.sums import CANARY, CONTROL, Sums
from optimizer.judge.wording import explain
from optimizer.metrics import MetricKind

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Objects = npt.NDArray[np.object_]

BROKEN = (ArithmeticError, DataError, LookupError, TypeError, ValueError)
"""What unusable numbers raise. A check that raises is INCONCLUSIVE, never dropped."""

_WORST_FIRST: Final = (Outcome.FAIL, Outcome.NO_DATA, Outcome.INCONCLUSIVE, Outcome.PASS)

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


def checks(
    cases: Sequence[Case], sums: Sums, *, until: datetime, looking: bool
) -> list[tuple[tuple[Check, ...], tuple[Spent, ...]]]:
    """Every case's checks: its guardrails in the policy's order, then its goal if it is asked.

    With them comes what the planned looks of each have spent, this one included.
    """
    since = [case.evidence_from for case in cases]
    made: dict[tuple[str, str], list[Check | None]] = {}
    spent: dict[tuple[str, str], list[Spent | None]] = {}
    for question in questions(cases, until=until, looking=looking):
        key = (question.metric.name, question.role)
        made[key], spent[key] = [None] * len(cases), [None] * len(cases)
        for asked in _ask(question, cases, sums):
            positions = asked.question.case.tolist()
            span_h = sums.span_h[asked.question.case].tolist()
            columns = (positions, _checks(asked, span_h), _spent(asked, since))
            for position, check, looks in zip(*columns, strict=True):
                made[key][position], spent[key][position] = check, looks
    # Cases of one policy have the same checks, and looking up where these stand is slow.
    held: dict[tuple[int, bool], tuple[list[list[Check | None]], list[list[Spent | None]]]] = {}
    found = []
    for position, case in enumerate(cases):
        kind = (id(case.policy), case.asks_goal)
        if kind not in held:
            keys = _keys(case)
            held[kind] = ([made[key] for key in keys], [spent[key] for key in keys])
        own = [column[position] for column in held[kind][0]]
        looks_of = [column[position] for column in held[kind][1]]
        found.append((tuple(filter(None, own)), tuple(filter(None, looks_of))))
    return found


def _keys(case: Case) -> list[tuple[str, str]]:
    """Metric and role of each of a case's checks, in their order."""
    keys = [(rail.metric, GUARDRAIL) for rail in case.policy.guardrails]
    return [*keys, (case.policy.goal.metric, GOAL)] if case.asks_goal else keys


def combine(required: Sequence[Check]) -> tuple[Outcome, Check | None]:
    """The outcome of required checks together, and the check that decided it.

    Any FAIL fails; else anything not known is not known; PASS only if all pass. No checks are
    NO_DATA, never PASS.

    Examples:
        >>> combine([])
        (<Outcome.NO_DATA: 'no_data'>, None)
    """
    outcomes = [check.outcome for check in required]
    for outcome in _WORST_FIRST:
        if outcome in outcomes:
            return outcome, required[outcomes.index(outcome)]
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


def _known(values: FloatArray) -> list[float | None]:
    """The values; None where one is not finite."""
    held: list[float | None] = values.tolist()
    for row in np.flatnonzero(~np.isfinite(values)).tolist():
        held[row] = None
    return held


def _spent(asked: _Asked, since: Sequence[datetime | None]) -> list[Spent]:
    """What each case's planned looks have spent; since: start of every case's evidence."""
    return build(
        Spent,
        metric=repeat(asked.question.metric.name),
        role=repeat(asked.question.role),
        since=[since[position] for position in asked.question.case.tolist()],
        harm=asked.answer.look.looks.tolist(),
        promotion=asked.answer.promotion.looks.tolist(),
    )


def _checks(asked: _Asked, span_h: Sequence[float]) -> list[Check]:
    """One check a case; columns become lists first, since single cells of arrays are slow."""
    question, answer = asked.question, asked.answer
    outcomes, reasons = _outcomes(asked)
    made = build(
        Check,
        metric=repeat(question.metric.name),
        role=repeat(question.role),
        outcome=outcomes.tolist(),
        reason=reasons.tolist(),
        harm=_known(answer.harm.value),
        harm_lower=_known(answer.harm.lower),
        harm_upper=_known(answer.harm.upper),
        variance=_known(answer.harm.variance),
        margin=question.margin.tolist(),
        tolerance=question.tolerance.tolist(),
        relative=question.relative.tolist(),
        estimate=_estimates(asked),
        method=_methods(asked),
    )
    rows = answer.rows.min(axis=1).tolist()
    for check, needed, n, hours in zip(made, _known(answer.needed), rows, span_h, strict=True):
        # Rows an hour of the arm that has fewer say how long the rest takes.
        wait = needed / (n / hours) if needed is not None and n > 0 and hours > 0 else None
        # Nobody has seen the check yet, and a second one would cost as much as all its sentences.
        object.__setattr__(check, "detail", explain(check, needed=needed, hours=wait))
    return made


def _outcomes(asked: _Asked) -> tuple[Objects, Objects]:
    """What each case's check says, and why: :class:`Outcome` and :class:`Reason`, shape (n,)."""
    question, answer = asked.question, asked.answer
    missed = Reason.GOAL_MISSED if question.role == GOAL else Reason.HARM
    excluded = (answer.harm.upper < question.margin) & ~question.spent_margin
    lacking, failed = answer.lacking, answer.failed & ~asked.void
    decided = asked.void | failed | (lacking != Reason.NONE)
    passed = answer.passed & ~decided
    reasons = first_reason(
        (asked.void, Reason.LABELS_IMBALANCED),
        (failed, missed),
        (passed | decided, Reason.NONE),
        (excluded, Reason.BETWEEN_LOOKS),
        (~excluded, Reason.WIDE_INTERVAL),
    )
    reasons = np.where(asked.void | failed, reasons, np.where(decided, lacking, reasons))
    outcomes = np.full(passed.shape, Outcome.INCONCLUSIVE, dtype=object)
    outcomes[passed] = Outcome.PASS
    outcomes[reasons == Reason.NO_ROWS] = Outcome.NO_DATA
    outcomes[failed] = Outcome.FAIL
    return outcomes, reasons


def _methods(asked: _Asked) -> list[str]:
    """Which tests spoke, and where they stand."""
    question, answer = asked.question, asked.answer
    columns = (
        answer.method.tolist(),
        _stands(asked),
        answer.log_e.tolist(),
        _written(-np.log(question.alpha_lower), ".2f"),
        question.schedule.has_plan.tolist(),
    )
    return list(starmap(_method, zip(*columns, strict=True)))


def _method(test: str, stand: str, log_e: float, bar: str, planned: bool) -> str:  # noqa: FBT001
    text = f"{test}; {stand}" if test and stand else test or stand
    if isfinite(log_e):
        return f"{text}; log e-value {log_e:.2f}, harm is proven above {bar}"
    if planned:
        return text
    return f"{text}; confidence sequence" if text else "confidence sequence"


def _stands(asked: _Asked) -> list[str]:
    """Where the planned looks stand; empty where none was taken, or none is planned."""
    question, answer = asked.question, asked.answer
    columns = (
        answer.look.looks,
        question.schedule.has_plan,
        answer.look.taken,
        answer.z,
        answer.look.bound,
    )
    alphas = _written(question.schedule.alpha, ".2g")
    return list(starmap(_stand, zip(*(column.tolist() for column in columns), alphas, strict=True)))


def _written(values: FloatArray, form: str) -> list[str]:
    """The values in words; most cases have those of one policy, and each is written once."""
    held = values.tolist()
    words = {value: format(value, form) for value in set(held)}
    return [words[value] for value in held]


def _stand(  # noqa: PLR0917 - columns of one case
    looks: Looks,
    planned: bool,  # noqa: FBT001
    taken: bool,  # noqa: FBT001
    z: float,
    bound: float,
    alpha: str,
) -> str:
    if not (planned and looks.fractions):
        return ""
    reached = f"z {z:.2f}, bound at most {bound:.2f}, " if taken else "none due now, "
    return (
        f"look {len(looks.fractions)} at {looks.fractions[-1]:.0%} of the plan: {reached}"
        f"error spent {looks.spent:.2g} of {alpha}"
    )


def _estimates(asked: _Asked) -> list[Estimate]:
    """The effect, canary against control, in the metric's own direction."""
    question, answer = asked.question, asked.answer
    metric, sign, harm = question.metric.name, question.metric.direction.harm_sign, answer.harm
    ends = (harm.lower, harm.upper) if sign > 0 else (-harm.upper, -harm.lower)
    units = ("relative to control", question.metric.unit)
    return build(
        Estimate,
        metric=repeat(metric),
        unit=[units[not relative] for relative in question.relative.tolist()],
        effect=_known(sign * harm.value),
        lower=_known(ends[0]),
        upper=_known(ends[1]),
        canary=_known(answer.canary),
        control=_known(answer.control),
        n_canary=answer.rows[:, CANARY].tolist(),
        n_control=answer.rows[:, CONTROL].tolist(),
        confidence=(1.0 - question.alpha_upper).tolist(),
        method=answer.method.tolist(),
    )
