"""What a reader answers: the choice for one unit, and the health of one target."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Literal

Origin = Literal["current", "last_good", "baseline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The arm of one unit, and how it came about.

    Attributes:
        target: the call site.
        unit: what sticks to its arm: a session, else a user, else a request.
        arm: the arm the unit is assigned to.
        config: the arm's configuration; plain JSON values, a copy of the caller's own.
        slice: the slice the unit falls into.
        propensity: probability that a unit gets this arm, in (0, 1].
        generation: of the allocation used, None when none was ever seen.
        decision: the decision that splits the traffic, None when none does.
        origin: "current", the published file; "last_good", the last valid one while the file is
            not; "baseline", every unit on the baseline.
        reason: why it is not current, else "".
    """

    target: str
    unit: str
    arm: str
    config: Mapping[str, object]
    slice: str
    propensity: float
    generation: int | None
    decision: str | None
    origin: Origin
    reason: str

    def log_fields(self) -> dict[str, object]:
        """What the request log has to hold, so that the call counts for its assigned arm.

        Examples:
            >>> Choice(
            ...     target="bot", unit="s-1", arm="large", config={}, slice="baseline",
            ...     propensity=1.0, generation=3, decision=None, origin="current", reason="",
            ... ).log_fields() == {
            ...     "target": "bot", "arm": "large", "slice": "baseline", "propensity": 1.0,
            ...     "generation": 3, "session_id": "s-1",
            ... }
            True
        """
        return {
            "target": self.target,
            "arm": self.arm,
            "slice": self.slice,
            "propensity": self.propensity,
            "generation": self.generation,
            "session_id": self.unit,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """State of one target's allocation, for a health endpoint; `dict(health)` gives its fields.

    Attributes:
        target: the call site.
        origin: as in a choice made now.
        generation: of the allocation in memory, None when none was ever seen.
        age_s: seconds since it was published, None when none was ever seen.
        reason: why choices are not current, else "".
        cache_reason: why the last good allocation is not kept on disk, else "".

    Examples:
        >>> dict(Health(
        ...     target="bot", origin="current", generation=3, age_s=8.5, reason="", cache_reason=""
        ... ))["age_s"]
        8.5
    """

    target: str
    origin: Origin
    generation: int | None
    age_s: float | None
    reason: str
    cache_reason: str

    def keys(self) -> Iterator[str]:
        """Names of the fields, in order."""
        return (item.name for item in fields(self))

    def __getitem__(self, key: str) -> object:
        """Value of a field.

        Raises:
            KeyError: when there is no such field.
        """
        if key in self.keys():
            return getattr(self, key)
        raise KeyError(key)
