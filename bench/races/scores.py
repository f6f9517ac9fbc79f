"""The project's rule for graded rewards, over many runs at once: limits of each pair's lead.

What :func:`optimizer.statistics.declaring_means.leads` computes anew from all hours of one
experiment is kept here as sums, one batch at a time. Both give the same limits.
"""

from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.races.rules import DRAWS
from bench.races.worlds import Batch
from optimizer.statistics.anytime import half_width_multiplier
from optimizer.statistics.clusters import (
    MIN_CLUSTERS,
    RatioEstimate,
    effective_clusters,
    equally_clustered,
    welch,
)
from optimizer.statistics.declaring import DELTA, NONE, rival_pairs
from optimizer.statistics.declaring_means import MIN_SCORED, TIGHTEST
from optimizer.statistics.thompson import after_declaration, top_two_means

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

UNKNOWN: Final = np.nan
Number = TypeVar("Number", np.float64, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Sums over the batches, first axis the run.

    x, y: rewards and their sum by arm and hash bucket, shape (runs, K, B); squares: (runs, K). Of
    each ordered pair, with weights ``h = n_i n_j / (n_i + n_j)`` of a batch: ``weight``, the sum of
    h, and ``rows``, of ``h ** 2 / n_i``, shape (runs, K, K); ``px`` and ``py``, that of ``h / n_i``
    times x and y of the first arm, shape (runs, K, K, B).
    """

    x: FloatArray
    y: FloatArray
    squares: FloatArray
    weight: FloatArray
    rows: FloatArray
    px: FloatArray
    py: FloatArray


class AsymptoticMeans:
    """Limits of leads at every look together, cluster-robust, with top-two Thompson sampling."""

    declares = True

    def start(self, truth: FloatArray) -> Scores:
        """Before the first batch; the buckets come with it."""
        runs, arms = truth.shape
        none, pair = np.zeros((runs, arms, 1)), np.zeros((runs, arms, arms))
        wide = np.zeros((runs, arms, arms, 1))
        return Scores(
            x=none, y=none, squares=none[..., 0], weight=pair, rows=pair, px=wide, py=wide
        )

    def observe(self, state: Scores, batch: Batch) -> Scores:
        """After one more batch."""
        size = batch.units.astype(np.float64)
        both = size[:, :, None] + size[:, None, :]
        h = size[:, :, None] * size[:, None, :] / np.where(both > 0, both, 1.0)
        each = h / np.where(size > 0, size, 1.0)[:, :, None]
        return Scores(
            x=state.x + batch.x,
            y=state.y + batch.y,
            squares=state.squares + batch.squares,
            weight=state.weight + h,
            rows=state.rows + h * each,
            px=state.px + each[..., None] * batch.x[:, :, None, :],
            py=state.py + each[..., None] * batch.y[:, :, None, :],
        )

    def shares(self, state: Scores, rng: np.random.Generator) -> FloatArray:
        """Top two by means, with fewer draws than in service."""
        return top_two_means(*posterior(state), rng, draws=DRAWS)

    def winner(self, state: Scores) -> IntArray:
        """The arm whose lead over each other one is proven."""
        low = lower(state)
        at = np.arange(low.shape[-1])
        low[:, at, at] = np.inf
        with np.errstate(invalid="ignore"):
            proven = np.all(low > 0, axis=-1)
        return np.where(proven.any(axis=-1), proven.argmax(axis=-1), NONE)

    def settled(self, named: IntArray, arms: int) -> FloatArray:
        """All but the floor to the arm declared."""
        return after_declaration(named, arms=arms)


def posterior(state: Scores) -> tuple[FloatArray, FloatArray]:
    """Mean of each arm and its clustered variance, nan where there is too little, (runs, K)."""
    size, total = state.x.sum(axis=-1), state.y.sum(axis=-1)
    mean = _divide(total, size)
    parts = np.nan_to_num(state.y - mean[..., None] * state.x)
    clustered = _divide((parts**2).sum(axis=-1), size**2)
    variance = np.fmax(clustered, _divide(_spread(size, total, state.squares), size))
    return mean, np.where(_known(state, size), variance, UNKNOWN)


def lower(state: Scores) -> FloatArray:
    """Lower limit of the first arm's lead over the second, nan where unknown, (runs, K, K)."""
    size, total = state.x.sum(axis=-1), state.y.sum(axis=-1)
    whole = np.where(state.weight > 0, state.weight, UNKNOWN)
    mean = state.py.sum(axis=-1) / whole
    parts = (state.py - mean[..., None] * state.px) / whole[..., None]
    filled = np.count_nonzero(state.x, axis=-1)
    clustered = (parts**2).sum(axis=-1) * (filled / np.maximum(filled - 1.0, 1.0))[..., None]
    single = _spread(size, total, state.squares)[..., None] * state.rows / whole**2
    clusters = np.broadcast_to(effective_clusters(state.x)[..., None], mean.shape)
    first = RatioEstimate(value=mean, variance=np.fmax(clustered, single), clusters=clusters)
    second = RatioEstimate(
        value=_turned(mean), variance=_turned(first.variance), clusters=_turned(clusters)
    )
    variance, df = welch(*equally_clustered((first, second), (single, _turned(single))))
    arms = size.shape[-1]
    multiplier = half_width_multiplier(
        size[..., :, None] + size[..., None, :],
        alpha=DELTA / rival_pairs(arms, dropped=False),
        tightest_at=TIGHTEST,
        two_sided=False,
    )
    half = -special.stdtrit(df, special.ndtr(-multiplier)) * np.sqrt(variance)
    known = _known(state, size)
    return np.where(known[..., None] & known[..., None, :], mean - _turned(mean) - half, UNKNOWN)


def _known(state: Scores, size: FloatArray) -> npt.NDArray[np.bool_]:
    return (size >= MIN_SCORED) & (effective_clusters(state.x) >= MIN_CLUSTERS)


def _spread(size: FloatArray, total: FloatArray, squares: FloatArray) -> FloatArray:
    """Variance of one reward of each arm, smoothed by that of all arms, (runs, K)."""
    n = size.sum(axis=-1, keepdims=True)
    centre = _divide(total.sum(axis=-1, keepdims=True), n)
    pooled = np.maximum(_divide(squares.sum(axis=-1, keepdims=True), n) - centre**2, 0.0)
    within = np.maximum(squares - np.nan_to_num(_divide(total**2, size)), 0.0)
    return np.asarray((2.0 * pooled + within) / (size + 1.0))


def _turned(pairs: npt.NDArray[Number]) -> npt.NDArray[Number]:
    return np.swapaxes(pairs, 1, 2)


def _divide(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    return np.asarray(numerator / np.where(denominator > 0, denominator, UNKNOWN))
