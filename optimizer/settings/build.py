"""From settings to the core's frozen values: targets and policies."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from optimizer.experiment.design import Design, Rule
from optimizer.experiment.grid import Axis, Tuning, arm_at
from optimizer.policy import (
    Approval,
    BlastRadius,
    Budget,
    Freeze,
    Goal,
    Guardrail,
    Policy,
    SafetyLimits,
    Stage,
)
from optimizer.settings import profiles
from optimizer.settings.capabilities import OffersSettings
from optimizer.settings.experiments import ExperimentSettings
from optimizer.settings.model import (
    ArmSettings,
    GuardrailSettings,
    PolicySettings,
    Settings,
    TargetSettings,
)
from optimizer.settings.places import Raw
from optimizer.settings.tuning import AxisSettings
from optimizer.settings.values import Section
from optimizer.targets import Arm, ModelConfig, Needs, Offers, Price, Prior, Target

_NESTED = {
    "goal": Goal,
    "safety": SafetyLimits,
    "budget": Budget,
    "approval": Approval,
    "blast_radius": BlastRadius,
}


def target_of(settings: TargetSettings) -> Target:
    """The target, with its arms.

    Raises:
        ValueError: two arms of one name, a baseline or fallback that is no arm, or a bad name.
    """
    return Target(
        name=settings.name,
        task_type=settings.task_type,
        arms=tuple(_arm_of(arm) for arm in settings.arms),
        baseline=settings.baseline,
        needs=Needs() if settings.needs is None else Needs(**settings.needs.model_dump()),
        labels=MappingProxyType(dict(settings.labels)),
        fallback=settings.fallback,
    )


def designs_of(settings: TargetSettings) -> tuple[Design, ...]:
    """The experiments of a target.

    Raises:
        ValueError: arms that are none of the target's, or values that contradict each other.
    """
    return tuple(_design_of(each, settings) for each in settings.experiments)


def _design_of(settings: ExperimentSettings, target: TargetSettings) -> Design:
    known = [arm.name for arm in target.arms]
    for arm in settings.arms:
        if arm not in known:
            msg = f"arm {arm!r} of experiment {settings.name} is none of the target's arms {known}"
            raise ValueError(msg)
    return Design(
        name=settings.name,
        target=target.name,
        arms=tuple(settings.arms),
        metric=settings.metric,
        rule=Rule(settings.rule),
        share=settings.share,
        min_duration=settings.min_duration,
        max_duration=settings.max_duration,
        delta=settings.delta,
        floor=settings.floor,
        daily_budget_usd=settings.daily_budget_usd,
        auto=settings.start == "auto",
        keep_running=settings.keep_running,
    )


def axis_of(settings: AxisSettings) -> Axis:
    """A parameter that is searched.

    Raises:
        ValueError: bounds or a step that give no grid.
    """
    return Axis(name=settings.name, low=settings.low, high=settings.high, step=settings.step)


def tuning_of(settings: TargetSettings, goal: Goal) -> Tuning:
    """What tuning may do with a target that has the section.

    Raises:
        ValueError: a base that is none of the target's arms, values that a parameter cannot have, a
            goal that trials cannot decide by, an arm that is named as a point and is another one,
            or a grid that is too large.
    """
    if settings.tuning is None:
        msg = f"target {settings.name} has no section tuning"
        raise ValueError(msg)
    section = settings.tuning
    arms = {arm.name: _arm_of(arm) for arm in settings.arms}
    name = settings.baseline if section.base is None else section.base
    if name not in arms:
        msg = f"base {name!r} is none of the target's arms {list(arms)}"
        raise ValueError(msg)
    tuning = Tuning(
        target=settings.name,
        base=name,
        axes=tuple(sorted(map(axis_of, section.parameters), key=lambda axis: axis.name)),
        metric=goal.metric,
        share=section.share,
        max_trials=section.max_trials,
        min_duration=section.min_duration,
        max_duration=section.max_duration,
        delta=section.delta,
        daily_budget_usd=section.daily_budget_usd,
    )
    for point in tuning.extremes():
        arm_at(arms[name], point)
    for arm in arms.values():
        spelt = tuning.spelt(arm.name)
        if spelt is not None and arm.config != arm_at(arms[name], spelt).config:
            msg = f"arm {arm.name} is named as a point of the tuning, and is configured otherwise"
            raise ValueError(msg)
    return tuning


def tunings_of(settings: Settings) -> tuple[Tuning, ...]:
    """What tuning may do with the targets that ask for it.

    Raises:
        ValueError: as :func:`tuning_of`.
    """
    return tuple(
        tuning_of(target, policy_of(target, settings.defaults).goal)
        for target in settings.targets
        if target.tuning is not None
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
        offers=None if settings.offers is None else _offers_of(settings.offers),
        enabled=settings.enabled,
    )


def _offers_of(settings: OffersSettings) -> Offers:
    regions = None if settings.regions is None else tuple(settings.regions)
    return Offers(**(settings.model_dump() | {"regions": regions}))


def policy_of(settings: PolicySettings, defaults: PolicySettings) -> Policy:
    """The target's policy: its own values over ``defaults``, a profile's and the built-in ones.

    Nested sections (goal, safety, budget, approval, blast_radius) are merged key by key; lists are
    replaced.

    Raises:
        ValueError: values that contradict each other, naming them.
    """
    layers = (profiles.in_force(settings, defaults), defaults, settings)
    values: dict[str, Any] = {}
    for name in PolicySettings.model_fields:
        written = [getattr(layer, name) for layer in layers if getattr(layer, name) is not None]
        if not written or name == "profile":
            continue
        if name in _NESTED:
            values[name] = _NESTED[name](**_merged(written))
        else:
            values[name] = _built(name, written[-1])
    return Policy(**values)


def _merged(sections: Sequence[Section]) -> dict[str, Any]:
    """What the sections set, key by key; the last one has the last word."""
    found: dict[str, Any] = {}
    for section in sections:
        found |= section.model_dump(exclude_unset=True)
    return found


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
