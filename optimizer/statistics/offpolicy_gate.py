"""The off-policy gate: whether logs already tell that a policy is as good as the one in force.

It is asked before a canary. A good answer opens a canary and nothing else: logs that were written
for another purpose confirm nothing. The laws kept here: no answer without support; multiplying
rewards and margin by one positive constant changes no answer; a larger margin never makes a good
answer a bad one.
"""

from dataclasses import dataclass, replace
from enum import Enum
from itertools import combinations
from math import ceil, isfinite, nan, sqrt
from typing import Final

import numpy.typing as npt

from optimizer.statistics.clusters import MIN_CLUSTERS
from optimizer.statistics.offpolicy import PolicyValue, doubly_robust, ips, snips
from optimizer.statistics.offpolicy_log import Log, clipped, importance
from optimizer.statistics.offpolicy_support import Lack, Overlap, overlap, refusal

ONE_SIDED: Final = 1.645
"""Standard errors of a one-sided limit of 95 %."""

JOINT_SE: Final = 2.0


class Answer(Enum):
    """What logs tell of a policy against the one in force."""

    BETTER = "better"
    """Better, or at most the margin worse, with confidence: a canary may be opened."""
    NOT_BETTER = "not_better"
    """Worse by the margin or more; further requests like these would not pass it."""
    NOT_ENOUGH_SUPPORT = "not_enough_support"
    """The logs do not tell; the refusal says what they lack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated:
    """The gate's answer, in the reward's unit; nan where nothing was estimated.

    Attributes:
        answer: see :class:`Answer`.
        lack: what is missing; None unless the answer is NOT_ENOUGH_SUPPORT.
        sentence: the answer with its numbers.
        needed: further requests with known chances after which the logs could answer; None where
            they do, or where no number of them would.
        gain: value of the policy less that of the one in force, doubly robust.
        lower: one-sided limit of the gain, 95 %.
        upper: the same on the other side.
        n: requests in the log.
        ess: requests of equal weight that they are worth for the policy.
    """

    answer: Answer
    lack: Lack | None = None
    sentence: str
    needed: int | None = None
    gain: float = nan
    lower: float = nan
    upper: float = nan
    n: float
    ess: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gain:
    """One estimator's difference of the two policies."""

    name: str
    found: PolicyValue

    @property
    def value(self) -> float:
        return self.found.value

    @property
    def se(self) -> float:
        return sqrt(self.found.variance)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Own:
    """Deviation of a reward, requests the policy would have served alike, and the loss allowed."""

    deviation: float
    drawn: float
    allowed: float


def cell_floor(deviation: float, margin: float) -> float:
    """Requests of an arm in a segment below which the policy in force keeps its place there.

    ``2 (1.645 sd / m) ** 2``: with as many in both arms the limit of their difference lies a margin
    away from it.

    Args:
        deviation: standard deviation of one reward.
        margin: tolerated loss in the same unit, above 0.

    References:
        Laroche, Trichelair and Tachet des Combes (2019), Safe policy improvement with baseline
        bootstrapping, ICML, arXiv 1712.06924.

    Examples:
        >>> ceil(cell_floor(0.4, 0.05))
        347
    """
    return 2.0 * (ONE_SIDED * deviation / margin) ** 2


def gate(
    log: Log,
    policy: npt.ArrayLike,
    incumbent: npt.ArrayLike,
    *,
    margin: float,
    relative: bool = False,
) -> Gated:
    """Whether the policy is worth what the incumbent is, less at most the margin.

    Args:
        log: requests with known chances, rewards higher = better.
        policy: chance of every arm for each cell, shape (R, A).
        incumbent: the same of the policy in force.
        margin: tolerated loss, above 0: in the reward's unit, or a fraction of what the incumbent
            is worth where ``relative``.
        relative: how the margin is meant.

    Raises:
        ValueError: the margin is not above 0, or a policy's chances do not add to 1.

    References:
        Lower limit of a policy's value before it is deployed: Thomas, Theocharous and Ghavamzadeh
        (2015), High-confidence off-policy evaluation, AAAI. Estimators as in
        :mod:`optimizer.statistics.offpolicy`.
    """
    if not margin > 0:
        msg = f"margin = {margin} is not above 0"
        raise ValueError(msg)
    found = overlap(log, policy)
    for name, each in (("", found), (" of the policy in force", overlap(log, incumbent))):
        why = refusal(each)
        if why is not None:
            return _unsupported(found, why.lack, f"{why.sentence}{name}", why.needed)
    times = 1.0 - margin if relative else 1.0
    gains, in_force = _gains(log, (policy, incumbent), times)
    if not all(isfinite(each.se) for each in gains):
        few = f"the requests are worth fewer than {MIN_CLUSTERS} units that differ"
        return _unsupported(found, Lack.MIN_CLUSTERS, few, None)
    own = _Own(
        deviation=log.deviation,
        drawn=float(log.n[importance(log, policy) > 0].sum()),
        allowed=margin * abs(in_force) if relative else margin,
    )
    return _answer(found, gains, own, 0.0 if relative else margin)


def _gains(
    log: Log, policies: tuple[npt.ArrayLike, npt.ArrayLike], times: float
) -> tuple[tuple[_Gain, ...], float]:
    """The three estimators' gains, doubly robust first, and what the second policy is worth."""
    weights = [clipped(importance(log, each)) for each in policies]
    values = {
        "DR": [doubly_robust(log, *each) for each in zip(policies, weights, strict=True)],
        "IPS": [ips(log, each) for each in weights],
        "SNIPS": [snips(log, each) for each in weights],
    }
    gains = tuple(
        _Gain(name=name, found=one.minus(other, times=times))
        for name, (one, other) in values.items()
    )
    return gains, values["DR"][1].value


def _answer(found: Overlap, gains: tuple[_Gain, ...], own: _Own, margin: float) -> Gated:
    gain, se = gains[0].value, gains[0].se
    known = Gated(
        answer=Answer.BETTER,
        sentence="",
        gain=gain,
        lower=gain - ONE_SIDED * se,
        upper=gain + ONE_SIDED * se,
        n=found.n,
        ess=found.ess,
    )
    measured = (
        f"gain {gain:+.4g} (95 % limits {known.lower:+.4g} and {known.upper:+.4g}), allowed "
        f"{-margin:+.4g}, from {found.n:,.0f} requests worth {found.ess:,.0f}"
    )
    lack, why, needed = _open(gains, known, own, margin)
    if lack is not None:
        return replace(
            known,
            answer=Answer.NOT_ENOUGH_SUPPORT,
            lack=lack,
            sentence=f"{why}: {measured}{_more(needed)}",
            needed=needed,
        )
    answer = Answer.BETTER if known.lower > -margin else Answer.NOT_BETTER
    return replace(known, answer=answer, sentence=measured)


def _open(
    gains: tuple[_Gain, ...], known: Gated, own: _Own, margin: float
) -> tuple[Lack | None, str, int | None]:
    """What keeps the estimates from being an answer, and how many more requests mend it."""
    apart = _apart(gains)
    if apart:
        return Lack.DISAGREEMENT, apart, None
    if known.lower <= -margin < known.gain:
        wide = (ONE_SIDED * gains[0].se / (known.gain + margin)) ** 2 - 1.0
        return Lack.WIDE_INTERVAL, "the interval is too wide", ceil(known.n * wide)
    floor = cell_floor(own.deviation, own.allowed) if own.allowed > 0 else 0.0
    if known.lower > -margin and own.drawn < floor:
        few = f"{own.drawn:,.0f} requests of its own (at least {floor:,.0f})"
        return Lack.MIN_SAMPLE, few, ceil(known.n * (floor / own.drawn - 1.0))
    return None, "", None


def _apart(gains: tuple[_Gain, ...]) -> str:
    """Two estimators that contradict each other; empty where all agree."""
    for one, other in combinations(gains, 2):
        joint = sqrt(one.se**2 + other.se**2)
        if abs(one.value - other.value) > JOINT_SE * joint:
            return (
                f"{one.name} {one.value:+.4g} and {other.name} {other.value:+.4g} differ by "
                f"{abs(one.value - other.value) / joint:.1f} joint standard errors (at most "
                f"{JOINT_SE:g})"
            )
    return ""


def _unsupported(found: Overlap, lack: Lack, why: str, needed: int | None) -> Gated:
    return Gated(
        answer=Answer.NOT_ENOUGH_SUPPORT,
        lack=lack,
        sentence=f"{why}{_more(needed)}",
        needed=needed,
        n=found.n,
        ess=found.ess,
    )


def _more(needed: int | None) -> str:
    if needed is None:
        return "; no further requests like these mend it"
    return f"; {needed:,} more explored requests would do"
