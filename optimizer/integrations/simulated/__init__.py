"""A seeded world made of published measurements, for demonstrations and simulations."""

from optimizer.integrations.simulated.configuration import WorldSettings
from optimizer.integrations.simulated.planning import Planned, plan_check
from optimizer.integrations.simulated.published import (
    PublishedArm,
    PublishedTarget,
    hourly_shape,
    published,
)
from optimizer.integrations.simulated.world import SimulatedWorld

__all__ = [
    "Planned",
    "PublishedArm",
    "PublishedTarget",
    "SimulatedWorld",
    "WorldSettings",
    "hourly_shape",
    "plan_check",
    "published",
]
