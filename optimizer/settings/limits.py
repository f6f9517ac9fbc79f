"""The sections of a policy: every limit an operator sets, for all targets or for one."""

from datetime import timedelta
from typing import Literal

from pydantic import AwareDatetime, Field, model_validator

from optimizer.settings.values import Duration, MetricName, Section, Share, Usd


class GoalSettings(Section):
    """What a change must improve."""

    metric: MetricName = Field(default="cost_usd", description="Metric to improve.")
    min_gain: Share = Field(
        default=0.0, description="Smallest relative gain worth a change, fraction."
    )


class GuardrailSettings(Section):
    """What must not get worse, whatever the gain."""

    metric: MetricName = Field(description="Metric to protect.")
    margin: float = Field(
        gt=0, description="Harm a candidate may have at most to be promoted, in the metric's unit."
    )
    tolerance: float | None = Field(
        default=None,
        ge=0,
        description="Proven harm above this is rolled back; none: 0 for shares and amounts, the "
        "margin for scores.",
    )
    relative: bool = Field(
        default=False, description="Margin and tolerance are fractions of the control's value."
    )
    anchored: bool | None = Field(
        default=None,
        description="Losses of earlier promotions count against the margin; none: quality only.",
    )


class StageSettings(Section):
    """One step of a canary."""

    share: float = Field(
        gt=0, le=0.5, description="Share of traffic, fraction; the control gets as much."
    )
    bake_time: Duration = Field(default=timedelta(hours=1), description="Shortest stay.")
    min_requests: int = Field(default=200, ge=1, description="Requests per arm before it may end.")


class SafetySettings(Section):
    """Limits nothing may be predicted to break, and no served arm may break unnoticed."""

    failure_rate_max: Share = Field(default=0.05, description="Failed share, fraction.")
    latency_p95_ms_max: float = Field(
        default=30_000, gt=0, description="95th percentile of latency, ms."
    )
    quality_min: Share = Field(default=0.0, description="Mean quality, 0 to 1.")


class BudgetSettings(Section):
    """Money limits, USD; none: no limit."""

    monthly_usd: Usd | None = Field(default=None, description="Per target and calendar month, UTC.")
    daily_usd: Usd | None = Field(default=None, description="Per target and UTC day.")
    hourly_usd: Usd | None = Field(default=None, description="Per target and hour.")
    per_request_usd: Usd | None = Field(default=None, description="Mean cost of a request.")
    exploration_daily_usd: Usd | None = Field(
        default=None, description="Canaries of arms without traffic of their own, per day."
    )


class ApprovalSettings(Section):
    """When a person must agree."""

    required: bool = Field(default=False, description="Every change waits for a person.")
    above_daily_usd: Usd | None = Field(
        default=None,
        description="Only changes expected to move more than this a day wait; unknown is more.",
    )
    when_missed: bool = Field(
        default=True,
        description="Changes of a strategy wait while its measured promotions provably missed "
        "what it had promised too often.",
    )
    expires_after: Duration = Field(
        default=timedelta(hours=24), description="An unanswered question cancels the change."
    )


class BlastRadiusSettings(Section):
    """How much a change that is not proven may hurt, at its canary's largest share; none: no limit.

    What is above a limit, or unknown, needs a person's approval.
    """

    max_daily_usd_at_risk: Usd | None = Field(
        default=None, description="What the canary's requests cost, USD a day."
    )
    max_daily_requests_at_risk: float | None = Field(
        default=None, ge=0, description="Requests a day that the canary serves."
    )
    max_daily_usd_at_risk_together: Usd | None = Field(
        default=None, description="The same, with everything in flight on all targets."
    )
    max_daily_requests_at_risk_together: float | None = Field(
        default=None, ge=0, description="The same, with everything in flight on all targets."
    )
    refuse: bool = Field(default=False, description="Refuse it, instead of asking a person.")


class FreezeSettings(Section):
    """No starts and no promotions in this interval; rollbacks still run."""

    start: AwareDatetime = Field(description="Beginning, with time zone.")
    end: AwareDatetime = Field(description="End, with time zone; itself outside.")
    reason: str = Field(default="", description="Shown where something is held because of it.")

    @model_validator(mode="after")
    def _ordered(self) -> "FreezeSettings":
        if self.start >= self.end:
            msg = f"start {self.start.isoformat()} is not before end {self.end.isoformat()}"
            raise ValueError(msg)
        return self


class PolicySettings(Section):
    """Limits of a target; what is absent comes from `defaults`, then from the built-in values.

    Sections inside (goal, safety, budget, approval, blast_radius) are merged key by key; lists are
    replaced. A profile counts before the built-in values and after all that is written.
    """

    profile: Literal["conservative", "balanced", "aggressive"] | None = Field(
        default=None,
        description="Limits under one name: goal, guardrails, stages, approval, alpha_promote and "
        "exploration_share.",
    )
    goal: GoalSettings | None = Field(default=None, description="What a change must improve.")
    guardrails: list[GuardrailSettings] | None = Field(
        default=None, min_length=1, description="What must not get worse."
    )
    stages: list[StageSettings] | None = Field(
        default=None, min_length=1, description="Steps of a canary; shares must grow."
    )
    safety: SafetySettings | None = Field(default=None, description="Limits nothing may break.")
    budget: BudgetSettings | None = Field(default=None, description="Money limits.")
    approval: ApprovalSettings | None = Field(default=None, description="When a person must agree.")
    blast_radius: BlastRadiusSettings | None = Field(
        default=None, description="How much an unproven change may hurt."
    )
    freezes: list[FreezeSettings] | None = Field(
        default=None, description="Intervals without starts and promotions."
    )
    alpha_rollback: float | None = Field(
        default=None,
        ge=1e-6,
        le=0.5,
        description="Chance that a harmless rollout is ever rolled back, shared by the guardrails.",
    )
    alpha_promote: float | None = Field(
        default=None,
        ge=1e-6,
        le=0.5,
        description="Chance that a harmful arm passes one required metric.",
    )
    label_maturity: Duration | None = Field(
        default=None, description="Age a window needs before its quality counts."
    )
    hold_expires_after: Duration | None = Field(
        default=None,
        description="Longest stay in one stage; then the rollout is reverted, never promoted.",
    )
    holdback_share: float | None = Field(
        default=None, ge=0, le=0.5, description="Concurrent control kept after promotion, fraction."
    )
    settle_after: Duration | None = Field(
        default=None, description="How long that control is kept before the effect is settled."
    )
    max_changes_per_day: int | None = Field(default=None, ge=0, description="Starts a day at most.")
    cooldown: Duration | None = Field(default=None, description="Shortest time between starts.")
    retry_after: Duration | None = Field(
        default=None, description="How long an arm that was rolled back is not proposed again."
    )
    exploration_share: float | None = Field(
        default=None,
        ge=0,
        le=0.5,
        description="Largest first share of an arm without traffic of its own, fraction.",
    )
    data_lag_max: Duration | None = Field(
        default=None, description="Age of the newest complete window beyond which data are stale."
    )
    control_ratio: float | None = Field(
        default=None,
        ge=1,
        le=100,
        description="Control requests to one of the canary; above 1 only where no metric depends "
        "on an arm's own share of traffic.",
    )
    blip_tolerance: bool | None = Field(
        default=None,
        description="Roll back at a planned look only if the next one confirms it, or if it is "
        "clear by itself; failures in plenty are still caught by the guard.",
    )
    adopt_drift: bool | None = Field(
        default=None,
        description="Take over a split that someone set by hand at the gateway, instead of "
        "repairing it, when nothing is in flight.",
    )
    peak_factor: float | None = Field(
        default=None,
        ge=1,
        le=100,
        description="A provider's rate limits must hold the busiest hour of the last week times "
        "this.",
    )
    deprecation_notice: Duration | None = Field(
        default=None, description="How long before a model's deprecation a change to it is warned."
    )
