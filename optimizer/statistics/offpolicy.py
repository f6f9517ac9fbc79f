"""What a policy would have been worth, from requests that another one served with known chances.

A log holds requests, or sums of alike ones: the laws kept here are that summing alike requests,
splitting the sums again or shuffling them changes no estimate, that scaling the reward by a
positive constant scales every estimate by it, and that the policy that wrote the log is worth its
mean. Every request counts, by its chance; a mean over the requests in which the log happens to
agree with the policy is biased and does not exist here.

References:
    Dudik, Langford and Li (2011), Doubly robust policy evaluation and learning, arXiv 1103.4601;
    Swaminathan and Joachims (2015), The self-normalized estimator for counterfactual learning,
    NeurIPS 28; Saito et al. (2021), Open Bandit Dataset and Pipeline, arXiv 2008.07146.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.statistics.clusters import MIN_CLUSTERS, effective_clusters
from optimizer.statistics.offpolicy_log import FloatArray, Log

SHRINKAGE: Final = 20.0
"""Requests that an arm's mean is worth as a guess of its mean in one segment."""

_FOLDS: Final = 2
_ROUNDING: Final = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyValue:
    """What a policy is worth a request, in the reward's unit.

    Attributes:
        value: the estimate; nan where there is nothing to estimate it from.
        influence: what each cluster adds to its error, shape (G,), clusters ascending; estimates
            from one log are subtracted cluster by cluster.
        clusters: how many clusters of equal size they are worth.
    """

    value: float
    influence: FloatArray
    clusters: int

    @property
    def variance(self) -> float:
        """Squared standard error; nan for too few clusters or without any spread.

        References:
            Delta method over clusters, ``G / (G - 1) * sum(influence ** 2)``: Deng, Knoblich and Lu
            (2018), arXiv 1803.06336.
        """
        squares = float(np.square(self.influence).sum())
        if self.clusters < MIN_CLUSTERS or not squares > 0:
            return float("nan")
        size = self.influence.size
        return size / (size - 1.0) * squares

    def minus(self, other: "PolicyValue", *, times: float = 1.0) -> "PolicyValue":
        """This less ``times`` the other, both from one log: their errors are not independent."""
        return PolicyValue(
            value=self.value - times * other.value,
            influence=self.influence - times * other.influence,
            clusters=min(self.clusters, other.clusters),
        )


def ips(log: Log, weight: FloatArray) -> PolicyValue:
    """Inverse propensity score: the mean of ``w y``. Unbiased; its scale follows that of weights.

    References:
        Horvitz and Thompson (1952), JASA 47:663; Dudik, Langford and Li (2011), equation 2.

    Examples:
        >>> from optimizer.statistics.offpolicy_log import always, importance, log_of
        >>> log = log_of([0, 1, 1, 0], [0.5] * 4, [0.0, 1.0, 0.0, 1.0])
        >>> ips(log, importance(log, always(log, 1))).value
        0.5
    """
    return _ratio(log, weight * log.total, log.n)


def snips(log: Log, weight: FloatArray) -> PolicyValue:
    """Self-normalised: ``sum(w y) / sum(w)``. Inside the range of rewards, hardly biased.

    References:
        Swaminathan and Joachims (2015), equation 9.

    Examples:
        >>> from optimizer.statistics.offpolicy_log import always, importance, log_of
        >>> log = log_of([0, 1, 1, 0], [0.5, 0.25, 0.5, 0.5], [0.0, 1.0, 0.0, 1.0])
        >>> round(snips(log, importance(log, always(log, 1))).value, 4)
        0.6667
    """
    return _ratio(log, weight * log.total, weight * log.n)


def doubly_robust(log: Log, policy: npt.ArrayLike, weight: FloatArray) -> PolicyValue:
    """Doubly robust: what a model of the reward predicts, corrected by the weighted residuals.

    The mean of ``sum_a pi(a | x) q(x, a) + w (y - q(x, a_i))``. Unbiased for any q where the
    propensities are right; q only makes it precise.

    Args:
        log: what was logged.
        policy: the policy's chance of every arm for each cell, shape (R, A).
        weight: of each cell, from :func:`importance`.

    References:
        Dudik, Langford and Li (2011), equation 3; cross-fitting: Chernozhukov et al. (2018),
        Econometrics Journal 21:C1.

    Examples:
        >>> from optimizer.statistics.offpolicy_log import always, importance, log_of
        >>> log = log_of([0, 1, 1, 0], [0.5] * 4, [0.0, 1.0, 0.0, 1.0])
        >>> round(doubly_robust(log, always(log, 1), importance(log, always(log, 1))).value, 4)
        0.5
    """
    predicted = cross_fitted(log)
    direct = (np.asarray(policy, dtype=np.float64) * predicted).sum(axis=-1)
    own = predicted[np.arange(log.arm.size), log.arm]
    return _ratio(log, log.n * direct + weight * (log.total - log.n * own), log.n)


def cross_fitted(log: Log) -> FloatArray:
    """The reward of every arm for each cell as the other half of the clusters has it, (R, A).

    The mean of (segment, arm), drawn towards the arm's mean, and that towards the mean of all. Odd
    clusters are one half, even ones the other; 0 where the other half is empty.
    """
    n_arms, n_segments = log.chances.shape[1], int(log.segment.max(initial=0)) + 1
    fold = log.cluster % _FOLDS
    place = (fold * n_segments + log.segment) * n_arms + log.arm
    shape, cells = (_FOLDS, n_segments, n_arms), _FOLDS * n_segments * n_arms
    count = np.bincount(place, log.n, minlength=cells).reshape(shape)
    total = np.bincount(place, log.total, minlength=cells).reshape(shape)
    overall = _quotient(total.sum(axis=(1, 2)), count.sum(axis=(1, 2)))
    of_arm = (total.sum(axis=1) + SHRINKAGE * overall[:, None]) / (count.sum(axis=1) + SHRINKAGE)
    table = (total + SHRINKAGE * of_arm[:, None, :]) / (count + SHRINKAGE)
    return np.asarray(table[1 - fold, log.segment])


def _ratio(log: Log, amount: FloatArray, base: FloatArray) -> PolicyValue:
    """``sum(amount) / sum(base)`` and what every cluster adds to its error."""
    _, position = np.unique(log.cluster, return_inverse=True)
    y, x = np.bincount(position, amount), np.bincount(position, base)
    value = float(_quotient(y.sum(), x.sum(), empty=np.nan))
    influence = (y - value * x) / (x.sum() or np.nan)
    # Where the clusters do not differ only rounding is left: that is no small error, but none.
    rounding = _ROUNDING * np.abs(y).max(initial=0.0) / (x.sum() or np.nan)
    return PolicyValue(
        value=value,
        influence=np.where(np.abs(influence) > rounding, influence, 0.0),
        clusters=int(effective_clusters(np.bincount(position, log.n))),
    )


def _quotient(y: npt.ArrayLike, x: npt.ArrayLike, *, empty: float = 0.0) -> FloatArray:
    size = np.asarray(x, dtype=np.float64)
    return np.asarray(np.where(size > 0, y / np.where(size > 0, size, 1.0), empty))
