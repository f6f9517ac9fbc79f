"""From settings to the core's frozen values: targets and policies."""

from types import MappingProxyType
from typing import Any

from optimizer.policy import (
    Approval,
    Budget,
    Freeze,
    Goal,
    Guardrail,
    Policy,
    SafetyLimits,
    Stage,
)
from optimizer.settings.model import (
    ArmSettings,
    GuardrailSettings,
    PolicySettings,
    TargetSettings,
)
from optimizer.settings.places import Raw
from optimizer.targets import Arm, ModelConfig, Price, Prior, Target

_NESTED = {
    "goal": Goal,
    "safety": SafetyLimits,
    "budget": Budget,
    "approval": Approval,
}


def target_of(settings: TargetSettings) -> Target:
    """The target, with its arms.

    Raises:
        ValueError: two arms of one name, a baseline that is no arm, or a bad name.
    """
    return Target(
        name=settings.name,
        task_type=settings.task_type,
        arms=tuple(_arm_of(arm) for arm in settings.arms),
        baseline=settings.baseline,
    )


def _arm_of(settings: ArmSettings) -> Arm:
    return Arm(
        name=settings.name,
        config=ModelConfig(
            model=settings.model,
            provider=settings.provider,
            temperature=settings.temperature,
            top_p=settings.top_p,
            max_tokens=settings.max_tokens,
            prompt_version=settings.prompt_version,
            params=MappingProxyType(dict(settings.params)),
        ),
        price=None if settings.price is None else Price(**settings.price.model_dump()),
        prior=None if settings.prior is None else Prior(**settings.prior.model_dump()),
        enabled=settings.enabled,
    )


def policy_of(settings: PolicySettings, defaults: PolicySettings) -> Policy:
    """The target's policy: its own values over ``defaults`` over the built-in ones.

    Nested sections (goal, safety, budget, approval) are merged key by key; lists are replaced.

    Raises:
        ValueError: values that contradict each other, naming them.
    """
    values: dict[str, Any] = {}
    for name in PolicySettings.model_fields:
        own, fallback = getattr(settings, name), getattr(defaults, name)
        if own is None and fallback is None:
            continue
        if name in _NESTED:
            merged = {
                **({} if fallback is None else fallback.model_dump(exclude_unset=True)),
                **({} if own is None else own.model_dump(exclude_unset=True)),
            }
            values[name] = _NESTED[name](**merged)
        else:
            values[name] = _built(name, fallback if own is None else own)
    return Policy(**values)


def _built(name: str, value: Raw) -> Raw:
    if name == "guardrails":
        return tuple(_guardrail_of(item) for item in value)
    if name == "stages":
        return tuple(Stage(**item.model_dump()) for item in value)
    if name == "freezes":
        return tuple(Freeze(**item.model_dump()) for item in value)
    return value


def is_anchored(settings: GuardrailSettings) -> bool:
    """Whether losses of earlier promotions count against the margin: for quality, unless said."""
    return settings.metric == "quality" if settings.anchored is None else settings.anchored


def _guardrail_of(settings: GuardrailSettings) -> Guardrail:
    return Guardrail(
        metric=settings.metric,
        margin=settings.margin,
        tolerance=settings.tolerance,
        relative=settings.relative,
        anchored=is_anchored(settings),
    )
