"""What an operator may set of the cost-constrained choice, beside the policy."""

from dataclasses import dataclass

NAME = "cost_performance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How sure the choice must be and how much traffic counts as evidence.

    min_gain: smallest relative saving where the policy's goal asks for none; delta: largest chance
    that a constraint is broken; saving_chance: how sure a measured saving must be; min_requests,
    min_labels: rows from which an arm's own traffic describes it; days: how far back; icc:
    correlation of the requests of one unit, for the plan check; power: the chance to succeed that a
    plan must have; priority: of the proposals.

    Raises:
        ValueError: a share outside (0, 1) or a count below 1, naming it.
    """

    min_gain: float = 0.05
    delta: float = 0.05
    saving_chance: float = 0.9
    min_requests: int = 200
    min_labels: int = 100
    days: int = 7
    icc: float = 0.05
    power: float = 0.8
    priority: int = 10

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("min_gain", "delta", "saving_chance", "power"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} lies outside (0, 1)")
        for name in ("min_requests", "min_labels", "days"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} is below 1")
        if not 0 <= self.icc <= 1:
            raise ValueError(f"icc = {self.icc} lies outside [0, 1]")
