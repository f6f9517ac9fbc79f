"""Allocation: which slice of a target's traffic gets which arm.

A unit (session, user or request) is hashed to a point in [0, 1). The canary grows from the left end
and its concurrent control from the right end, so that a unit that once was in the canary, or in the
control, stays there while shares grow; the baseline holds what is between them.

In an experiment each arm has a zone of its own, all of one width, from the left end. An arm that
gets less than its zone keeps the zone's beginning, and arms that get more take what others gave up,
in order: a unit changes its arm only where it must.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class SliceName(Enum):
    """The part a unit plays in a rollout, or in an experiment, whose slices name many arms."""

    BASELINE = "baseline"
    CONTROL = "control"
    CANARY = "canary"
    EXPERIMENT = "experiment"


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


def experiment(
    target: str,
    *,
    baseline: str,
    arms: Sequence[str],
    shares: Sequence[float],
    share: float,
    generation: int,
    salt: str,
) -> Allocation:
    """The arms of an experiment side by side at the left, the baseline on the rest.

    Args:
        target: the target's name.
        baseline: the arm in force, which also gets what is left of the experiment's share.
        arms: in the experiment, in the order of their zones.
        shares: of the experiment's traffic, one an arm, >= 0 with a sum of at most 1; an arm with 0
            gets no unit.
        share: of the target's traffic that the experiment holds, in (0, 1].
        generation: of the allocation.
        salt: of the hash; the same for the whole experiment.

    Raises:
        ValueError: shares outside their bounds, naming them.

    Examples:
        >>> a = experiment("t", baseline="a", arms=["a", "b"], shares=[0.75, 0.25], share=0.4,
        ...                generation=2, salt="s")
        >>> [(s.name.value, s.arm, s.low, s.high) for s in a.slices]
        [('experiment', 'a', 0.0, 0.2), ('experiment', 'b', 0.2, 0.3), ('experiment', 'a', 0.3, 0.4), ('baseline', 'a', 0.4, 1.0)]
    """  # noqa: E501 - one line of output
    if not 0 < share <= 1 or len(arms) != len(shares) or min(shares, default=-1.0) < 0:
        msg = f"an experiment's share {share} lies in (0, 1], its arms' shares {shares} above 0"
        raise ValueError(msg)
    if math.fsum(shares) > 1 + 1e-9:
        msg = f"the arms' shares {shares} add up to more than 1"
        raise ValueError(msg)
    units = _steps(arms, shares)
    width = round(share * STEPS)
    edges = [round(width * step / STEPS) / STEPS for step, _ in units] + [width / STEPS]
    parts = [
        Slice(name=SliceName.BASELINE, arm=baseline, low=low, high=high)
        if arm is None
        else Slice(name=SliceName.EXPERIMENT, arm=arm, low=low, high=high)
        for (_, arm), low, high in zip(units, edges, edges[1:], strict=False)
        if high > low
    ]
    if width < STEPS:
        parts.append(Slice(name=SliceName.BASELINE, arm=baseline, low=edges[-1], high=1.0))
    return Allocation(
        target=target,
        generation=generation,
        salt=salt,
        baseline=baseline,
        slices=tuple(_joined(parts)),
    )


STEPS = 1_000_000
"""Parts that traffic is divided into, so that shares are the same numbers wherever they go."""


def _steps(arms: Sequence[str], shares: Sequence[float]) -> list[tuple[int, str | None]]:
    """Where each piece begins, in parts of the experiment's share, and whose it is."""
    zone = STEPS // len(arms)
    begins = [position * zone for position in range(len(arms))] + [STEPS]
    wanted = [round(each * STEPS) for each in shares]
    own = [min(each, begins[n + 1] - begins[n]) for n, each in enumerate(wanted)]
    more = [each - kept for each, kept in zip(wanted, own, strict=True)]
    pieces: list[tuple[int, str | None]] = []
    for position, arm in enumerate(arms):
        start, end = begins[position], begins[position + 1]
        pieces.append((start, arm))
        start += own[position]
        for taker, name in enumerate(arms):
            taken = min(more[taker], end - start)
            if taken > 0:
                pieces.append((start, name))
                start += taken
                more[taker] -= taken
        if start < end:
            pieces.append((start, None))
    return pieces


def _joined(parts: Sequence[Slice]) -> list[Slice]:
    """The same slices, neighbours of one arm and name made one."""
    joined: list[Slice] = []
    for part in parts:
        last = joined[-1] if joined else None
        if last is not None and (last.name, last.arm) == (part.name, part.arm):
            joined[-1] = Slice(name=last.name, arm=last.arm, low=last.low, high=part.high)
        else:
            joined.append(part)
    return joined
