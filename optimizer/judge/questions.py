"""What is asked of each case, and what is answered: arrays over the cases that share a metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt

from optimizer.evidence import RampPlan, Reason, Spent
from optimizer.judge.case import GOAL, GUARDRAIL, Case, rollback_tolerance
from optimizer.judge.limits import Harm
from optimizer.judge.looks import Schedule, Taken, none_taken
from optimizer.metrics import HOUR_S, METRICS, Metric

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Reasons = npt.NDArray[np.object_]

SHORTEST_EXTENSION = 1.05
"""Least information at the end of the last hold, over that of the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One metric in one role, asked of n cases.

    A case fails where harm above ``tolerance`` is proven and passes where harm of ``margin`` is
    excluded. case: its position, shape (n,), as all the others; alpha_lower: error of the tests of
    harm that need no plan; alpha_upper: of the limit that promotion reads; schedule: planned looks.
    """

    metric: Metric
    role: str
    case: IntArray
    relative: BoolArray
    margin: FloatArray
    tolerance: FloatArray
    alpha_lower: FloatArray
    alpha_upper: FloatArray
    schedule: Schedule

    def part(self, where: slice) -> "Question":
        """The same question, asked of some of the cases."""
        return Question(
            metric=self.metric,
            role=self.role,
            case=self.case[where],
            relative=self.relative[where],
            margin=self.margin[where],
            tolerance=self.tolerance[where],
            alpha_lower=self.alpha_lower[where],
            alpha_upper=self.alpha_upper[where],
            schedule=self.schedule.part(where),
        )

    @property
    def spent_margin(self) -> BoolArray:
        """Guardrails of which nothing is left to give up; a goal's margin is a gain."""
        return np.asarray((self.role != GOAL) & (self.margin <= 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the data say, shape (n,) throughout, n the cases of the question.

    failed: harm beyond the tolerance is proven; passed: harm of the margin is excluded; canary,
    control: the arms' own values in the metric's unit; rows: the metric's denominators, shape
    (n, 2), control first; lacking: why nothing can be promoted on this yet, NONE = it can; needed:
    further rows per arm until the upper limit may be expected below the margin, nan where no number
    would do; z: normal deviate of harm beyond the tolerance; log_e: log e-value of the exact count
    test, nan where it does not decide; look, promotion: the planned looks.
    """

    harm: Harm
    failed: BoolArray
    passed: BoolArray
    canary: FloatArray
    control: FloatArray
    rows: IntArray
    lacking: Reasons
    needed: FloatArray
    z: FloatArray
    log_e: FloatArray
    method: npt.NDArray[np.object_]
    look: Taken
    promotion: Taken


def questions(cases: Sequence[Case], *, until: datetime, looking: bool) -> list[Question]:
    """All that has to be asked, one entry a metric and role; their order is that of the metrics.

    Args:
        cases: at most one a target.
        until: end of the data.
        looking: whether planned looks may be taken.
    """
    ramps = _Ramps.of(cases, until)
    found = []
    for (metric, role), asked in sorted(_asked(cases).items()):
        order = np.argsort(asked.case, kind="stable")
        chosen = np.array(asked.case, dtype=np.int64)[order]
        alphas = ramps.alphas(chosen, metric, role)
        found.append(
            Question(
                metric=METRICS[metric],
                role=role,
                case=chosen,
                relative=np.array(asked.relative, dtype=bool)[order],
                margin=np.array(asked.margin, dtype=np.float64)[order],
                tolerance=np.array(asked.tolerance, dtype=np.float64)[order],
                alpha_lower=alphas[:, 1],
                alpha_upper=ramps.promote[chosen],
                schedule=ramps.schedule(
                    chosen, metric, role, alphas[:, 0], until=until, looking=looking
                ),
            )
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Columns of one metric in one role: positions of cases, and what is asked of each."""

    case: list[int] = field(default_factory=list)
    relative: list[bool] = field(default_factory=list)
    margin: list[float] = field(default_factory=list)
    tolerance: list[float] = field(default_factory=list)


def _asked(cases: Sequence[Case]) -> dict[tuple[str, str], _Asked]:
    """What is asked, by metric and role."""
    alike: dict[tuple[int, bool, int], list[int]] = {}
    for position, case in enumerate(cases):
        # Cases of one policy are asked the same, unless earlier promotions took of their margins.
        own = position if case.anchors else -1
        alike.setdefault((id(case.policy), case.asks_goal, own), []).append(position)
    asked: dict[tuple[str, str], _Asked] = {}
    for positions in alike.values():
        for key, relative, margin, tolerance in _terms(cases[positions[0]]):
            columns = asked.setdefault(key, _Asked())
            columns.case.extend(positions)
            columns.relative.extend([relative] * len(positions))
            columns.margin.extend([margin] * len(positions))
            columns.tolerance.extend([tolerance] * len(positions))
    return asked


def _terms(case: Case) -> list[tuple[tuple[str, str], bool, float, float]]:
    """Metric and role, whether harm is relative, margin and tolerance of all a case is asked."""
    terms = []
    for rail in case.policy.guardrails:
        left = case.remaining(rail)
        key = (rail.metric, GUARDRAIL)
        terms.append((key, rail.relative, left, rollback_tolerance(rail, left)))
    if case.asks_goal:
        goal = case.policy.goal
        # A gain is a negative harm relative to control; harm that is proven misses the goal.
        terms.append(((goal.metric, GOAL), True, -goal.min_gain, 0.0))
    return terms


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ramps:
    """The ramps of N cases, as far as every metric has the same; arrays of shape (N,).

    phase: which of the phases, whose first cases are ``examples``, a case is in: cases of one phase
    have one policy and share its errors alike; spent: by metric and role, what each case's looks
    have spent; plans: None = unplanned; promote: error of promotion; the others as in
    :class:`Schedule`.
    """

    phase: IntArray
    examples: Sequence[Case]
    spent: Sequence[Mapping[tuple[str, str], Spent]]
    plans: Sequence[RampPlan | None]
    extension: FloatArray
    ratio: FloatArray
    ending: BoolArray
    final: BoolArray
    patient: BoolArray
    promote: FloatArray

    @classmethod
    def of(cls, cases: Sequence[Case], until: datetime) -> "_Ramps":
        """The ramps of these cases at the end of the data."""
        plans = [case.plan for case in cases]
        extension = [plan.extended / plan.requests if plan else np.nan for plan in plans]
        examples: dict[tuple[int, bool, bool], tuple[int, Case]] = {}
        phase = [
            examples.setdefault(
                (id(case.policy), plan is None, case.is_watched), (len(examples), case)
            )[0]
            for case, plan in zip(cases, plans, strict=True)
        ]
        return cls(
            phase=np.array(phase, dtype=np.int64),
            examples=[case for _, case in examples.values()],
            spent=[case.spent_by_check for case in cases],
            plans=plans,
            extension=np.fmax(extension, SHORTEST_EXTENSION),
            ratio=np.array([case.control_ratio for case in cases]),
            ending=np.array([_ending(case, until) for case in cases], dtype=bool),
            final=np.array([case.in_last_stage for case in cases], dtype=bool),
            patient=np.array([case.policy.blip_tolerance for case in cases], dtype=bool),
            promote=np.array([case.policy.alpha_promote for case in cases]),
        )

    def alphas(self, chosen: IntArray, metric: str, role: str) -> FloatArray:
        """What :meth:`Case.alphas` says of some cases, shape (n, 2)."""
        phases = np.array([case.alphas(metric, role) for case in self.examples])
        return np.asarray(phases[self.phase[chosen]])

    def schedule(
        self,
        chosen: IntArray,
        metric: str,
        role: str,
        alpha: FloatArray,
        *,
        until: datetime,
        looking: bool,
    ) -> Schedule:
        """The plans of some cases for one metric in one role."""
        plans = [self.plans[position] for position in chosen.tolist()]
        unspent, key = Spent(metric=metric, role=role), (metric, role)
        spent = [self.spent[position].get(key, unspent) for position in chosen.tolist()]
        harm, promotion = (np.empty(chosen.size, dtype=object) for _ in range(2))
        harm[:], promotion[:] = [each.harm for each in spent], [each.promotion for each in spent]
        planned = np.array(
            [plan.requests * plan.measured.get(metric, 1.0) if plan else np.nan for plan in plans]
        )
        return Schedule(
            planned=np.where(planned > 0, planned, np.nan),
            extension=self.extension[chosen],
            ratio=self.ratio[chosen],
            looking=np.full(chosen.size, looking),
            ending=self.ending[chosen],
            final=self.final[chosen],
            patient=self.patient[chosen],
            alpha=alpha,
            alpha_promote=self.promote[chosen],
            harm=harm,
            promotion=promotion,
            until=until,
        )


def _ending(case: Case, until: datetime) -> bool:
    """Whether the ramp's planned length is over."""
    plan, start = case.plan, case.evidence_from
    if plan is None or start is None:
        return False
    return (until - start).total_seconds() >= plan.hours * HOUR_S


def unknown(question: Question, reason: Reason) -> Answer:
    """An answer that says nothing, for one reason."""
    size = question.case.size
    nothing = np.full(size, np.nan)
    no = np.zeros(size, dtype=bool)
    schedule = question.schedule
    return Answer(
        harm=Harm(value=nothing, lower=nothing, upper=nothing, variance=nothing),
        failed=no,
        passed=no,
        canary=nothing,
        control=nothing,
        rows=np.zeros((size, 2), dtype=np.int64),
        lacking=np.full(size, reason, dtype=object),
        needed=nothing,
        z=nothing,
        log_e=nothing,
        method=np.full(size, "", dtype=object),
        look=none_taken(schedule.harm),
        promotion=none_taken(schedule.promotion),
    )
