"""The whole file: its sections, with every default, meaning and bound."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from optimizer.settings.call_sites import ArmSettings, PriceSettings, PriorSettings, TargetSettings
from optimizer.settings.installation import Database, Observability, Service
from optimizer.settings.integrations import (
    FileGatewaySettings,
    FileNotifierSettings,
    FileSourceSettings,
    Intake,
    Integrations,
    Prices,
    SqlSourceSettings,
    WebhookNotifierSettings,
)
from optimizer.settings.limits import GuardrailSettings, PolicySettings
from optimizer.settings.policies import CelPolicySettings, OpaPointSettings
from optimizer.settings.responses import LONGEST_COOLDOWN, ResponseSettings
from optimizer.settings.values import Duration, Section, Share

__all__ = [
    "ArmSettings",
    "CelPolicySettings",
    "Database",
    "FileGatewaySettings",
    "FileNotifierSettings",
    "FileSourceSettings",
    "GuardrailSettings",
    "Intake",
    "Integrations",
    "Observability",
    "OpaPointSettings",
    "PolicySettings",
    "PriceSettings",
    "Prices",
    "PriorSettings",
    "Service",
    "Settings",
    "SqlSourceSettings",
    "Strategies",
    "TargetSettings",
    "ThresholdSettings",
    "WebhookNotifierSettings",
]


class ThresholdSettings(Section):
    """When analyzers and the threshold strategy speak up, beyond the safety limits."""

    latency_increase_pct: float = Field(
        default=20, gt=0, description="Rise of the 95th percentile of latency, percent."
    )
    cost_increase_pct: float = Field(
        default=50, gt=0, description="Rise of the cost of a request, percent."
    )
    quality_score_min: Share = Field(
        default=0.7, description="Mean quality below which an arm is told of, 0 to 1."
    )
    quality_drop_pct: float = Field(
        default=10, gt=0, le=100, description="Fall of an arm's quality below its own, percent."
    )
    failure_increase_points: float = Field(
        default=2, gt=0, le=100, description="Rise of the failed share, percentage points."
    )
    min_requests: int = Field(
        default=100, ge=20, description="Requests before anything is claimed."
    )
    responses: ResponseSettings = Field(
        default=ResponseSettings(), description="What a trigger of the threshold strategy does."
    )
    cooldown: Duration = Field(
        default=timedelta(hours=6),
        le=LONGEST_COOLDOWN,
        description="After a way out has ended no change against the past fires on its target for "
        "so long; nothing is told twice within it.",
    )
    max_attempts: int = Field(
        default=3,
        ge=0,
        description="Ways out of a target within its `retry_after`; then people are told alone.",
    )


class CostPerformanceSettings(Section):
    """The Pareto strategy."""

    min_saving: Share = Field(
        default=0.05, description="Smallest expected saving worth a rollout, fraction."
    )
    delta: float = Field(
        default=0.05, gt=0, le=0.5, description="Accepted chance that quality is out of margin."
    )


class Strategies(Section):
    """How changes are found."""

    enabled: list[Literal["ab_test", "bandit", "cost_performance", "threshold", "tuning"]] = Field(
        default=["threshold", "ab_test", "bandit", "tuning", "cost_performance"],
        description="Strategies that may propose.",
    )
    false_discovery_rate: float | None = Field(
        default=0.1,
        gt=0,
        le=0.5,
        description="Largest expected share of false ones among the proposals of a week that rest "
        "on a test of measured traffic, fraction; none: they are not counted together. Smaller "
        "asks for more evidence: where an arm gains little, that takes days.",
    )
    thresholds: ThresholdSettings = Field(
        default=ThresholdSettings(), description="When analyzers speak up."
    )
    cost_performance: CostPerformanceSettings = Field(
        default=CostPerformanceSettings(), description="The Pareto strategy."
    )


class Settings(Section):
    """The whole file."""

    service: Service = Field(default=Service(), description="Where the server listens.")
    database: Database = Field(
        default=Database(), description="Where the ledger and the spool live."
    )
    integrations: Integrations = Field(
        default=Integrations(), description="What we read from, act on and tell."
    )
    strategies: Strategies = Field(default=Strategies(), description="How changes are found.")
    observability: Observability = Field(
        default=Observability(), description="What the program says of itself."
    )
    policies: list[CelPolicySettings] = Field(
        default_factory=list, description="Rules on every proposal."
    )
    defaults: PolicySettings = Field(
        default=PolicySettings(), description="Limits of every target that sets none of its own."
    )
    targets: list[TargetSettings] = Field(default_factory=list, description="Call sites.")
