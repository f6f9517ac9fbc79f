"""The sections of a target: its arms, their prices, and what is published about them."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from optimizer.settings.capabilities import NeedsSettings, OffersSettings
from optimizer.settings.experiments import ExperimentSettings
from optimizer.settings.limits import PolicySettings
from optimizer.settings.tuning import TuningSettings
from optimizer.settings.values import Section, Share, Usd
from optimizer.targets import TaskType


class PriceSettings(Section):
    """Price of an arm's model."""

    input_usd_per_mtok: Usd = Field(description="USD per million input tokens.")
    output_usd_per_mtok: Usd = Field(description="USD per million output tokens.")
    cached_input_usd_per_mtok: Usd | None = Field(
        default=None,
        description="USD per million input tokens served from a cache; none: as input.",
    )


class PriorSettings(Section):
    """What is published about an arm before it has traffic of its own; it never promotes one."""

    quality: Share | None = Field(default=None, description="Published quality, 0 to 1.")
    n: int = Field(default=0, ge=0, description="Judged answers behind it.")
    cost_usd: Usd | None = Field(default=None, description="USD per request.")
    latency_ms: float | None = Field(default=None, ge=0, description="Typical latency, ms.")
    failure_rate: Share | None = Field(
        default=None, description="Published failed share, fraction."
    )
    source: str = Field(min_length=1, description="Who measured it, and where it is published.")


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        msg = (
            "must hold only what JSON can: text, finite numbers, true, false, null, lists, mappings"
        )
        raise ValueError(msg) from None
    return value


class ArmSettings(Section):
    """One complete configuration of a target."""

    name: str = Field(min_length=1, max_length=200, description="Name of the arm.")
    model: str = Field(min_length=1, description="Model as the gateway knows it.")
    provider: str | None = Field(default=None, description="Provider of the model.")
    temperature: float = Field(default=0.7, ge=0, le=2, description="Sampling temperature.")
    top_p: float = Field(default=0.9, gt=0, le=1, description="Nucleus sampling.")
    max_tokens: int = Field(default=1024, ge=1, description="Longest answer, tokens.")
    prompt_version: str | None = Field(default=None, description="Version of the prompt.")
    params: Annotated[dict[str, Any], AfterValidator(_as_json)] = Field(
        default_factory=dict, description="Free extras for the caller, published as they are."
    )
    price: PriceSettings | None = Field(default=None, description="Price of the model.")
    prior: PriorSettings | None = Field(default=None, description="Published measurements.")
    offers: OffersSettings | None = Field(
        default=None, description="What its model is known to do."
    )
    enabled: bool = Field(default=True, description="May be proposed.")


class TargetSettings(PolicySettings):
    """One call site of the LLM, and the limits it does not share with the others."""

    name: str = Field(min_length=1, max_length=200, description="Name of the target.")
    task_type: TaskType = Field(default=TaskType.OTHER, description="Kind of work.")
    baseline: str = Field(min_length=1, description="The arm in force at first start.")
    arms: list[ArmSettings] = Field(min_length=1, description="Configurations that may serve it.")
    fallback: str | None = Field(
        default=None,
        description="Arm to go to where the one in force is sick and there is no way back.",
    )
    needs: NeedsSettings | None = Field(
        default=None, description="What any arm of it must be able to do."
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description="Words of your own, for policies: `residency: eu`."
    )
    experiments: list[ExperimentSettings] = Field(
        default_factory=list, description="Questions about its arms."
    )
    tuning: TuningSettings | None = Field(
        default=None, description="Parameters of an arm that are searched for better values."
    )
    gateway: str | None = Field(
        default=None, description="Gateway that splits its traffic; none: the only one configured."
    )
