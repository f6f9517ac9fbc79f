"""Requests of a few clients that come in bursts, as published traces of real traffic have them.

Figures of ServeGen (alibaba/ServeGen, production traffic of two models, m-small and m-large):
arrivals by client have a coefficient of variation of 1.2 in the median and 4.3 at the 90 % quantile
(m-large; 5.5 in m-small), hourly rates vary six-fold within a day, and ten of 43 clients carry 93 %
of the requests (m-small), ten of 162 clients 63 % (m-large). For comparison, the counts by minute
of the Azure traces of 2023 have a variance of 26 (chat) and 117 (code) times their mean.

No trace is read here: the figures are enough to draw any number of days.

References:
    The counts of a renewal process whose gaps have the coefficient of variation c have, over long
    windows, c squared as the variance over their mean: Cox (1962), Renewal Theory. Windows of such
    counts are drawn as Poisson counts of a gamma rate (Greenwood and Yule 1920, JRSS 83:255).
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import optimize

from bench.rollouts.plan import Plan
from bench.rollouts.world import World

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

MEDIAN_VARIATION: Final = 1.2
HIGH_VARIATION: Final = 4.3
"""Coefficient of variation that one client in ten exceeds."""
LARGEST_VARIATION: Final = 10.0
NINE_IN_TEN: Final = 1.2815515655446004
"""The normal deviate below which nine in ten lie."""
FOLD: Final = 6.0
"""Largest hourly rate of a day over its smallest."""
DAY_HOURS: Final = 24
TOP: Final = 10
SESSION_REQUESTS: Final = 10
CLIENT_SD: Final = 0.7
"""Of the logarithm of a client's own failure rate, an assumption."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """Requests, each client's together and in order of time: window and unit, shape (N,).

    rollout, rate: of each unit: its rollout, and its client's failure rate over that of all
    requests, shape (U,).
    """

    window: IntArray
    unit: IntArray
    rollout: IntArray
    rate: FloatArray


@lru_cache(maxsize=8)
def weights(clients: int, top_ten: float) -> tuple[float, ...]:
    """Shares of the traffic by client, falling as a power of the rank; ten have ``top_ten``.

    Examples:
        >>> round(sum(weights(162, 0.63)[:10]), 6), round(sum(weights(162, 0.63)), 6)
        (0.63, 1.0)
    """
    rank = np.arange(1, clients + 1, dtype=np.float64)

    def beyond(power: float) -> float:
        share = rank**-power
        return float(share[:TOP].sum() / share.sum()) - top_ten

    share = rank ** -float(optimize.brentq(beyond, 0.0, 10.0))
    return tuple((share / share.sum()).tolist())


def profile(hours: int, rollouts: int, chance: np.random.Generator) -> FloatArray:
    """Hourly rates over their mean, a wave a day that starts anywhere, shape (R, hours)."""
    phase = chance.uniform(0.0, DAY_HOURS, (rollouts, 1))
    swing = 0.5 * np.log(FOLD)
    wave = np.exp(swing * np.sin(2.0 * np.pi * (np.arange(hours) + phase) / DAY_HOURS))
    return np.asarray(wave / np.i0(swing))


def dispersions(rollouts: int, clients: int, chance: np.random.Generator) -> FloatArray:
    """Variance over mean of each client's counts, at least 1, shape (R, C)."""
    spread = np.log(HIGH_VARIATION / MEDIAN_VARIATION) / NINE_IN_TEN
    variation = MEDIAN_VARIATION * np.exp(spread * chance.standard_normal((rollouts, clients)))
    return np.asarray(np.clip(variation, 1.0, LARGEST_VARIATION) ** 2)


def arrived(world: World, plan: Plan, rollouts: int, chance: np.random.Generator) -> Arrived:
    """All requests of a target; ten consecutive ones of a client are a unit."""
    share = np.array(weights(world.clients, world.top_ten))
    rates = np.repeat(profile(plan.hours, rollouts, chance), plan.windows_an_hour, axis=1)
    mean = plan.volume / plan.windows_an_hour * share[None, :, None] * rates[:, None, :]
    excess = dispersions(rollouts, share.size, chance)[:, :, None] - 1.0
    burst = np.maximum(excess, 1e-9)
    level = np.where(excess > 0, burst * chance.standard_gamma(mean / burst), mean)
    counts = chance.poisson(level)
    own = np.exp(CLIENT_SD * chance.standard_normal((rollouts, share.size)))
    own /= (own * share).sum(axis=1, keepdims=True)
    windows = counts.shape[-1]
    cell = np.repeat(np.arange(counts.size), counts.reshape(-1))
    total = counts.sum(axis=-1).reshape(-1)
    client = cell // windows
    number = np.arange(cell.size) - np.repeat(np.cumsum(total) - total, total)
    sessions = -(-total // SESSION_REQUESTS)
    first = np.cumsum(sessions) - sessions
    of_unit = np.repeat(np.arange(total.size), sessions)
    return Arrived(
        window=cell % windows,
        unit=first[client] + number // SESSION_REQUESTS,
        rollout=of_unit // share.size,
        rate=own.reshape(-1)[of_unit],
    )
