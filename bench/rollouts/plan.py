"""The ramp a rollout follows: shares by stage, hours, and the information it plans to see.

A rollout lasts its stages and then holds at the last share. Windows last five minutes, or one where
a rule wants points; an hour is always a whole number of them. The order of arms is control, canary.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

CONTROL: Final = 0
CANARY: Final = 1
EXTENSION_HOURS: Final = 6
"""Hours after the planned end at which promotion is asked for the last time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Requests an hour, the canary's share in each stage, control's requests to one of the canary.

    split: the canary's part of the two equal arms' traffic; anything but .5 is a sample-ratio
    mismatch. hold_hours: how long the last share is held after the planned end.
    """

    volume: float
    shares: tuple[float, ...]
    control_ratio: float = 1.0
    stage_hours: int = 6
    hold_hours: int = EXTENSION_HOURS
    windows_an_hour: int = 12
    split: float = 0.5

    def __post_init__(self) -> None:
        if not (self.volume > 0 and 0 < self.split < 1 and self.hold_hours >= 0):
            raise ValueError(f"volume, split and hold must be possible, got {self}")
        if max(self.shares) * (1.0 + self.control_ratio) > 1.0 + 1e-9:
            raise ValueError(f"both arms together exceed the traffic: {self.shares}")

    @property
    def planned_hours(self) -> int:
        """Hours of all stages."""
        return self.stage_hours * len(self.shares)

    @property
    def hours(self) -> int:
        """Hours until the hold ends."""
        return self.planned_hours + self.hold_hours

    def hourly_shares(self) -> FloatArray:
        """Each arm's share of traffic in every hour, shape (hours, 2)."""
        canary = np.repeat(self.shares, self.stage_hours)
        canary = np.append(canary, np.full(self.hold_hours, self.shares[-1]))
        tilt = np.array([2.0 * (1.0 - self.split), 2.0 * self.split])
        return np.asarray(canary[:, None] * np.array([self.control_ratio, 1.0]) * tilt)

    def information(self, rate: float = 1.0) -> tuple[float, float]:
        """Planned information at the planned end and at the extension, units.

        References:
            ``n_e n_c / (n_e + n_c)``, from the forecast; rate: part of the requests that count.
        """
        canary = self.volume * rate * self.stage_hours * sum(self.shares)
        more = self.volume * rate * EXTENSION_HOURS * self.shares[-1]
        harmonic = self.control_ratio / (1.0 + self.control_ratio)
        return canary * harmonic, (canary + more) * harmonic

    @property
    def planned_canary(self) -> float:
        """Requests the canary is planned to have at the planned end."""
        return self.volume * self.stage_hours * sum(self.shares)


def ramp_a(volume: float, *, hold_hours: int = EXTENSION_HOURS, split: float = 0.5) -> Plan:
    """Equal arms at 5, 10, 25 and 50 % for six hours each."""
    return Plan(volume=volume, shares=(0.05, 0.10, 0.25, 0.50), hold_hours=hold_hours, split=split)


def ramp_b(volume: float, *, hold_hours: int = EXTENSION_HOURS) -> Plan:
    """5, 6, 8 and 10 % for six hours each, with nine times as much control."""
    return Plan(
        volume=volume, shares=(0.05, 0.06, 0.08, 0.10), control_ratio=9.0, hold_hours=hold_hours
    )
