"""What a simulated world is like, and the window sums its rollouts leave behind.

Only sums exist, as in the project itself: requests and events by window, and sums over hash buckets
of units where a variance must see that a unit's requests resemble each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.rollouts.plan import CANARY, Plan

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

FAILURE: Final = "failure"
SLOW: Final = "slow"
COST: Final = "cost"
LATENCY: Final = "latency"
QUALITY: Final = "quality"
REQUESTS: Final = "n"
LABELS: Final = "labels"
BUCKETS: Final = 128
USUAL_SIGMA: Final = 0.8
TINY_USD: Final = 1e-4


class Units(Enum):
    """Which requests resemble each other.

    SINGLE: none; MINUTE: ten requests of a session within one minute; SPAN: a session's requests,
    geometric with mean ten, spread over three hours; BURST: ten consecutive requests of a client,
    of whom a few carry most of the traffic, in bursts.
    """

    SINGLE = "single"
    MINUTE = "minute"
    SPAN = "span"
    BURST = "burst"


class Blip(Enum):
    """Whose failure rate is multiplied for one hour."""

    NOBODY = "nobody"
    BOTH = "both"
    CANARY = "canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The truth of one simulated world.

    rate: failures of control, and of a canary whose ``effect`` (a multiple) is 1; the effect acts
    from ``harm_from_hour`` on. drift_sd: of the log rate both arms share, AR(1) with hourly lag
    correlation .7. icc: correlation of failures within a unit. guardrails: independent
    failure-like metrics, the first of which has the effect. means: whether latency, cost and
    quality exist; sigma: of their logarithm (latency, cost); cost_usd: control's mean; cost_effect,
    slow_effect: multiples; quality_loss: of the mean score; labelled: part of requests with a
    score; label_delay_hours: mean time from a request to its score, geometric in windows, 0 for at
    once; maturity_hours: age a window needs before its scores count. missing: part of the hours
    that are lost; lag_hours: age at which windows arrive. canary: whether the canary gets its
    traffic at all. clients, top_ten: of bursts, how many there are and what ten of them carry.
    """

    units: Units = Units.SINGLE
    rate: float = 0.02
    effect: float = 1.0
    harm_from_hour: int = 0
    drift_sd: float = 0.0
    blip: Blip = Blip.NOBODY
    icc: float = 0.1
    guardrails: int = 1
    means: bool = False
    sigma: float = USUAL_SIGMA
    cost_usd: float = 1e-2
    cost_effect: float = 1.0
    slow_effect: float = 1.0
    quality_loss: float = 0.0
    labelled: float = 0.7
    label_delay_hours: float = 0.0
    maturity_hours: int = 0
    missing: float = 0.0
    lag_hours: int = 0
    canary: bool = True
    clients: int = 162
    top_ten: float = 0.63

    def __post_init__(self) -> None:
        if self.units is not Units.SINGLE and (
            self.drift_sd or self.harm_from_hour or self.blip is not Blip.NOBODY
        ):
            raise ValueError("sessions carry one failure chance each: no drift, delay or blip")
        if self.guardrails > 1 and self.by_rows:
            raise ValueError("further failure-like metrics exist for independent requests alone")

    @property
    def by_rows(self) -> bool:
        """Whether requests are drawn one by one before they are summed."""
        return self.means or self.units is not Units.SINGLE

    @property
    def kind(self) -> str:
        """What sets this world apart: the name by which its cells are chosen."""
        traits = {
            self.units.value: self.units is not Units.SINGLE,
            "label_delay": self.label_delay_hours > 0 or self.maturity_hours > 0,
            "no_canary": not self.canary,
            "hours_lost": self.missing > 0,
            "hours_late": self.lag_hours > 0,
            "blip": self.blip is not Blip.NOBODY,
            "delayed_harm": self.harm_from_hour > 0,
            "drift": self.drift_sd > 0,
            "tails": self.means and self.sigma != USUAL_SIGMA,
            "tiny_cost": self.cost_usd < TINY_USD,
        }
        named = {"minute": "session_minute", "span": "session_span", "burst": "bursty"}
        found = next((name for name, has in traits.items() if has), "independent")
        return named.get(found, found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What R rollouts leave behind.

    n, units: requests, and units first seen, shape (R, W, 2), W windows; events: name -> the same
    shape; fine: name -> sums over buckets, shape (R, W, 2, B), of clustered traffic; buckets: name
    -> shape (R, hours, 2, B).
    """

    plan: Plan
    lag_hours: int
    n: IntArray
    units: IntArray
    events: Mapping[str, IntArray]
    fine: Mapping[str, npt.NDArray[np.int16]] = field(default_factory=dict)
    buckets: Mapping[str, FloatArray] = field(default_factory=dict)

    @property
    def clustered(self) -> bool:
        """Whether units make several requests."""
        return bool(self.fine)

    @property
    def rollouts(self) -> int:
        """R."""
        return len(self.n)

    def by_hour(self, windows: npt.NDArray[np.integer]) -> IntArray:
        """Cumulative sums after each hour, shape (R, hours, ...) from (R, W, ...)."""
        shape = (len(windows), self.plan.hours, self.plan.windows_an_hour, *windows.shape[2:])
        hourly = windows.reshape(shape).sum(axis=2, dtype=np.int64)
        return np.asarray(np.cumsum(hourly, axis=1))

    def served(self, window: IntArray) -> IntArray:
        """Canary requests served when a window can be acted on, shape (R,); window may be -1."""
        total = np.cumsum(self.n[:, :, CANARY], axis=1)
        acted = np.minimum(window + self.lag_hours * self.plan.windows_an_hour, total.shape[1] - 1)
        return np.asarray(np.where(window >= 0, total[np.arange(len(total)), acted], total[:, -1]))
