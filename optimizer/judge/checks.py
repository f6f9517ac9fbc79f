"""Checks: answers turned into outcomes, one object a metric and case."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import starmap
from math import isfinite
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from optimizer.errors import DataError
from optimizer.evidence import Check, Estimate, Looks, Outcome, Reason, Spent
from optimizer.judge.case import GOAL, GUARDRAIL, Case
from optimizer.judge.health import unlabelled_imbalance
from optimizer.judge.means import answer_mean
from optimizer.judge.questions import Answer, Question, questions, unknown
from optimizer.judge.shares import answer_share
from optimizer.judge.sums import CANARY, CONTROL, Sums
from optimizer.judge.wording import explain
from optimizer.metrics import MetricKind

FloatArray = npt.NDArray[np.float64]
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


def checks(
    cases: Sequence[Case], sums: Sums, *, until: datetime, looking: bool
) -> list[tuple[tuple[Check, ...], tuple[Spent, ...]]]:
    """Every case's checks: its guardrails in the policy's order, then its goal if it is asked.

    With them comes what the planned looks of each have spent, this one included.
    """
    made: dict[tuple[str, str], list[Check | None]] = {}
    spent: dict[tuple[str, str], list[Spent | None]] = {}
    for question in questions(cases, until=until, looking=looking):
        key = (question.metric.name, question.role)
        made[key], spent[key] = [None] * len(cases), [None] * len(cases)
        for asked in _ask(question, cases, sums):
            positions = asked.question.case.tolist()
            span_h = sums.span_h[asked.question.case].tolist()
            columns = (positions, _checks(asked, span_h), _spent(asked, cases))
            for position, check, looks in zip(*columns, strict=True):
                made[key][position], spent[key][position] = check, looks
    found = []
    for position, case in enumerate(cases):
        keys = [(rail.metric, GUARDRAIL) for rail in case.policy.guardrails]
        keys += [(case.policy.goal.metric, GOAL)] if case.asks_goal else []
        own = (made[key][position] for key in keys)
        looks_of = (spent[key][position] for key in keys)
        found.append((tuple(filter(None, own)), tuple(filter(None, looks_of))))
    return found


def combine(required: Sequence[Check]) -> tuple[Outcome, Check | None]:
    """The outcome of required checks together, and the check that decided it.

    Any FAIL fails; else anything not known is not known; PASS only if all pass. No checks are
    NO_DATA, never PASS.

    Examples:
        >>> combine([])
        (<Outcome.NO_DATA: 'no_data'>, None)
    """
    for outcome in (Outcome.FAIL, Outcome.NO_DATA, Outcome.INCONCLUSIVE, Outcome.PASS):
        for check in required:
            if check.outcome is outcome:
                return outcome, check
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


def _spent(asked: _Asked, cases: Sequence[Case]) -> list[Spent]:
    """What each case's planned looks have spent."""
    metric, role = asked.question.metric.name, asked.question.role
    since = [cases[position].evidence_from for position in asked.question.case.tolist()]
    looks = (asked.answer.look.looks.tolist(), asked.answer.promotion.looks.tolist())
    return [
        Spent(metric=metric, role=role, since=start, harm=harm, promotion=promotion)
        for start, harm, promotion in zip(since, *looks, strict=True)
    ]


def _checks(asked: _Asked, span_h: Sequence[float]) -> list[Check]:
    """One check a case; columns become lists first, since single cells of arrays are slow."""
    question, answer = asked.question, asked.answer
    rows = answer.rows.min(axis=1).tolist()
    columns = (
        _outcomes(asked),
        *map(_known, (answer.harm.value, answer.harm.lower, answer.harm.upper)),
        _known(answer.harm.variance),
        question.margin.tolist(),
        question.tolerance.tolist(),
        question.relative.tolist(),
        _estimates(asked),
        _methods(asked),
        _known(answer.needed),
        [n / hours if hours > 0 else 0.0 for n, hours in zip(rows, span_h, strict=True)],
    )
    return list(starmap(_Form(question.metric.name, question.role), zip(*columns, strict=True)))


@dataclass(frozen=True, slots=True)
class _Form:
    """Makes the checks of one metric and role."""

    metric: str
    role: str

    def __call__(  # noqa: PLR0917, PLR0913 - the columns of a check, in their order
        self,
        outcome: tuple[Outcome, Reason],
        harm: float | None,
        harm_lower: float | None,
        harm_upper: float | None,
        variance: float | None,
        margin: float,
        tolerance: float,
        relative: bool,  # noqa: FBT001 - a column
        estimate: Estimate,
        method: str,
        needed: float | None,
        rate: float,
    ) -> Check:
        """The check; rate: rows an hour of the arm that has fewer."""
        check = Check(
            metric=self.metric,
            role=self.role,
            outcome=outcome[0],
            reason=outcome[1],
            harm=harm,
            harm_lower=harm_lower,
            harm_upper=harm_upper,
            variance=variance,
            margin=margin,
            tolerance=tolerance,
            relative=relative,
            estimate=estimate,
            method=method,
        )
        hours = needed / rate if needed is not None and rate > 0 else None
        # Nobody has seen the check yet, and a second one would cost as much as all its sentences.
        object.__setattr__(check, "detail", explain(check, needed=needed, hours=hours))
        return check


def _outcomes(asked: _Asked) -> list[tuple[Outcome, Reason]]:
    """What each case's check says, and why."""
    question, answer = asked.question, asked.answer
    missed = Reason.GOAL_MISSED if question.role == GOAL else Reason.HARM
    excluded = (answer.harm.upper < question.margin) & ~question.spent_margin
    columns = (asked.void, answer.failed, answer.passed, excluded)
    return [
        _outcome(lacking, missed, *flags)
        for lacking, *flags in zip(
            answer.lacking.tolist(), *(column.tolist() for column in columns), strict=True
        )
    ]


def _outcome(  # noqa: PLR0917 - flags of one case
    lacking: Reason,
    missed: Reason,
    void: bool,  # noqa: FBT001
    failed: bool,  # noqa: FBT001
    passed: bool,  # noqa: FBT001
    excluded: bool,  # noqa: FBT001
) -> tuple[Outcome, Reason]:
    if void:
        return Outcome.INCONCLUSIVE, Reason.LABELS_IMBALANCED
    if failed:
        return Outcome.FAIL, missed
    if lacking is Reason.NO_ROWS:
        return Outcome.NO_DATA, lacking
    if lacking is not Reason.NONE:
        return Outcome.INCONCLUSIVE, lacking
    if passed:
        return Outcome.PASS, Reason.NONE
    return Outcome.INCONCLUSIVE, Reason.BETWEEN_LOOKS if excluded else Reason.WIDE_INTERVAL


def _methods(asked: _Asked) -> list[str]:
    """Which tests spoke, and where they stand."""
    question, answer = asked.question, asked.answer
    planned = question.schedule.has_plan
    bars = (-np.log(question.alpha_lower)).tolist()
    stands = _stands(asked)
    found = []
    for row, (method, log_e) in enumerate(
        zip(answer.method.tolist(), answer.log_e.tolist(), strict=True)
    ):
        text = f"{method}; {stands[row]}" if method and stands[row] else method or stands[row]
        if isfinite(log_e):
            text += f"; log e-value {log_e:.2f}, harm is proven above {bars[row]:.2f}"
        elif not planned[row]:
            text += "; confidence sequence" if text else "confidence sequence"
        found.append(text)
    return found


def _stands(asked: _Asked) -> list[str]:
    """Where the planned looks stand; empty where none was taken, or none is planned."""
    question, answer = asked.question, asked.answer
    columns = (
        answer.look.looks,
        question.schedule.has_plan,
        answer.look.taken,
        answer.z,
        answer.look.bound,
        question.schedule.alpha,
    )
    return list(starmap(_stand, zip(*(column.tolist() for column in columns), strict=True)))


def _stand(  # noqa: PLR0917 - columns of one case
    looks: Looks,
    planned: bool,  # noqa: FBT001
    taken: bool,  # noqa: FBT001
    z: float,
    bound: float,
    alpha: float,
) -> str:
    if not (planned and looks.fractions):
        return ""
    reached = f"z {z:.2f}, bound at most {bound:.2f}, " if taken else "none due now, "
    return (
        f"look {len(looks.fractions)} at {looks.fractions[-1]:.0%} of the plan: {reached}"
        f"error spent {looks.spent:.2g} of {alpha:.2g}"
    )


def _estimates(asked: _Asked) -> list[Estimate]:
    """The effect, canary against control, in the metric's own direction."""
    question, answer = asked.question, asked.answer
    metric, sign, harm = question.metric.name, question.metric.direction.harm_sign, answer.harm
    ends = (harm.lower, harm.upper) if sign > 0 else (-harm.upper, -harm.lower)
    units = ("relative to control", question.metric.unit)
    columns = (
        question.relative.tolist(),
        *map(_known, (sign * harm.value, *ends, answer.canary, answer.control)),
        answer.rows[:, CANARY].tolist(),
        answer.rows[:, CONTROL].tolist(),
        (1.0 - question.alpha_upper).tolist(),
        answer.method.tolist(),
    )
    return [
        Estimate(
            metric=metric,
            unit=units[0] if relative else units[1],
            effect=effect,
            lower=lower,
            upper=upper,
            canary=canary,
            control=control,
            n_canary=n_canary,
            n_control=n_control,
            confidence=confidence,
            method=method,
        )
        for (
            relative,
            effect,
            lower,
            upper,
            canary,
            control,
            n_canary,
            n_control,
            confidence,
            method,
        ) in zip(*columns, strict=True)
    ]
