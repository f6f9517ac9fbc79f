"""What is asked of each case, and what is answered: arrays over the cases that share a metric."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from optimizer.evidence import Reason
from optimizer.judge.case import Case, rollback_tolerance
from optimizer.judge.limits import Harm
from optimizer.metrics import METRICS, Metric

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Reasons = npt.NDArray[np.object_]

GUARDRAIL = "guardrail"
GOAL = "goal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One metric in one role, asked of n cases.

    A case fails where the lower limit of harm is above ``tolerance`` and passes where the upper one
    is below ``margin``. case: its position, shape (n,), as all the others; alpha_lower and
    alpha_upper: the errors of the two limits.
    """

    metric: Metric
    role: str
    case: IntArray
    relative: BoolArray
    margin: FloatArray
    tolerance: FloatArray
    alpha_lower: FloatArray
    alpha_upper: FloatArray

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
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the data say, shape (n,) throughout, n the cases of the question.

    canary, control: the arms' own values in the metric's unit; rows: the metric's denominators,
    shape (n, 2), control first; lacking: why nothing can be promoted on this yet, NONE = it can;
    needed: further rows per arm until the upper limit may be expected below the margin, nan where
    no number would do; log_e: log e-value of the exact count test, nan where it does not decide.
    """

    harm: Harm
    canary: FloatArray
    control: FloatArray
    rows: IntArray
    lacking: Reasons
    needed: FloatArray
    log_e: FloatArray
    method: npt.NDArray[np.object_]


def questions(cases: Sequence[Case]) -> list[Question]:
    """All that has to be asked, one entry a metric and role; their order is that of the metrics."""
    asked: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for position, case in enumerate(cases):
        alphas = (case.alpha_rollback, case.policy.alpha_promote)
        for rail in case.policy.guardrails:
            left = case.remaining(rail)
            row = (position, rail.relative, left, rollback_tolerance(rail, left), *alphas)
            asked.setdefault((rail.metric, GUARDRAIL), []).append(row)
        if not case.asks_goal:
            continue
        goal = case.policy.goal
        # A gain is a negative harm relative to control; harm that is proven misses the goal.
        row = (position, True, -goal.min_gain, 0.0, *alphas)
        asked.setdefault((goal.metric, GOAL), []).append(row)
    found = []
    for (metric, role), rows in sorted(asked.items()):
        columns = np.array(rows, dtype=np.float64).T
        found.append(
            Question(
                metric=METRICS[metric],
                role=role,
                case=columns[0].astype(np.int64),
                relative=columns[1].astype(bool),
                margin=columns[2],
                tolerance=columns[3],
                alpha_lower=columns[4],
                alpha_upper=columns[5],
            )
        )
    return found


def unknown(question: Question, reason: Reason) -> Answer:
    """An answer that says nothing, for one reason."""
    size = question.case.size
    nothing = np.full(size, np.nan)
    return Answer(
        harm=Harm(value=nothing, lower=nothing, upper=nothing, variance=nothing),
        canary=nothing,
        control=nothing,
        rows=np.zeros((size, 2), dtype=np.int64),
        lacking=np.full(size, reason, dtype=object),
        needed=nothing,
        log_e=nothing,
        method=np.full(size, "", dtype=object),
    )
