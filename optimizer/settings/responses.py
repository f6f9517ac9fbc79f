"""The section of responses: what is done about a trigger, by how severe it is."""

from datetime import timedelta
from typing import Final, Literal

from pydantic import Field

from optimizer.settings.values import Section

LONGEST_COOLDOWN: Final = timedelta(days=7)
"""How far back is looked for what was told."""

Answer = Literal["roll_back", "fallback", "adjust", "log"]


class ResponseSettings(Section):
    """What is done about a sick arm in force; what is not possible leaves it to the next.

    `roll_back`: to the arm before the last promotion, if that came before the trouble; `fallback`:
    to the target's `fallback`; `adjust`: to the best arm within the limits; `log`: people are told.
    """

    critical: Answer = Field(
        default="roll_back", description="Broken failure or quality limits, large changes."
    )
    error: Answer = Field(
        default="fallback", description="A broken latency limit, failures up, quality down."
    )
    warning: Answer = Field(default="adjust", description="Broken budgets, latency or cost up.")
