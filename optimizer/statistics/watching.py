"""Whether a declared leader still leads: alarms on change, whenever it happens.

Three kinds of bets run beside the traffic, each able to start anew at any batch: that another arm
now beats the leader, that the leader now fails more often than it did when it was declared, and
that another arm now succeeds more often than it did then. The last needs few units, of that arm
alone, where comparing it at its small share of the traffic needs many. The laws kept here: without
any change the mean time between false alarms is at least the one asked for, in batches; evidence
against a change is forgotten, evidence for one is not; an alarm is final.

An alarm voids the evidence of all arms and starts a new race; it never rolls back and never
promotes. The bets of an arm against itself also answer to a drift that all arms share.

References:
    Shin, Ramdas and Rinaldo (2024), E-detectors: a nonparametric framework for sequential change
    detection, arXiv 2203.03532.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.statistics.declaring import Race
from optimizer.statistics.evalues import (
    GRID_SIZE,
    Side,
    exact_increments,
    log_evalue,
    odds_ratios,
)

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

BETWEEN_ALARMS: Final = 2_000.0
"""Mean batches between false alarms, at least."""
SLACK_SE: Final = 2.0
"""Standard errors by which an arm's rate at the declaration is moved to be its reference: the
leader's down, the others' up."""
KINDS: Final = 3
"""Kinds of bets, which share the false alarms evenly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderWatch:
    """Detectors of change around declared leaders, of many targets (or simulated runs) at once.

    Attributes:
        leader: the declared arm, shape (...).
        reference: the leader's failure rate that still counts as unchanged, shape (...).
        references: each arm's success rate that still counts as unchanged, shape (..., K).
        others: grid of each arm "beats the leader", shape (..., K, 16); the leader's own stays 0.
        itself: grid of "the leader fails more than its reference", shape (..., 16).
        risen: grid of each arm "succeeds more than its reference", shape (..., K, 16); the leader's
            own stays 0.
    """

    leader: IntArray
    reference: FloatArray
    references: FloatArray
    others: FloatArray
    itself: FloatArray
    risen: FloatArray

    @property
    def arms(self) -> int:
        """K, the number of arms."""
        return int(self.others.shape[-2])


def watch_leader(race: Race, leader: npt.ArrayLike) -> LeaderWatch:
    """The detectors at the moment of a declaration.

    The reference is ``1 - (p - 2 sqrt(p (1 - p) / n))`` with the leader's smoothed success rate
    ``p = (successes + 1) / (n + 2)``: a leader that never failed is not taken for infallible. That
    of the other arms is ``p + 2 sqrt(p (1 - p) / n)``.

    Args:
        race: all that led to the declaration, shape (...).
        leader: the declared arm of each target, 0..K-1, shape (...).

    Raises:
        ValueError: a leader is not one of the arms.

    Examples:
        >>> from optimizer.statistics.declaring import new_race, observe
        >>> race = observe(new_race(2), [1000, 1000], [800, 700])
        >>> round(float(watch_leader(race, 0).reference), 3)
        0.226
    """
    named = np.asarray(leader, dtype=np.int64)
    if not np.all((named >= 0) & (named < race.arms)):
        raise ValueError(f"a leader is one of the {race.arms} arms, 0 to {race.arms - 1}")
    rate = (race.successes + 1.0) / (race.units + 2.0)
    error = np.sqrt(rate * (1.0 - rate) / np.maximum(race.units, 1))
    lowest = np.take_along_axis(rate - SLACK_SE * error, named[..., None], axis=-1)[..., 0]
    return LeaderWatch(
        leader=named,
        reference=np.clip(1.0 - lowest, 0.0, 1.0),
        references=np.clip(rate + SLACK_SE * error, 0.0, 1.0),
        others=np.zeros((*race.units.shape, GRID_SIZE)),
        itself=np.zeros((*named.shape, GRID_SIZE)),
        risen=np.zeros((*race.units.shape, GRID_SIZE)),
    )


def observe_watch(held: LeaderWatch, units: npt.ArrayLike, successes: npt.ArrayLike) -> LeaderWatch:
    """The detectors after one more batch: ``l = max(l, 0) + increment``, for each of the grid.

    Args:
        held: so far, shape (...).
        units: units of each arm in the batch, shape (..., K).
        successes: those that succeeded, shape (..., K).

    Raises:
        ValueError: a count is negative, not whole or too large.
    """
    counted, succeeded = np.asarray(units), np.asarray(successes)
    at = held.leader[..., None]
    n = np.take_along_axis(counted, at, axis=-1)
    k = np.take_along_axis(succeeded, at, axis=-1)
    beaten = exact_increments(succeeded, counted, k, n, side=Side.HIGHER)
    # The leader does not compete with itself: its own row would bet on chance alone.
    own = (np.arange(held.arms) == at)[..., None]
    worse = _more_often(n - k, n, held.reference[..., None])[..., 0, :]
    better = _more_often(succeeded, counted, held.references)
    return replace(
        held,
        others=np.maximum(held.others, 0.0) + np.where(own, 0.0, beaten),
        itself=np.maximum(held.itself, 0.0) + worse,
        risen=np.maximum(held.risen, 0.0) + np.where(own, 0.0, better),
    )


def changed(held: LeaderWatch, *, between_alarms: float = BETWEEN_ALARMS) -> BoolArray:
    """Whether a detector has reached its alarm, shape (...).

    The three kinds share the false alarms evenly: ``log 3 c`` for the leader against itself,
    ``log 3 c (K - 1)`` for each other arm, against the leader and against itself, c the mean number
    of batches between false alarms.

    Raises:
        ValueError: between_alarms is below 1.
    """
    if not between_alarms >= 1.0:
        raise ValueError(f"between_alarms is at least 1 batch, got {between_alarms!r}")
    limit = np.log(KINDS * between_alarms)
    shared = limit + np.log(held.arms - 1.0)
    overtaken = log_evalue(held.others).max(axis=-1) >= shared
    risen = log_evalue(held.risen).max(axis=-1) >= shared
    return np.asarray(overtaken | risen | (log_evalue(held.itself) >= limit))


def _more_often(events: IntArray, units: IntArray, rate: FloatArray) -> FloatArray:
    """Log likelihood ratios of the grid against events at a known rate, shape (..., 16)."""
    psi = odds_ratios(Side.HIGHER)
    price = np.log1p(rate[..., None] * (psi - 1.0))
    return np.asarray(events[..., None] * np.log(psi) - units[..., None] * price)
