"""When requests come: sessions of a few requests, a daily cycle, bursts from minute to minute."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from optimizer.integrations.simulated.outcomes import LUCK, MINUTE_S
from optimizer.integrations.simulated.published import hourly_shape
from optimizer.metrics import HOUR_S

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

LONGEST_SESSION = 5
GAP_S = 40.0
BURST_CV = 0.5
"""Coefficient of variation of the rate between minutes."""
SESSION_SHARE = 0.05
"""Part of the variance of quality that requests of one session have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """Requests of one target in the order they begin; all arrays of one length.

    at_s: Unix seconds; session: number within the target; luck: see :mod:`..outcomes`, shape
    (len(LUCK), n).
    """

    at_s: FloatArray
    session: IntArray
    luck: FloatArray

    def __len__(self) -> int:
        return len(self.at_s)

    def split(self, until_s: float) -> tuple["Requests", "Requests"]:
        """Those that began before ``until_s``, and those still to come."""
        here = self.at_s < until_s
        return self.take(here), self.take(~here)

    def take(self, chosen: npt.NDArray[np.bool_] | IntArray) -> "Requests":
        """Those chosen."""
        return Requests(
            at_s=self.at_s[chosen], session=self.session[chosen], luck=self.luck[:, chosen]
        )


def nothing() -> Requests:
    """No request."""
    return Requests(
        at_s=np.zeros(0), session=np.zeros(0, dtype=np.int64), luck=np.zeros((len(LUCK), 0))
    )


def joined(first: Requests, second: Requests) -> Requests:
    """Both, in the order they begin."""
    both = Requests(
        at_s=np.concatenate([first.at_s, second.at_s]),
        session=np.concatenate([first.session, second.session]),
        luck=np.concatenate([first.luck, second.luck], axis=1),
    )
    return both.take(np.argsort(both.at_s, kind="stable"))


def arriving(
    rng: np.random.Generator,
    *,
    start_s: int,
    minutes: int,
    requests_per_hour: float,
    first_session: int,
) -> Requests:
    """Requests of the sessions that begin in ``minutes`` minutes from ``start_s``.

    A session may last beyond them. Rates follow the published daily cycle, with gamma-distributed
    bursts from minute to minute.
    """
    minute_s = start_s + MINUTE_S * np.arange(minutes)
    shape = np.array(hourly_shape())[minute_s // HOUR_S % len(hourly_shape())]
    burst = rng.gamma(1 / BURST_CV**2, BURST_CV**2, minutes)
    mean_length = (1 + LONGEST_SESSION) / 2
    begun = rng.poisson(requests_per_hour / 60 / mean_length * shape * burst)
    n = int(begun.sum())
    start = np.repeat(minute_s, begun) + rng.uniform(0, MINUTE_S, n)
    length = rng.integers(1, LONGEST_SESSION + 1, n)
    owner = np.repeat(np.arange(n), length)
    gaps = rng.exponential(GAP_S, int(length.sum()))
    first = np.cumsum(length) - length
    gaps[first] = 0.0
    since = np.cumsum(gaps)
    at = start[owner] + since - since[first][owner]
    luck = rng.uniform(1e-9, 1 - 1e-9, (len(LUCK), at.size))
    taste = rng.standard_normal(n)[owner]
    own = special.ndtri(luck[0])
    luck[0] = special.ndtr(np.sqrt(SESSION_SHARE) * taste + np.sqrt(1 - SESSION_SHARE) * own)
    made = Requests(at_s=at, session=first_session + owner.astype(np.int64), luck=luck)
    return made.take(np.argsort(made.at_s, kind="stable"))
