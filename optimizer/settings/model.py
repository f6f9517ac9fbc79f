"""The sections of the configuration file, with every default, meaning and bound."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)

from optimizer.metrics import METRICS
from optimizer.observations import Kind, ScoreScale
from optimizer.targets import TaskType

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(value: object) -> object:
    """Accept ``90s``, ``30m``, ``6h``, ``2d`` beside what pydantic takes."""
    if isinstance(value, str):
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", value)
        if found:
            return timedelta(seconds=float(found[1]) * _UNITS_S[found[2]])
    return value


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        msg = "must not be negative"
        raise ValueError(msg)
    return value


Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_not_negative)]
Share = Annotated[float, Field(ge=0, le=1)]
Usd = Annotated[float, Field(ge=0)]
MetricName = Literal[
    "failure_rate", "fallback_rate", "latency_exceedance", "latency_ms", "cost_usd", "quality"
]
assert set(MetricName.__args__) == set(METRICS)  # noqa: S101 - the literal must list every metric


class Section(BaseModel):
    """A part of the file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Service(Section):
    """Who this installation is and where its server listens."""

    name: str = Field(
        default="llm-auto-optimizer", min_length=1, description="Name in messages to people."
    )
    host: str = Field(
        default="127.0.0.1", description="Address `llmopt serve` binds to; loopback unless changed."
    )
    port: int = Field(default=4200, ge=1, le=65535, description="Port of `llmopt serve`.")


class Database(Section):
    """Where the ledger and the spool of checked rows live."""

    connection_string: SecretStr = Field(
        default=SecretStr("sqlite:///optimizer.db"),
        description="SQLAlchemy URL of the ledger: sqlite:/// or postgresql+psycopg://.",
    )
    max_connections: int = Field(default=10, ge=1, le=1000, description="Connections at most.")
    timeout_secs: float = Field(default=30, gt=0, le=600, description="Longest wait for the database.")
    auto_migrate: bool = Field(default=True, description="Bring the schema up to date when opening.")
    spool_directory: Path = Field(
        default=Path("spool"),
        description="Directory of checked rows (Parquet), kept until labels are mature; workers on "
        "several machines need a shared one.",
    )
    engine_memory_mb: int = Field(
        default=1024, ge=128, description="Memory limit of the aggregation engine."
    )
    engine_threads: int = Field(default=2, ge=1, le=256, description="Threads of that engine.")


class Mapping_(Section):
    """How a source's own columns become ours."""

    columns: dict[str, str] = Field(
        default_factory=dict, description="Our column -> the source's column (JSON: dotted path)."
    )
    constants: dict[str, str] = Field(
        default_factory=dict, description="Our column -> a fixed value, where the source has none."
    )
    timezone: str | None = Field(
        default=None, description="IANA zone of timestamps written without one; none: refused."
    )
    scale: ScoreScale = Field(
        default=ScoreScale.UNIT, description="How quality is written: unit, stars or percent."
    )


class FileSourceSettings(Mapping_):
    """Files that applications or gateways write."""

    kind: Literal["file"]
    name: str = Field(min_length=1, description="Unique name of the source.")
    delivers: Kind = Field(default=Kind.CALLS, description="calls or feedback.")
    paths: list[str] = Field(min_length=1, description="Globs, relative to `root`.")
    root: Path = Field(default=Path(), description="No file outside this directory is ever read.")
    format: Literal["auto", "csv", "jsonl", "parquet"] = Field(
        default="auto", description="auto = by suffix; .gz is understood."
    )
    max_line_bytes: int = Field(default=1_048_576, ge=1024, description="Longer lines are set aside.")


class SqlSourceSettings(Mapping_):
    """A table or query of any database SQLAlchemy knows."""

    kind: Literal["sql"]
    name: str = Field(min_length=1, description="Unique name of the source.")
    delivers: Kind = Field(default=Kind.CALLS, description="calls or feedback.")
    url: SecretStr = Field(description="SQLAlchemy URL.")
    table: str | None = Field(default=None, description="Table or view, schema.table allowed.")
    query: str | None = Field(default=None, description="A SELECT instead of a table.")
    cursor_column: str = Field(description="Column that grows with time; pages follow it.")
    id_column: str = Field(description="Unique column; breaks ties of the cursor column.")
    overlap: Duration = Field(
        default=timedelta(minutes=10), description="How far each pull looks back for late rows."
    )
    page_rows: int = Field(default=50_000, ge=1, description="Rows a page.")

    @model_validator(mode="after")
    def _one_of(self) -> "SqlSourceSettings":
        if (self.table is None) == (self.query is None):
            msg = "exactly one of table and query is needed"
            raise ValueError(msg)
        return self


class FileGatewaySettings(Section):
    """Published allocation files that `optimizer.client` reads."""

    kind: Literal["file"]
    name: str = Field(min_length=1, description="Unique name of the gateway.")
    directory: Path = Field(description="Where one JSON file per target is published.")
    expires_after: Duration = Field(
        default=timedelta(hours=6),
        description="Age after which clients fall back to the baseline, if nobody renews the file.",
    )


class FileNotifierSettings(Section):
    """Messages appended to a file as JSON lines."""

    kind: Literal["file"]
    name: str = Field(min_length=1, description="Unique name of the notifier.")
    path: Path = Field(description="File that grows by a line per message.")


class WebhookNotifierSettings(Section):
    """Messages posted to a URL."""

    kind: Literal["webhook"]
    name: str = Field(min_length=1, description="Unique name of the notifier.")
    url: SecretStr = Field(description="Where to POST; often holds a token, so it is never shown.")
    secret: SecretStr | None = Field(default=None, description="Key of the HMAC-SHA256 signature.")
    timeout_secs: float = Field(default=10, gt=0, le=120, description="Longest wait for an answer.")


class Intake(Section):
    """What counts as late, ancient or repeated."""

    lateness: Duration = Field(
        default=timedelta(minutes=5), description="How long a window waits before it is closed."
    )
    max_age: Duration = Field(
        default=timedelta(days=400), description="Rows older than this are set aside as ancient."
    )
    dedupe_horizon: Duration = Field(
        default=timedelta(days=2), description="Span in which a repeated request id is recognised."
    )
    feedback_horizon: Duration = Field(
        default=timedelta(days=3), description="How long a request waits for its quality score."
    )


SourceSettings = Annotated[FileSourceSettings | SqlSourceSettings, Field(discriminator="kind")]
NotifierSettings = Annotated[
    FileNotifierSettings | WebhookNotifierSettings, Field(discriminator="kind")
]


class Integrations(Section):
    """What we read from, act on and tell."""

    sources: list[SourceSettings] = Field(default_factory=list, description="Where data come from.")
    gateways: list[FileGatewaySettings] = Field(
        default_factory=list, description="What splits traffic."
    )
    notifiers: list[NotifierSettings] = Field(default_factory=list, description="Who is told.")
    intake: Intake = Field(default=Intake(), description="Lateness and horizons.")

    @model_validator(mode="after")
    def _unique(self) -> "Integrations":
        for family in ("sources", "gateways", "notifiers"):
            names = [item.name for item in getattr(self, family)]
            double = sorted({name for name in names if names.count(name) > 1})
            if double:
                msg = f"{family} need unique names; {', '.join(double)} appears more than once"
                raise ValueError(msg)
        return self


class GoalSettings(Section):
    """What a change must improve."""

    metric: MetricName = Field(default="cost_usd", description="Metric to improve.")
    min_gain: Share = Field(default=0.0, description="Smallest relative gain worth a change.")


class GuardrailSettings(Section):
    """What must not get worse."""

    metric: MetricName = Field(description="Metric to protect.")
    margin: float = Field(gt=0, description="Harm a candidate may have at most to be promoted.")
    tolerance: float | None = Field(
        default=None, ge=0, description="Proven harm above this is rolled back; see the policy docs."
    )
    relative: bool = Field(default=False, description="Margin is a fraction of the control's value.")
    anchored: bool | None = Field(
        default=None, description="Earlier losses count against the margin; default for quality."
    )


class StageSettings(Section):
    """One step of a canary."""

    share: float = Field(gt=0, le=0.5, description="Share of traffic; the control gets as much.")
    bake_time: Duration = Field(default=timedelta(hours=1), description="Shortest stay.")
    min_requests: int = Field(default=200, ge=1, description="Requests per arm before it may end.")


class SafetySettings(Section):
    """Limits nothing may break."""

    failure_rate_max: Share = Field(default=0.05, description="Failed share.")
    latency_p95_ms_max: float = Field(default=30_000, gt=0, description="p95 of latency, ms.")
    quality_min: Share = Field(default=0.0, description="Mean quality.")


class BudgetSettings(Section):
    """Money limits, USD."""

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
        default=None, description="Only changes of targets that spend more than this a day."
    )
    expires_after: Duration = Field(
        default=timedelta(hours=24), description="An unanswered question cancels the change."
    )


class FreezeSettings(Section):
    """No starts and no promotions in this interval."""

    start: AwareDatetime = Field(description="Beginning, with time zone.")
    end: AwareDatetime = Field(description="End, with time zone.")
    reason: str = Field(default="", description="Shown where something is held because of it.")

    @model_validator(mode="after")
    def _ordered(self) -> "FreezeSettings":
        if self.start >= self.end:
            msg = f"start {self.start.isoformat()} is not before end {self.end.isoformat()}"
            raise ValueError(msg)
        return self


class PolicySettings(Section):
    """Limits of a target; what is absent comes from `defaults`, then from the built-in values."""

    goal: GoalSettings | None = None
    guardrails: list[GuardrailSettings] | None = Field(default=None, min_length=1)
    stages: list[StageSettings] | None = Field(default=None, min_length=1)
    safety: SafetySettings | None = None
    budget: BudgetSettings | None = None
    approval: ApprovalSettings | None = None
    freezes: list[FreezeSettings] | None = None
    alpha_rollback: float | None = Field(default=None, gt=0, le=0.5)
    alpha_promote: float | None = Field(default=None, gt=0, le=0.5)
    label_maturity: Duration | None = None
    hold_expires_after: Duration | None = None
    holdback_share: float | None = Field(default=None, ge=0, le=0.5)
    settle_after: Duration | None = None
    max_changes_per_day: int | None = Field(default=None, ge=0)
    cooldown: Duration | None = None
    retry_after: Duration | None = None
    exploration_share: float | None = Field(default=None, ge=0, le=0.5)
    data_lag_max: Duration | None = None
    adopt_drift: bool | None = None


class PriceSettings(Section):
    """Price of an arm's model."""

    input_usd_per_mtok: Usd = Field(description="USD per million input tokens.")
    output_usd_per_mtok: Usd = Field(description="USD per million output tokens.")
    cached_input_usd_per_mtok: Usd | None = Field(
        default=None, description="USD per million input tokens served from a cache."
    )


class PriorSettings(Section):
    """What is published about an arm before it has traffic of its own."""

    quality: Share | None = Field(default=None, description="Published quality, 0 to 1.")
    n: int = Field(default=0, ge=0, description="Judged answers behind it.")
    cost_usd: Usd | None = Field(default=None, description="USD per request.")
    latency_ms: float | None = Field(default=None, ge=0, description="Typical latency, ms.")
    failure_rate: Share | None = Field(default=None, description="Published failed share.")
    source: str = Field(min_length=1, description="Who measured it, and where it is published.")


class ArmSettings(Section):
    """One complete configuration of a target."""

    name: str = Field(min_length=1, max_length=200, description="Name of the arm.")
    model: str = Field(min_length=1, description="Model as the gateway knows it.")
    provider: str | None = Field(default=None, description="Provider, for prices.")
    temperature: float = Field(default=0.7, ge=0, le=2, description="Sampling temperature.")
    top_p: float = Field(default=0.9, gt=0, le=1, description="Nucleus sampling.")
    max_tokens: int = Field(default=1024, ge=1, description="Longest answer, tokens.")
    prompt_version: str | None = Field(default=None, description="Version of the prompt.")
    params: dict[str, Any] = Field(default_factory=dict, description="Free extras for the caller.")
    price: PriceSettings | None = Field(default=None, description="Price of the model.")
    prior: PriorSettings | None = Field(default=None, description="Published measurements.")
    enabled: bool = Field(default=True, description="May be proposed.")


class TargetSettings(PolicySettings):
    """One call site of the LLM."""

    name: str = Field(min_length=1, max_length=200, description="Name of the target.")
    task_type: TaskType = Field(default=TaskType.OTHER, description="Kind of work.")
    baseline: str = Field(description="The arm in force at first start.")
    arms: list[ArmSettings] = Field(min_length=1, description="Configurations that may serve it.")
    gateway: str | None = Field(
        default=None, description="Gateway that splits its traffic; none: the only one configured."
    )


class ThresholdSettings(Section):
    """When analyzers speak up, beyond the safety limits."""

    latency_increase_pct: float = Field(default=20, gt=0, description="Rise of p95, percent.")
    cost_increase_pct: float = Field(default=50, gt=0, description="Rise of cost a request, percent.")
    min_requests: int = Field(default=100, ge=20, description="Requests before anything is claimed.")


class CostPerformanceSettings(Section):
    """The Pareto strategy."""

    min_saving: Share = Field(default=0.05, description="Smallest expected saving worth a rollout.")
    delta: float = Field(
        default=0.05, gt=0, le=0.5, description="Accepted chance that quality is out of margin."
    )


class Strategies(Section):
    """How changes are found."""

    enabled: list[Literal["cost_performance", "threshold"]] = Field(
        default=["threshold", "cost_performance"], description="Strategies that may propose."
    )
    thresholds: ThresholdSettings = Field(default=ThresholdSettings())
    cost_performance: CostPerformanceSettings = Field(default=CostPerformanceSettings())


class Observability(Section):
    """What the program says of itself."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe message that is logged."
    )
    json_logging: bool = Field(default=False, description="One JSON object per log line.")


class Settings(Section):
    """The whole file."""

    service: Service = Field(default=Service())
    database: Database = Field(default=Database())
    integrations: Integrations = Field(default=Integrations())
    strategies: Strategies = Field(default=Strategies())
    observability: Observability = Field(default=Observability())
    defaults: PolicySettings = Field(
        default=PolicySettings(), description="Limits of every target that sets none of its own."
    )
    targets: list[TargetSettings] = Field(default_factory=list, description="Call sites.")
