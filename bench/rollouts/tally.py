"""What came out of a cell under one rule: counts, limits, and when it came out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bench.rollouts.ours import Ending, State, Verdicts
from bench.rollouts.plan import CANARY, CONTROL
from bench.rollouts.world import FAILURE, Sums
from optimizer.statistics.planning import wilson_interval

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Some rollouts under one rule, each shape (R,).

    requests: the canary's until the decision; hours: until then; excess: canary failures beyond
    control's rate by then; unfounded: promoted although a required metric did not say so.
    """

    ending: IntArray
    requests: IntArray
    hours: FloatArray
    excess: FloatArray
    guard: npt.NDArray[np.bool_]
    unfounded: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts of one cell and rule; requests, hours: median over those rolled back, nan for none.

    mean_requests, p90_requests, excess: over all rollouts until their decision.
    """

    cell: str
    group: str
    rule: str
    rollouts: int
    rolled_back: int
    by_guard: int
    promoted: int
    extended: int
    reverted: int
    unfounded: int
    caught_1500: int
    caught_3000: int
    requests: float
    hours: float
    mean_requests: float
    p90_requests: float
    excess: float
    plan_check: bool | None = None

    def share(self, count: int) -> float:
        """Part of the rollouts."""
        return count / self.rollouts

    def limits(self, count: int) -> tuple[float, float]:
        """95 % Wilson limits of that part."""
        low, high = wilson_interval(count, self.rollouts)
        return float(low), float(high)


def of_rule(sums: Sums, window: IntArray) -> Course:
    """The course of rollouts under a rule that only rolls back; the rest run to the end."""
    back = window < sums.plan.hours * sums.plan.windows_an_hour
    return _course(
        sums,
        np.where(back, Ending.ROLLED_BACK, Ending.REVERTED),
        np.where(back, window, -1),
        np.zeros(len(window), dtype=bool),
        np.zeros(len(window), dtype=bool),
    )


def of_ours(sums: Sums, found: Verdicts) -> Course:
    """The course of rollouts under this project's rules."""
    promoted = (found.ending == Ending.PROMOTED) | (found.ending == Ending.EXTENDED)
    answered = (found.states == State.PASS).all(axis=1) & ~found.srm
    return _course(sums, found.ending, found.window, found.guard, promoted & ~answered)


def _course(
    sums: Sums,
    ending: IntArray,
    window: IntArray,
    guard: npt.NDArray[np.bool_],
    unfounded: npt.NDArray[np.bool_],
) -> Course:
    last = sums.plan.hours * sums.plan.windows_an_hour - 1
    at = np.where(window >= 0, window, last)
    row = np.arange(len(at))
    n, k = (np.cumsum(table, axis=1)[row, at] for table in (sums.n, sums.events[FAILURE]))
    base = k[:, CONTROL] / np.maximum(n[:, CONTROL], 1)
    return Course(
        ending=ending.astype(np.int64),
        requests=sums.served(window),
        hours=(at + 1) / sums.plan.windows_an_hour + sums.lag_hours,
        excess=k[:, CANARY] - base * n[:, CANARY],
        guard=guard,
        unfounded=unfounded,
    )


def tallied(
    parts: Sequence[Course], *, cell: str, group: str, rule: str, plan_check: bool | None = None
) -> Tally:
    """All parts of a cell together."""
    ending, requests, hours, excess, guard, unfounded = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("ending", "requests", "hours", "excess", "guard", "unfounded")
    )
    back = ending == Ending.ROLLED_BACK
    counts = np.bincount(ending, minlength=len(Ending))
    return Tally(
        cell=cell,
        group=group,
        rule=rule,
        rollouts=len(ending),
        rolled_back=int(counts[Ending.ROLLED_BACK]),
        by_guard=int(guard.sum()),
        promoted=int(counts[Ending.PROMOTED]),
        extended=int(counts[Ending.EXTENDED]),
        reverted=int(counts[Ending.REVERTED]),
        unfounded=int(unfounded.sum()),
        caught_1500=int((back & (requests <= 1_500)).sum()),
        caught_3000=int((back & (requests <= 3_000)).sum()),
        requests=_median(requests[back]),
        hours=_median(hours[back]),
        mean_requests=float(requests.mean()),
        p90_requests=float(np.percentile(requests, 90)),
        excess=float(excess.mean()),
        plan_check=plan_check,
    )


def _median(values: npt.NDArray[np.number]) -> float:
    return float(np.median(values)) if values.size else float("nan")
