"""Parameters of the flows: what the run form asks, with titles, meanings and bounds."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _utc(value: datetime | None) -> datetime | None:
    """The moment in UTC, which is also what a moment without a zone is taken for.

    A decision's id holds the moment as text: one moment must have one text.
    """
    if value is None:
        return None
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Moment = Annotated[datetime | None, AfterValidator(_utc)]


class RunParameters(BaseModel):
    """What every run may be told."""

    model_config = ConfigDict(extra="forbid", title="Run")

    config_file: Path | None = Field(
        default=None,
        title="Configuration file",
        description="Empty: the installation's own (LLMOPT_CONFIG, else optimizer.yaml in the "
        "working directory).",
    )
    as_of: Moment = Field(
        default=None,
        title="As of (UTC)",
        description="The moment the run looks from. Empty: the scheduled start of the run, so that "
        "a late or retried run sees the same hour.",
    )
    clock: Moment = Field(
        default=None,
        title="Clock (UTC)",
        description="When effects are recorded. Empty: now. Only a simulated world sets it.",
    )


class OptimizeParameters(RunParameters):
    """One hourly cycle."""

    model_config = ConfigDict(extra="forbid", title="Optimize")

    targets: list[str] = Field(
        default_factory=list,
        max_length=10_000,
        title="Targets",
        description="Start new rollouts only for these targets. Empty: for all.",
    )
    dry_run: bool = Field(
        default=False,
        title="Dry run",
        description="Observe, analyze and propose, but start nothing and move nothing.",
    )


class GuardParameters(RunParameters):
    """One look at what is in flight; it may only hold or roll back."""

    model_config = ConfigDict(extra="forbid", title="Guard")


class RolloutParameters(RunParameters):
    """One step of one decision."""

    model_config = ConfigDict(extra="forbid", title="Rollout")

    decision_id: str = Field(
        min_length=3,
        max_length=64,
        title="Decision",
        description="Id of the decision whose due step is taken, for example d-3f2a9c41d0b7.",
    )
    guard_only: bool = Field(
        default=False,
        title="Guard only",
        description="Take the step only if it is a rollback.",
    )


class RollbackParameters(RunParameters):
    """Return a target's traffic to its snapshot."""

    model_config = ConfigDict(extra="forbid", title="Roll back")

    decision_id: str = Field(
        default="",
        max_length=64,
        title="Decision",
        description="Id of the decision to roll back. Empty: whatever is in flight on the target.",
    )
    target: str = Field(
        default="",
        max_length=200,
        title="Target",
        description="Target whose decision in flight is rolled back, when no decision is named.",
    )
    reason: str = Field(
        min_length=3,
        max_length=500,
        title="Reason",
        description="Why; it is written into the decision's log.",
    )
    actor: str = Field(
        default="prefect",
        min_length=1,
        max_length=100,
        title="Who",
        description="Person or automation that asks for it.",
    )


class ApproveParameters(RunParameters):
    """Answer a decision that waits for approval."""

    model_config = ConfigDict(extra="forbid", title="Approve")

    decision_id: str = Field(
        min_length=3,
        max_length=64,
        title="Decision",
        description="Id of the decision that waits for approval.",
    )
    answer: Literal["approve", "reject"] = Field(
        default="approve",
        title="Answer",
        description="Approve: the rollout starts at once. Reject: the decision is cancelled.",
    )
    actor: str = Field(
        default="prefect",
        min_length=1,
        max_length=100,
        title="Who",
        description="The person who answers.",
    )
    reason: str = Field(
        default="",
        max_length=500,
        title="Reason",
        description="Why; required to reject.",
    )


class ReapParameters(BaseModel):
    """Find runs whose worker died."""

    model_config = ConfigDict(extra="forbid", title="Reap")

    silent_s: int = Field(
        default=120,
        ge=90,
        le=3600,
        title="Silence (seconds)",
        description="A Running run without a heartbeat for so long counts as dead, though never "
        "before three heartbeats are missing.",
    )
    retry: bool = Field(
        default=True,
        title="Retry",
        description="Schedule the dead run again after marking it as crashed.",
    )


class MaintainParameters(RunParameters):
    """Daily housekeeping."""

    model_config = ConfigDict(extra="forbid", title="Maintain")

    grains_days: int = Field(
        default=7,
        ge=1,
        le=60,
        title="Keep grains (days)",
        description="Age of 5-minute aggregates.",
    )
    hours_days: int = Field(
        default=30, ge=7, le=400, title="Keep hours (days)", description="Age of 1-hour aggregates."
    )
    days_days: int = Field(
        default=365,
        ge=30,
        le=3650,
        title="Keep days (days)",
        description="Age of 1-day aggregates.",
    )


class BacktestParameters(RunParameters):
    """The past run again; acts on nothing."""

    model_config = ConfigDict(extra="forbid", title="Backtest")

    start: Moment = Field(
        default=None,
        title="From (UTC)",
        description="First hour that is decided anew, a whole one. Empty: four weeks before the "
        "end, or the beginning of the log.",
    )
    end: Moment = Field(
        default=None,
        title="To (UTC)",
        description="End of the last hour, a whole one. Empty: the end of the log.",
    )
    targets: list[str] = Field(
        default_factory=list,
        max_length=10_000,
        title="Targets",
        description="Run these again only. Empty: all.",
    )
    html: Path | None = Field(
        default=None,
        title="Page",
        description="File on the worker, .html, that a page is written to. Empty: none.",
    )
