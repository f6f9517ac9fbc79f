"""The section of tuning: parameters of an arm, and what may be used to search them."""

from datetime import timedelta

from pydantic import Field

from optimizer.settings.values import Duration, Section, Usd


class AxisSettings(Section):
    """One parameter and the values that are tried of it."""

    name: str = Field(
        min_length=1,
        max_length=50,
        description="`temperature`, `top_p`, `max_tokens`, or the name of a numeric extra of "
        "the arm's `params`.",
    )
    low: float = Field(description="Lowest value.")
    high: float = Field(description="Highest value.")
    step: float = Field(gt=0, description="Distance of neighbouring values, from the lowest on.")


class TuningSettings(Section):
    """Values of an arm's parameters are tried, one trial after the other, beside the arm in force.

    A trial compares a point of the grid with the arm in force, by the target's goal: quality or
    failure_rate. A point that is proven better is proposed for a rollout. Points are arms named
    after their values, `mini@temperature:0.3`; they leave with this section, so write an arm that
    was promoted into `arms` first.
    """

    base: str | None = Field(
        default=None, description="The arm that is varied; none: the target's `baseline`."
    )
    parameters: list[AxisSettings] = Field(
        min_length=1, max_length=5, description="What is varied; at most 1000 points together."
    )
    max_trials: int = Field(default=12, ge=1, le=100, description="Points that are tried at most.")
    share: float = Field(
        default=0.1,
        gt=0,
        le=0.5,
        description="Share of the target's traffic that points may get, fraction; as much again is "
        "their control.",
    )
    min_duration: Duration = Field(
        default=timedelta(hours=6), description="Nothing is declared before, in each trial."
    )
    max_duration: Duration = Field(
        default=timedelta(hours=24),
        le=timedelta(days=30),
        description="A trial ends then, with what it knows.",
    )
    delta: float = Field(
        default=0.05,
        ge=1e-6,
        le=0.5,
        description="Chance that any trial ever declares a point that is worse the better one.",
    )
    daily_budget_usd: Usd | None = Field(
        default=None, description="What points may cost a UTC day; none: no limit."
    )
