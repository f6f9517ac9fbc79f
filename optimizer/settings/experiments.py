"""The section of an experiment: a question about a target's arms, and what it may use for it."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from optimizer.settings.values import Duration, Section, Usd


class ExperimentSettings(Section):
    """Arms of the target side by side on a share of its traffic, until one is proven the best.

    The winner is proposed for a rollout, which asks the target's own goal: name the experiment's
    metric there too.
    """

    name: str = Field(min_length=1, max_length=200, description="Name, unique in the target.")
    arms: list[str] = Field(
        min_length=2, max_length=8, description="Its arms, the baseline in force among them."
    )
    metric: Literal["quality", "failure_rate"] = Field(
        default="quality", description="What decides."
    )
    rule: Literal["uniform", "top_two"] = Field(
        default="uniform",
        description="Split evenly (A/B test), or with more for what may be best (bandit).",
    )
    share: float = Field(
        default=0.2, gt=0, le=1, description="Share of the target's traffic, fraction."
    )
    min_duration: Duration = Field(
        default=timedelta(hours=24), description="Nothing is declared before."
    )
    max_duration: Duration = Field(
        default=timedelta(days=7),
        le=timedelta(days=30),
        description="Without a declaration it ends then, with no winner.",
    )
    delta: float = Field(
        default=0.05,
        ge=1e-6,
        le=0.5,
        description="Chance ever to declare an arm that is worse than another.",
    )
    floor: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of its traffic that all arms share evenly, whatever the evidence.",
    )
    daily_budget_usd: Usd | None = Field(
        default=None,
        description="What its arms beside the baseline may cost a UTC day; none: no limit.",
    )
    start: Literal["auto", "manual"] = Field(
        default="manual", description="By the hourly run, or by `llmopt experiments start`."
    )
    keep_running: bool = Field(
        default=False,
        description="Go on after a declaration and watch the leader; needs the rule top_two.",
    )
