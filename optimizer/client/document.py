"""One published allocation, as a value whose wrong contents cannot be built.

The law: the slices tile [0, 1). Every unit has a point there, so every unit falls into exactly one
slice, and the widths of the slices are the probabilities with which their arms are chosen.
"""

import itertools
import math
import reprlib
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

SEPARATOR = "\x1f"
EXPERIMENT = "experiment"
"""The slice whose parts name many arms; every other slice names one."""


class AllocationError(ValueError):
    """A published allocation breaks its contract; names the field, its value and the bound.

    Examples:
        >>> str(AllocationError("generation", -1, "an integer >= 0"))
        "allocation field 'generation' is -1, must be an integer >= 0"
    """

    def __init__(self, name: str, value: object, bound: str) -> None:
        """Keep the three facts beside the message, for those who count causes."""
        # reprlib bounds both length and depth, whatever a corrupt file holds.
        super().__init__(f"allocation field {name!r} is {reprlib.repr(value)}, must be {bound}")
        self.name = name
        self.value = value
        self.bound = bound


def require(name: str, value: object, bound: str, *, holds: bool) -> None:
    """Nothing when `holds`.

    Raises:
        AllocationError: when it does not.
    """
    if not holds:
        raise AllocationError(name, value, bound)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The half-open part [low, high) of [0, 1) whose units get one arm.

    Examples:
        >>> Slice(name="canary", arm="mini", low=0.0, high=0.25).width
        0.25
    """

    name: str
    arm: str
    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse an empty, reversed or overhanging part."""
        require("slice", self.name, "a name", holds=bool(self.name))
        require(f"slices[{self.name}].low", self.low, "in [0, 1)", holds=0 <= self.low < 1)
        bound = f"in ({self.low}, 1]"
        require(f"slices[{self.name}].high", self.high, bound, holds=self.low < self.high <= 1)

    @property
    def width(self) -> float:
        """Share of units that fall into it, fraction in (0, 1]."""
        return self.high - self.low


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """One allocation of one target.

    Attributes:
        target: the call site.
        generation: >= 0, only grows.
        salt: hash salt, constant over the stages of a rollout and new for the next.
        published_at: aware, UTC.
        expires_at: aware, UTC; from this moment on the allocation is stale.
        baseline: the arm to use when in doubt.
        slices: tile [0, 1) in rising order.
        arms: configuration of every arm; plain JSON values.
        decision: id of the decision that holds traffic, None when none does.
        checksum: as published.
    """

    target: str
    generation: int
    salt: str
    published_at: datetime
    expires_at: datetime
    baseline: str
    slices: tuple[Slice, ...]
    arms: Mapping[str, Mapping[str, object]]
    decision: str | None
    checksum: str
    _lows: tuple[float, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse what breaks a law of the contract."""
        require("target", self.target, "a name", holds=bool(self.target))
        require("generation", self.generation, "an integer >= 0", holds=self.generation >= 0)
        # With the separator inside, two pairs of salt and unit could share one hash input.
        whole = bool(self.salt) and SEPARATOR not in self.salt
        require("salt", self.salt, f"a text without {SEPARATOR!r}", holds=whole)
        self._check_times()
        self._check_arms()
        self._check_tiling()
        object.__setattr__(self, "_lows", tuple(part.low for part in self.slices))

    def _check_times(self) -> None:
        for name, moment in (("published_at", self.published_at), ("expires_at", self.expires_at)):
            in_utc = moment.utcoffset() == timedelta(0)
            require(name, moment.isoformat(), "a moment in UTC", holds=in_utc)
        later = self.published_at < self.expires_at
        bound = f"after published_at {self.published_at.isoformat()}"
        require("expires_at", self.expires_at.isoformat(), bound, holds=later)

    def _check_arms(self) -> None:
        known = f"one of the arms {sorted(self.arms)}"
        require("baseline", self.baseline, known, holds=self.baseline in self.arms)
        named: dict[str, str] = {}
        for part in self.slices:
            name = f"slices[{part.name}].arm"
            require(name, part.arm, known, holds=part.arm in self.arms)
            if part.name == EXPERIMENT:
                continue
            first = named.setdefault(part.name, part.arm)
            bound = f"{first!r} as before: a slice names one arm"
            require(name, part.arm, bound, holds=part.arm == first)

    def _check_tiling(self) -> None:
        require("slices", self.slices, "at least one slice", holds=bool(self.slices))
        first, last = self.slices[0], self.slices[-1]
        require(f"slices[{first.name}].low", first.low, "0, the first", holds=first.low == 0)
        for left, right in itertools.pairwise(self.slices):
            bound = f"{left.high}, where {left.name!r} ends: neither gap nor overlap"
            require(f"slices[{right.name}].low", right.low, bound, holds=right.low == left.high)
        require(f"slices[{last.name}].high", last.high, "1, the last", holds=last.high == 1)

    def slice_at(self, position: float) -> Slice:
        """The slice that holds a position in [0, 1)."""
        return self.slices[bisect_right(self._lows, position) - 1]

    def propensity(self, arm: str) -> float:
        """Probability that a unit gets this arm: the summed widths of its slices, in [0, 1]."""
        return math.fsum(part.width for part in self.slices if part.arm == arm)
