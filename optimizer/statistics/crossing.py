"""Whether many rollouts cross their boundaries at one look, each with looks of its own.

A boundary is a recursive integral, but most looks need none: what a look may spend, and what all
looks so far may have spent, enclose it. Only a deviate between the two limits is compared with the
exact boundary. The law kept here: the answer is that of :func:`boundaries`, for every rollout.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from scipy import special

from optimizer.statistics.sequential import (
    HIGHEST_BOUND,
    SMALLEST_SPEND,
    boundaries,
    obrien_fleming_spending,
    pocock_spending,
)

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

ROUNDING: Final = 1e-6
"""Standard errors by which a boundary, found by integration, may fall short of its lower limit."""

PLANNED_SHARE: Final = 0.8
"""Part of the error of promotion that is spent by the planned end; the extension has the rest."""


class Spending(Protocol):
    """Cumulative error at information fractions, given the whole budget; broadcasts both."""

    def __call__(self, fraction: npt.ArrayLike, *, alpha: npt.ArrayLike) -> FloatArray:
        """Error spent up to each fraction, the broadcast shape."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """What one look says of n rollouts.

    crossed: whether the boundary is reached, false where no look was taken; bound: a deviate at or
    above which it surely is, exact where the look was close and otherwise an upper limit of the
    boundary, nan where no look was taken; spent: the error spent by all looks so far. Shape (n,).
    """

    crossed: BoolArray
    bound: FloatArray
    spent: FloatArray


def crosses(
    z: npt.ArrayLike,
    fractions: npt.ArrayLike,
    *,
    alpha: npt.ArrayLike,
    spending: Spending = pocock_spending,
    closing: npt.ArrayLike = False,
) -> Crossing:
    """Whether each rollout crosses at its newest look.

    Args:
        z: normal deviates at that look, shape (n,); nan = no look.
        fractions: information fractions of the looks taken so far, increasing, the newest in the
            last column, shape (n, L); nan = no look. A fraction may exceed 1.
        alpha: each rollout's whole one-sided budget, in (0, 1), broadcast with z.
        spending: the spending function.
        closing: whether this look is the last one, which spends whatever is left; broadcast with z.

    Raises:
        ValueError: fractions do not increase, or shapes do not fit.

    References:
        As :func:`optimizer.statistics.sequential.boundaries`. With A the cumulative spending and c
        the boundary at look k, ``isf(A_k) <= c_k <= isf(A_k - A_(k-1))``: the chance to reach c_k
        is at most that to have crossed by look k, and at least that to cross first at look k.

    Examples:
        >>> looks = crosses([3.1, 2.6], [[0.2, 0.4], [np.nan, 0.4]], alpha=0.025)
        >>> looks.crossed.tolist(), np.round(looks.spent, 5).tolist()
        ([True, True], [0.01308, 0.01308])
    """
    deviate = np.atleast_1d(np.asarray(z, dtype=np.float64))
    times = np.asarray(fractions, dtype=np.float64)
    if times.shape != (deviate.size, times.shape[-1]):
        raise ValueError(f"one row of fractions a deviate, got {times.shape} for {deviate.shape}")
    budget = np.broadcast_to(np.asarray(alpha, dtype=np.float64), deviate.shape)
    last = np.broadcast_to(np.asarray(closing, dtype=bool), deviate.shape)
    looked = np.isfinite(deviate) & np.isfinite(times[:, -1])
    spend = spending(times, alpha=budget[:, None])
    spend[:, -1] = np.where(last, budget, spend[:, -1])
    now = np.where(looked, spend[:, -1], np.nan)
    before = np.fmax.reduce(spend[:, :-1], axis=1, initial=0.0)
    highest = np.where(now - before > SMALLEST_SPEND, _deviate(now - before), HIGHEST_BOUND)
    bound = np.where(looked, np.minimum(highest, HIGHEST_BOUND), np.nan)
    with np.errstate(invalid="ignore"):
        close = looked & (deviate >= _deviate(now) - ROUNDING) & (deviate < bound)
    for row in np.flatnonzero(close):
        taken = np.isfinite(times[row])
        bound[row] = boundaries(times[row, taken].tolist(), spend[row, taken].tolist())[-1]
    with np.errstate(invalid="ignore"):
        crossed = looked & (deviate >= bound)
    return Crossing(crossed=crossed, bound=bound, spent=np.where(looked, now, 0.0))


def _deviate(tail: FloatArray) -> FloatArray:
    """The normal deviate with that upper tail; inf for none."""
    return np.asarray(-special.ndtri(np.clip(tail, 0.0, 1.0)))


def promotion_spending(extension: npt.ArrayLike) -> Spending:
    """Spending for promotion: O'Brien-Fleming type to the planned end, the rest at the extension.

    Args:
        extension: information fraction at which the hold expires, > 1, broadcast with the
            fractions. Between the planned end and the extension the rest is spent in proportion to
            information, so that a run that comes late or not at all loses nothing.

    Returns:
        A spending function; its budget is ``alpha``, of which 80 % are spent at fraction 1.

    References:
        Lan and DeMets (1983), 80 % of the O'Brien-Fleming type spending, up to fraction 1.

    Examples:
        >>> [round(float(x), 4) for x in promotion_spending(1.5)([1.0, 1.5], alpha=0.05)]
        [0.04, 0.05]
    """

    def spent(fraction: npt.ArrayLike, *, alpha: npt.ArrayLike) -> FloatArray:
        t = np.asarray(fraction, dtype=np.float64)
        budget = np.asarray(alpha, dtype=np.float64)
        planned = PLANNED_SHARE * obrien_fleming_spending(t, alpha=budget)
        beyond = np.clip((t - 1.0) / (np.asarray(extension) - 1.0), 0.0, 1.0)
        return np.asarray(planned + (1.0 - PLANNED_SHARE) * budget * beyond)

    return spent
