"""Logged requests with known chances, a policy over their arms, and the weights it gives them.

A log holds requests, or sums of alike ones. The laws kept here: a weight is never negative, and one
whose propensity is not known is not known itself.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LARGEST_WEIGHT: Final = 20.0
"""Weights are cut here: beyond it one request would speak for twenty and more."""

_WHOLE: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """R cells of logged requests, each one request or the sum of alike ones, over A arms.

    Requests are alike where everything but their rewards is equal. Rewards are higher = better, in
    any unit.

    Attributes:
        arm: which arm served, 0 to A - 1, shape (R,).
        propensity: the logged chance of that arm, in (0, 1]; 0 and nan = unknown, shape (R,).
        chances: chance of every arm in the split that served, nan = unknown, shape (R, A).
        n: requests in the cell, above 0, shape (R,).
        total: sum of their rewards, shape (R,).
        squares: sum of their squared rewards, shape (R,).
        cluster: the independent unit or hash bucket they belong to, >= 0, shape (R,).
        segment: what the reward may depend on beside the arm, >= 0, shape (R,).

    Raises:
        ValueError: shapes differ, or a count, a chance or an index lies outside its range.
    """

    arm: IntArray
    propensity: FloatArray
    chances: FloatArray
    n: FloatArray
    total: FloatArray
    squares: FloatArray
    cluster: IntArray
    segment: IntArray

    def __post_init__(self) -> None:
        """Check shapes and ranges."""
        columns = (self.propensity, self.n, self.total, self.squares, self.cluster, self.segment)
        if {column.shape for column in columns} != {self.arm.shape} or self.chances.shape != (
            *self.arm.shape,
            self.chances.shape[-1],
        ):
            msg = f"columns of a log have one length, got {[c.shape for c in columns]}"
            raise ValueError(msg)
        for name, low, high in (
            ("arm", 0, self.chances.shape[1] - 1),
            ("propensity", 0, 1),
            ("chances", 0, 1),
            ("cluster", 0, np.inf),
            ("segment", 0, np.inf),
        ):
            if np.any((getattr(self, name) < low) | (getattr(self, name) > high)):
                msg = f"{name} lies outside [{low}, {high}]"
                raise ValueError(msg)
        if not np.all(self.n > 0):
            msg = "a cell of a log holds at least one request"
            raise ValueError(msg)

    @property
    def size(self) -> float:
        """Requests in the log."""
        return float(self.n.sum())

    @property
    def deviation(self) -> float:
        """Standard deviation of one reward; 0 for an empty log."""
        if not self.arm.size:
            return 0.0
        mean = self.total.sum() / self.size
        return float(np.sqrt(max(self.squares.sum() / self.size - mean**2, 0.0)))


def always(log: Log, arm: int) -> FloatArray:
    """The policy that gives every request to one arm, shape (R, A)."""
    return np.broadcast_to(np.eye(log.chances.shape[1])[arm], log.chances.shape)


def importance(log: Log, policy: npt.ArrayLike) -> FloatArray:
    """How many requests of the policy each request of the log stands for, shape (R,).

    Args:
        log: what was logged.
        policy: the policy's chance of every arm for each cell, shape (R, A).

    Returns:
        ``pi(a | x) / p``, >= 0; nan where the propensity is unknown.

    Raises:
        ValueError: the policy's chances of a cell are negative or do not add to 1.

    Examples:
        >>> log = log_of([0, 1, 1], [0.5, 0.5, 0.25], [1.0, 0.0, 1.0])
        >>> importance(log, always(log, 1)).tolist()
        [0.0, 2.0, 4.0]
    """
    chance = np.asarray(policy, dtype=np.float64)
    if np.any(chance < 0) or not np.allclose(chance.sum(axis=-1), 1.0, rtol=0.0, atol=_WHOLE):
        msg = "a policy's chances are zero or more and add to 1 over the arms"
        raise ValueError(msg)
    known = np.where(log.propensity > 0, log.propensity, np.nan)
    return np.asarray(chance[np.arange(log.arm.size), log.arm] / known)


def clipped(weight: FloatArray) -> FloatArray:
    """The weights cut at :data:`LARGEST_WEIGHT`, same shape."""
    return np.minimum(weight, LARGEST_WEIGHT)


def log_of(
    arm: npt.ArrayLike,
    propensity: npt.ArrayLike,
    total: npt.ArrayLike,
    *,
    n: npt.ArrayLike = 1.0,
    squares: npt.ArrayLike | None = None,
    cluster: npt.ArrayLike | None = None,
    segment: npt.ArrayLike = 0,
    chances: npt.ArrayLike | None = None,
) -> Log:
    """A log from its columns; single requests need no more than the first three.

    Args:
        arm: as in :class:`Log`; so are propensity, total, n and segment, broadcast to its shape.
        propensity: chance of the arm that served.
        total: sum of rewards.
        n: requests in the cell.
        squares: sum of squared rewards; None = the cells are single requests.
        cluster: None = each cell is a cluster of its own.
        segment: what the reward may depend on.
        chances: None = two arms, and the other one has what the first leaves.
    """
    served = np.asarray(arm, dtype=np.int64)
    chance, value, size = (
        np.array(np.broadcast_to(np.asarray(given, dtype=np.float64), served.shape))
        for given in (propensity, total, n)
    )
    if chances is None:
        other = np.stack([1.0 - chance, chance], axis=-1)
        chances = np.where(served[:, None] == 1, other, other[:, ::-1])
    return Log(
        arm=served,
        propensity=chance,
        chances=np.asarray(chances, dtype=np.float64),
        n=size,
        total=value,
        squares=value**2 if squares is None else np.asarray(squares, dtype=np.float64),
        cluster=np.arange(served.size) if cluster is None else np.asarray(cluster, dtype=np.int64),
        segment=np.array(np.broadcast_to(np.asarray(segment, dtype=np.int64), served.shape)),
    )
