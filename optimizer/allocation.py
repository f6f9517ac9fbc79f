"""Allocation: which slice of a target's traffic gets which arm.

A unit (session, user or request) is hashed to a point in [0, 1). The canary grows from the left end
and its concurrent control from the right end, so that a unit that once was in the canary, or in the
control, stays there while shares grow; the baseline holds what is between them.
"""

import math
from dataclasses import dataclass
from enum import Enum


class SliceName(Enum):
    """The part a unit plays in a rollout."""

    BASELINE = "baseline"
    CONTROL = "control"
    CANARY = "canary"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Half-open interval ``[low, high)`` of hash points that gets ``arm``."""

    name: SliceName
    arm: str
    low: float
    high: float

    @property
    def share(self) -> float:
        """Fraction of units, in (0, 1]."""
        return self.high - self.low


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """The desired slices of one target; ``generation`` only grows.

    Raises:
        ValueError: slices do not cover [0, 1) without gap or overlap, naming target and sum.
    """

    target: str
    generation: int
    salt: str
    baseline: str
    slices: tuple[Slice, ...]
    decision_id: str | None = None

    def __post_init__(self) -> None:
        """Check that the slices cover the whole interval once."""
        edge = 0.0
        for part in self.slices:
            if part.low != edge or not part.high > part.low:
                total = math.fsum(p.high - p.low for p in self.slices)
                msg = (
                    f"slices of {self.target} leave a gap or overlap at {part.low}: shares sum to "
                    f"{total:.6f} and must cover [0, 1)"
                )
                raise ValueError(msg)
            edge = part.high
        if edge != 1.0:
            msg = f"slices of {self.target} end at {edge}, not at 1"
            raise ValueError(msg)
        if self.generation < 0:
            msg = f"generation = {self.generation} is below 0"
            raise ValueError(msg)

    def share(self, name: SliceName) -> float:
        """Fraction of units in the slice of that name; 0 where there is none."""
        return math.fsum(part.share for part in self.slices if part.name is name)

    def same_split(self, other: "Allocation") -> bool:
        """Whether both send every unit to the same arm under the same salt."""
        return (self.target, self.salt, self.baseline, self.slices) == (
            other.target,
            other.salt,
            other.baseline,
            other.slices,
        )


def whole(target: str, arm: str, *, generation: int, salt: str = "baseline") -> Allocation:
    """All traffic of ``target`` to ``arm``."""
    part = Slice(name=SliceName.BASELINE, arm=arm, low=0.0, high=1.0)
    return Allocation(target=target, generation=generation, salt=salt, baseline=arm, slices=(part,))


def canary(
    target: str,
    *,
    baseline: str,
    candidate: str,
    share: float,
    control_share: float,
    generation: int,
    salt: str,
    decision_id: str,
) -> Allocation:
    """The canary at the left, its control at the right, the baseline between.

    share and control_share are fractions in (0, 1) with a sum of at most 1.

    Raises:
        ValueError: shares outside their bounds, naming both.

    Examples:
        >>> a = canary("t", baseline="a", candidate="b", share=0.05, control_share=0.05,
        ...            generation=2, salt="s", decision_id="d")
        >>> [(s.name.value, s.arm, s.low, s.high) for s in a.slices]
        [('canary', 'b', 0.0, 0.05), ('baseline', 'a', 0.05, 0.95), ('control', 'a', 0.95, 1.0)]
    """
    if not (0 < share < 1 and 0 < control_share < 1 and share + control_share <= 1 + 1e-12):
        msg = f"canary share {share} and control share {control_share} must be > 0 and sum to <= 1"
        raise ValueError(msg)
    cut = max(share, 1.0 - control_share)
    parts = [Slice(name=SliceName.CANARY, arm=candidate, low=0.0, high=share)]
    if cut > share:
        parts.append(Slice(name=SliceName.BASELINE, arm=baseline, low=share, high=cut))
    parts.append(Slice(name=SliceName.CONTROL, arm=baseline, low=cut, high=1.0))
    return Allocation(
        target=target,
        generation=generation,
        salt=salt,
        baseline=baseline,
        slices=tuple(parts),
        decision_id=decision_id,
    )
