"""Policy: every limit an operator sets.

A policy is frozen and hashed into every decision; nothing in the core carries a threshold of its
own. Shares are fractions in [0, 1], money is USD, times are :class:`~datetime.timedelta`.

Policies that are written as conditions speak of :data:`FACTS`, each of one declared kind.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import Enum
from types import MappingProxyType
from typing import Final

from optimizer.metrics import METRICS

LARGEST_RATIO = 100.0
ROUNDING = 1e-9
"""Of shares that add up to 1."""


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        msg = f"{name} = {value} lies outside [{low}, {high}]"
        raise ValueError(msg)


def _check_metric(name: str) -> None:
    if name not in METRICS:
        msg = f"metric {name!r} is none of {sorted(METRICS)}"
        raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What a change must improve: relative gain of at least ``min_gain`` over the control."""

    metric: str = "cost_usd"
    min_gain: float = 0.0

    def __post_init__(self) -> None:
        """Check metric and range."""
        _check_metric(self.metric)
        _check("min_gain", self.min_gain, 0.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """What must not get worse, whatever the gain.

    Harm is oriented so that positive is worse, in units of the metric, or relative to the control
    where ``relative``. A canary passes when the upper limit of harm is below ``margin``; it is
    rolled back when the lower limit is above ``tolerance``. ``tolerance`` None means: 0 for shares
    and amounts; the margin for scores, because a cheaper arm gives up quality inside the margin on
    purpose. ``anchored``: losses of earlier promotions count against the margin.
    """

    metric: str
    margin: float
    tolerance: float | None = None
    relative: bool = False
    anchored: bool = False

    def __post_init__(self) -> None:
        """Check metric and ranges."""
        _check_metric(self.metric)
        if not self.margin > 0:
            msg = f"margin of {self.metric} = {self.margin} is not above 0"
            raise ValueError(msg)
        if self.tolerance is not None:
            _check(f"tolerance of {self.metric}", self.tolerance, 0.0, self.margin)

    def overrun(self, effect: float, control: float) -> float:
        """How far an effect (canary less control, in the metric's unit) goes beyond the margin.

        Examples:
            >>> round(Guardrail(metric="quality", margin=0.02).overrun(-0.05, 0.8), 2)
            0.03
        """
        harm = METRICS[self.metric].direction.harm_sign * effect
        return harm - self.margin * (control if self.relative else 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of a canary: its share, its shortest stay and its sample floor per arm."""

    share: float
    bake_time: timedelta
    min_requests: int = 200

    def __post_init__(self) -> None:
        """Check ranges; the control needs as much traffic as the canary, so share <= 0.5."""
        _check("share", self.share, 0.0, 0.5)
        if self.share == 0:
            msg = "share of a stage is 0"
            raise ValueError(msg)
        if self.bake_time < timedelta(0):
            msg = f"bake_time = {self.bake_time} is negative"
            raise ValueError(msg)
        _check("min_requests", self.min_requests, 1, float("inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SafetyLimits:
    """Limits no decision may be predicted to break, and no served arm may break unnoticed."""

    failure_rate_max: float = 0.05
    latency_p95_ms_max: float = 30_000.0
    quality_min: float = 0.0

    def __post_init__(self) -> None:
        """Check ranges."""
        _check("failure_rate_max", self.failure_rate_max, 0.0, 1.0)
        _check("quality_min", self.quality_min, 0.0, 1.0)
        _check("latency_p95_ms_max", self.latency_p95_ms_max, 0.0, float("inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """Money limits in USD; None = no limit."""

    monthly_usd: float | None = None
    daily_usd: float | None = None
    hourly_usd: float | None = None
    per_request_usd: float | None = None
    exploration_daily_usd: float | None = None

    def __post_init__(self) -> None:
        """Refuse negative limits."""
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is not None:
                _check(limit.name, value, 0.0, float("inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """When a person must agree, and how long the question stays open.

    when_missed: to changes of a strategy whose promises provably failed more often than they may.
    """

    required: bool = False
    above_daily_usd: float | None = None
    when_missed: bool = True
    expires_after: timedelta = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlastRadius:
    """How much an unproven change may hurt at most, while its canary is largest; None = no limit.

    *at_risk*: requests a day that the canary would serve, and what they would cost, USD a day;
    *together*: with everything that is in flight on all targets; refuse: what is above a limit is
    refused, else a person must agree.
    """

    max_daily_usd_at_risk: float | None = None
    max_daily_requests_at_risk: float | None = None
    max_daily_usd_at_risk_together: float | None = None
    max_daily_requests_at_risk_together: float | None = None
    refuse: bool = False

    def __post_init__(self) -> None:
        """Refuse negative limits."""
        for limit in fields(self):
            value = getattr(self, limit.name)
            if value is not None:
                _check(limit.name, value, 0.0, float("inf"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Half-open interval in which nothing is started or promoted; rollbacks still run."""

    start: datetime
    end: datetime
    reason: str = ""

    def covers(self, now: datetime) -> bool:
        """Whether ``now`` lies inside."""
        return self.start <= now < self.end


DEFAULT_STAGES = (
    Stage(share=0.05, bake_time=timedelta(hours=1)),
    Stage(share=0.10, bake_time=timedelta(hours=1)),
    Stage(share=0.25, bake_time=timedelta(hours=2)),
    Stage(share=0.50, bake_time=timedelta(hours=2)),
)

DEFAULT_GUARDRAILS = (
    Guardrail(metric="quality", margin=0.02, anchored=True),
    Guardrail(metric="failure_rate", margin=0.005),
    Guardrail(metric="latency_exceedance", margin=0.02),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All limits of one target.

    alpha_rollback: chance that a harmless rollout is ever rolled back, shared by the guardrails;
    alpha_promote: chance that a harmful arm passes one required metric;
    label_maturity: age a window needs before its quality counts;
    hold_expires_after: longest stay in one stage; then the rollout is reverted, never promoted;
    holdback_share, settle_after: concurrent control kept after promotion, and for how long;
    max_changes_per_day, cooldown: at most so many starts a day for the target, so far apart;
    retry_after: how long an arm that was rolled back or reverted is not proposed again;
    exploration_share: largest share an arm without traffic of its own may get in its first stage;
    control_ratio: control requests to one of the canary, >= 1; more than one exposes fewer users to
    a bad arm for the same evidence, but a metric that depends on an arm's own share (caches, rate
    limits) is then compared unfairly;
    blip_tolerance: whether a planned look that crosses must be confirmed by the next one, unless it
    is clear; costs one look of delay;
    data_lag_max: age of the newest complete window beyond which the data are stale;
    peak_factor: a provider's limits must hold the busiest hour of the last week times this;
    deprecation_notice: how long before a model's deprecation a change to it is warned of.
    """

    goal: Goal = Goal()
    guardrails: tuple[Guardrail, ...] = DEFAULT_GUARDRAILS
    stages: tuple[Stage, ...] = DEFAULT_STAGES
    safety: SafetyLimits = SafetyLimits()
    budget: Budget = Budget()
    approval: Approval = Approval()
    blast_radius: BlastRadius = BlastRadius()
    freezes: tuple[Freeze, ...] = ()
    alpha_rollback: float = 0.05
    alpha_promote: float = 0.05
    label_maturity: timedelta = timedelta(hours=1)
    hold_expires_after: timedelta = timedelta(hours=24)
    holdback_share: float = 0.05
    settle_after: timedelta = timedelta(hours=6)
    max_changes_per_day: int = 5
    cooldown: timedelta = timedelta(minutes=30)
    retry_after: timedelta = timedelta(days=7)
    exploration_share: float = 0.05
    data_lag_max: timedelta = timedelta(hours=2)
    control_ratio: float = 1.0
    blip_tolerance: bool = False
    adopt_drift: bool = False
    peak_factor: float = 1.2
    deprecation_notice: timedelta = timedelta(days=30)

    def __post_init__(self) -> None:
        """Check ranges and that stages grow and guardrails are named once."""
        for name in ("alpha_rollback", "alpha_promote"):
            _check(name, getattr(self, name), 1e-6, 0.5)
        _check("holdback_share", self.holdback_share, 0.0, 0.5)
        _check("exploration_share", self.exploration_share, 0.0, 0.5)
        _check("max_changes_per_day", self.max_changes_per_day, 0, float("inf"))
        if not self.stages:
            msg = "stages are empty: a change needs at least one canary stage"
            raise ValueError(msg)
        shares = [stage.share for stage in self.stages]
        if shares != sorted(set(shares)):
            msg = f"stage shares must grow: {shares}"
            raise ValueError(msg)
        _check("control_ratio", self.control_ratio, 1.0, LARGEST_RATIO)
        _check("peak_factor", self.peak_factor, 1.0, LARGEST_RATIO)
        if shares[-1] * (1.0 + self.control_ratio) > 1.0 + ROUNDING:
            msg = (
                f"the last stage gives the canary {shares[-1]} and its control "
                f"{self.control_ratio:g} times that: more than all traffic"
            )
            raise ValueError(msg)
        for stage in self.stages:
            if stage.bake_time >= self.hold_expires_after:
                msg = (
                    f"a stage with bake_time {stage.bake_time} always expires: hold_expires_after "
                    f"is {self.hold_expires_after}"
                )
                raise ValueError(msg)
        metrics = [guardrail.metric for guardrail in self.guardrails]
        if not metrics or len(metrics) != len(set(metrics)):
            msg = f"guardrails must be at least one and each metric once: {metrics}"
            raise ValueError(msg)

    def approval_reason(self, daily_saving_usd: float | None) -> str | None:
        """Why a person must agree to a change of that expected size; None where nobody must.

        With a money limit an unknown size needs approval: not knowing is not agreeing.
        """
        if self.approval.required:
            return "the policy asks for approval of every change"
        limit = self.approval.above_daily_usd
        if limit is None:
            return None
        if daily_saving_usd is None:
            return f"daily impact unknown, approval is needed above {limit:g} USD/day"
        if abs(daily_saving_usd) > limit:
            return f"daily impact {abs(daily_saving_usd):.2f} USD above {limit:g} USD/day"
        return None

    def shares(self, *, exploratory: bool) -> tuple[float, ...]:
        """The canary's share in each stage; the first one of what rests on a prior is capped."""
        first, *others = (stage.share for stage in self.stages)
        return (min(first, self.exploration_share) if exploratory else first, *others)

    def frozen_at(self, now: datetime) -> Freeze | None:
        """The freeze window that covers ``now``, if any."""
        return next((freeze for freeze in self.freezes if freeze.covers(now)), None)


Fact = str | float | bool | datetime | tuple[str, ...] | Mapping[str, str] | None
Facts = Mapping[str, Fact]
"""By the names of :data:`FACTS`; every one of them is there, None = unknown."""


class Kind(Enum):
    """What a fact is."""

    TEXT = "text"
    NUMBER = "number"
    FLAG = "flag"
    MOMENT = "moment"
    TEXTS = "texts"
    LABELS = "labels"


PREDICTED: Final = ("quality", "failure_rate", "latency_p95_ms", "cost_usd")
EXPECTED: Final = (
    "daily_saving_usd",
    "cost_reduction_pct",
    "quality_delta",
    "latency_delta_pct",
    "confidence",
)

FACTS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "now": Kind.MOMENT,
        "strategy": Kind.TEXT,
        "urgent": Kind.FLAG,
        "exploratory": Kind.FLAG,
        "target.name": Kind.TEXT,
        "target.task_type": Kind.TEXT,
        "target.labels": Kind.LABELS,
        **{
            f"{arm}.{part}": kind
            for arm in ("candidate", "baseline")
            for part, kind in (
                ("name", Kind.TEXT),
                ("model", Kind.TEXT),
                ("provider", Kind.TEXT),
                ("regions", Kind.TEXTS),
            )
        },
        **{f"expected.{name}": Kind.NUMBER for name in EXPECTED},
        **{f"predicted.{name}": Kind.NUMBER for name in PREDICTED},
        **{f"baseline.{name}": Kind.NUMBER for name in PREDICTED},
        "requests_per_day": Kind.NUMBER,
        "daily_cost_usd": Kind.NUMBER,
        "baseline.daily_cost_usd": Kind.NUMBER,
        "largest_share": Kind.NUMBER,
        "daily_requests_at_risk": Kind.NUMBER,
        "daily_usd_at_risk": Kind.NUMBER,
    }
)
"""Every name a policy may use, and its kind."""
