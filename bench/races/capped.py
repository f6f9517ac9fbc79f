"""Thompson sampling on capped Beta counts, quality against price: the router of an LLM proxy."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.races.worlds import Batch

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

CAP: Final = 200.0
"""Largest ``alpha + beta``; an update that would exceed it is dropped."""
PRIOR: Final = 5.0
"""Alpha and beta at first: 10 counts, with the mean of the middle tier, .5."""
QUALITY, COST = 0.7, 0.3
DRAWS: Final = 20
"""Draws for a batch's split: fewer make it coarse, not wrong on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beta:
    """Pseudo-counts of each arm, shape (runs, K)."""

    alpha: FloatArray
    beta: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class CappedThompson:
    """A draw of each arm's quality, ``.7 quality + .3 cheapness``, and the largest gets the unit.

    prices: of the arms; cheapness is 1 for the cheapest and 0 for the dearest, .5 where all cost
    alike; draws: for the split of a batch. A cell of the proxy is one arm and kind of request; its
    feedback is a success here.

    References:
        LiteLLM, litellm/router_strategy/adaptive_router, bandit.py and config.py (beta feature, as
        of 2026): SAMPLE_CAP 200, COLD_START_MASS 10, weights .7 and .3, exploration_rate 1.
    """

    prices: tuple[float, ...] = ()
    draws: int = DRAWS

    declares = False

    def start(self, truth: FloatArray) -> Beta:
        """Before the first batch."""
        return Beta(alpha=np.full(truth.shape, PRIOR), beta=np.full(truth.shape, PRIOR))

    def shares(self, state: Beta, rng: np.random.Generator) -> FloatArray:
        """How often each arm's draw is the largest; a batch shares one state of the counts."""
        runs, arms = state.alpha.shape
        drawn = rng.beta(
            state.alpha[..., None], state.beta[..., None], size=(runs, arms, self.draws)
        )
        best = self._score(drawn, arms).argmax(axis=1)
        return np.asarray((best[:, None, :] == np.arange(arms)[:, None]).mean(axis=-1))

    def observe(self, state: Beta, batch: Batch) -> Beta:
        """After one more batch: what fits under the cap, in the proportion of the batch."""
        room = np.floor(np.maximum(CAP - state.alpha - state.beta, 0.0))
        taken = np.minimum(batch.units, room)
        good = np.rint(batch.good * taken / np.maximum(batch.units, 1))
        return Beta(alpha=state.alpha + good, beta=state.beta + taken - good)

    def winner(self, state: Beta) -> IntArray:
        """The favourite."""
        mean = state.alpha / (state.alpha + state.beta)
        return np.asarray(self._score(mean[..., None], mean.shape[1])[..., 0].argmax(axis=-1))

    def settled(self, named: IntArray, arms: int) -> FloatArray:
        """Not asked for: it settles on nothing."""
        raise AssertionError(arms)

    def _score(self, quality: FloatArray, arms: int) -> FloatArray:
        return QUALITY * quality + COST * cheapness(self.prices, arms)[:, None]


def cheapness(prices: tuple[float, ...], arms: int) -> FloatArray:
    """1 for the cheapest arm, 0 for the dearest, .5 where all cost alike, shape (K,).

    Examples:
        >>> cheapness((1.0, 3.0, 2.0), 3).tolist(), cheapness((), 2).tolist()
        ([1.0, 0.0, 0.5], [0.5, 0.5])
    """
    price = np.asarray(prices, dtype=np.float64)
    if not prices or np.ptp(price) == 0:
        return np.full(arms, 0.5)
    return np.asarray(1.0 - (price - price.min()) / np.ptp(price))
