"""Targets and arms: call sites that take traffic, and configurations that may serve them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import Enum
from types import MappingProxyType

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:/@+-]{0,198}[A-Za-z0-9])?")


class TaskType(Enum):
    """What kind of work a target asks of its model."""

    CLASSIFICATION = "classification"
    CREATIVE_GENERATION = "creative_generation"
    DATA_EXTRACTION = "data_extraction"
    SUMMARIZATION = "summarization"
    QUESTION_ANSWERING = "question_answering"
    CODE_GENERATION = "code_generation"
    TRANSLATION = "translation"
    OTHER = "other"


def check_name(kind: str, name: str) -> None:
    """Refuse a name that could not travel through labels, file names and URLs.

    Raises:
        ValueError: naming the kind, the name and the rule.
    """
    if not _NAME.fullmatch(name):
        msg = (
            f"{kind} name {name!r} must be 1 to 200 of letters, digits and . _ : / @ + - "
            "and begin and end with a letter or digit"
        )
        raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One complete model configuration as the application must use it.

    temperature in [0, 2]; top_p in (0, 1]; max_tokens > 0; ``params`` holds free, JSON-able extras.

    Raises:
        ValueError: naming field, value and bound.
    """

    model: str
    provider: str | None = None
    temperature: float = 0.7
    top_p: float = 0.9
    max_tokens: int = 1024
    prompt_version: str | None = None
    params: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        """Check ranges."""
        if not self.model:
            msg = "model is empty"
            raise ValueError(msg)
        for name, value, low, high in (
            ("temperature", self.temperature, 0.0, 2.0),
            ("top_p", self.top_p, 0.0, 1.0),
        ):
            if not low <= value <= high:
                msg = f"{name} = {value} lies outside [{low}, {high}]"
                raise ValueError(msg)
        if self.max_tokens < 1:
            msg = f"max_tokens = {self.max_tokens} is below 1"
            raise ValueError(msg)

    def as_dict(self) -> dict[str, object]:
        """The configuration as JSON-able values, as it is published to applications."""
        return {
            "model": self.model,
            "provider": self.provider,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "prompt_version": self.prompt_version,
            "params": dict(self.params),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """Price of a model in USD per million tokens; ``cached_input`` None = as input."""

    input_usd_per_mtok: float
    output_usd_per_mtok: float
    cached_input_usd_per_mtok: float | None = None

    def __post_init__(self) -> None:
        """Refuse negative prices."""
        for name in ("input_usd_per_mtok", "output_usd_per_mtok", "cached_input_usd_per_mtok"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                msg = f"{name} = {value} is below 0"
                raise ValueError(msg)

    def cost_usd(
        self, input_tokens: float, output_tokens: float, cached_tokens: float = 0
    ) -> float:
        """Cost of one request, USD; ``input_tokens`` includes the cached ones.

        Examples:
            >>> round(Price(input_usd_per_mtok=2.5, output_usd_per_mtok=10).cost_usd(1000, 200), 6)
            0.0045
        """
        cached_price = (
            self.input_usd_per_mtok
            if self.cached_input_usd_per_mtok is None
            else self.cached_input_usd_per_mtok
        )
        fresh = max(0.0, input_tokens - cached_tokens)
        return (
            fresh * self.input_usd_per_mtok
            + cached_tokens * cached_price
            + output_tokens * self.output_usd_per_mtok
        ) / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """What is published about an arm before it has traffic of its own.

    quality in [0, 1] from ``n`` judged answers; tokens per request where known; ``source`` says who
    measured it. A prior may open a canary; it is never evidence for promoting one.
    """

    quality: float | None = None
    n: int = 0
    cost_usd: float | None = None
    latency_ms: float | None = None
    failure_rate: float | None = None
    source: str = ""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, value, high in (
            ("quality", self.quality, 1.0),
            ("failure_rate", self.failure_rate, 1.0),
            ("cost_usd", self.cost_usd, float("inf")),
            ("latency_ms", self.latency_ms, float("inf")),
        ):
            if value is not None and not 0 <= value <= high:
                msg = f"{name} = {value} lies outside [0, {high}]"
                raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a target asks of any arm that serves it; what is not asked is not checked."""

    context_window_tokens: int | None = None
    tools: bool = False
    json_mode: bool = False
    vision: bool = False
    streaming: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """What an arm's model is known to do; None = unknown, which is never taken for yes.

    deprecated_on: the day from which its provider gives no promise; regions: where it may be
    served; requests_per_minute, tokens_per_minute: what the provider lets this target have.
    """

    context_window_tokens: int | None = None
    tools: bool | None = None
    json_mode: bool | None = None
    vision: bool | None = None
    streaming: bool | None = None
    deprecated_on: date | None = None
    regions: tuple[str, ...] | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One complete configuration of a target; ``offers`` None = nothing is known of its model."""

    name: str
    config: ModelConfig
    price: Price | None = None
    prior: Prior | None = None
    offers: Offers | None = None
    enabled: bool = True

    def __post_init__(self) -> None:
        """Check the name."""
        check_name("arm", self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One call site of the LLM: its arms and the arm in force at first start.

    needs: what every arm must be able to do; labels: free words of the operator, for policies;
    fallback: the arm to go to where the one in force is sick and there is no way back, None = none.

    Raises:
        ValueError: a bad name, two arms of one name, a baseline or a fallback that is no arm.
    """

    name: str
    task_type: TaskType = TaskType.OTHER
    arms: tuple[Arm, ...]
    baseline: str
    needs: Needs = Needs()
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    fallback: str | None = None

    def __post_init__(self) -> None:
        """Check names and references."""
        check_name("target", self.name)
        names = [arm.name for arm in self.arms]
        for name in names:
            if names.count(name) > 1:
                msg = f"target {self.name} has two arms named {name}"
                raise ValueError(msg)
        for role, named in (("baseline", self.baseline), ("fallback", self.fallback)):
            if named is not None and named not in names:
                msg = f"{role} {named!r} of target {self.name} is none of its arms: {names}"
                raise ValueError(msg)

    def arm(self, name: str) -> Arm:
        """The arm of that name.

        Raises:
            KeyError: there is none.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise KeyError(name)
