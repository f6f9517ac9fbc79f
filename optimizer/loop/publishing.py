"""Publishing: put an allocation on a target's gateway and see what the gateway then holds."""

from dataclasses import dataclass

from optimizer.allocation import Allocation
from optimizer.errors import ConfigError, ConflictError, DataError, UnavailableError
from optimizer.loop.equipment import Equipment
from optimizer.loop.snapshots import arms_for
from optimizer.ports import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class Readback:
    """What the gateway holds after an apply, and whether it is what was wanted."""

    found: Allocation | None
    proven: bool
    detail: str = ""

    def as_json(self) -> dict[str, Json]:
        """The read-back as it is stored beside the intent."""
        return {"proven": self.proven, "detail": self.detail, "found": split_of(self.found)}


def split_of(allocation: Allocation | None) -> dict[str, Json] | None:
    """The allocation as a small JSON-able table, for events and people."""
    if allocation is None:
        return None
    return {
        "generation": allocation.generation,
        "salt": allocation.salt,
        "slices": [
            {"slice": part.name.value, "arm": part.arm, "low": part.low, "high": part.high}
            for part in allocation.slices
        ],
    }


def publish(equipment: Equipment, wanted: Allocation, decision_id: str | None = None) -> Readback:
    """Apply the allocation and read it back; a refusal is an answer too.

    Raises:
        UnavailableError: the gateway did not answer; the intent stays open.
    """
    gateway = equipment.gateway(wanted.target)
    try:
        gateway.apply(wanted, arms=arms_for(equipment, wanted, decision_id))
        found = gateway.read(wanted.target)
    except (ConflictError, ConfigError, DataError) as error:
        return Readback(
            found=read_or_none(equipment, wanted.target), proven=False, detail=str(error)
        )
    if found is None:
        return Readback(found=None, proven=False, detail="the gateway holds nothing")
    same = holds(found, wanted)
    return Readback(
        found=found, proven=same, detail="" if same else "the gateway holds another split"
    )


def holds(found: Allocation | None, wanted: Allocation) -> bool:
    """Whether what was read is exactly what was wanted."""
    return found is not None and found.same_split(wanted) and found.generation == wanted.generation


def read_or_none(equipment: Equipment, target: str) -> Allocation | None:
    """What the gateway holds; None where there is nothing, or nothing that can be understood."""
    try:
        return equipment.gateway(target).read(target)
    except DataError:
        return None


def next_generation(equipment: Equipment, target: str, *, above: int = 0) -> int:
    """One above the newest generation written for the target, and above ``above``."""
    desired = equipment.ledger.effects.desired(target)
    return max(above, 0 if desired is None else desired.generation) + 1


def seen_generation(equipment: Equipment, target: str) -> int:
    """The generation the gateway holds, which somebody may have raised by hand; 0 = unknown."""
    try:
        found = equipment.gateway(target).read(target)
    except (DataError, UnavailableError):
        return 0
    return 0 if found is None else found.generation
