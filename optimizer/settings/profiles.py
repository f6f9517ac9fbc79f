"""Profiles: sets of limits under one name, for those who do not want to choose each.

`balanced` keeps the built-in margins and chances of error, and asks more of a change. From it the
others lean to one side, so that `conservative` is nowhere looser than no profile at all. What is
written, in the target or in `defaults`, counts before what a profile says.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from optimizer.settings.limits import (
    ApprovalSettings,
    GoalSettings,
    GuardrailSettings,
    PolicySettings,
    StageSettings,
)
from optimizer.settings.model import Settings
from optimizer.settings.values import Section


def _profile(
    *,
    min_gain: float,
    stages: tuple[tuple[float, timedelta], ...],
    margins: tuple[float, float, float],
    alpha_promote: float,
    exploration_share: float,
    approval: ApprovalSettings,
) -> PolicySettings:
    quality, failure_rate, latency_exceedance = margins
    return PolicySettings(
        goal=GoalSettings(min_gain=min_gain),
        stages=[StageSettings(share=share, bake_time=bake) for share, bake in stages],
        guardrails=[
            GuardrailSettings(metric="quality", margin=quality),
            GuardrailSettings(metric="failure_rate", margin=failure_rate),
            GuardrailSettings(metric="latency_exceedance", margin=latency_exceedance),
        ],
        alpha_promote=alpha_promote,
        exploration_share=exploration_share,
        approval=approval,
    )


HOUR = timedelta(hours=1)

PROFILES: Final[Mapping[str, PolicySettings]] = MappingProxyType(
    {
        "conservative": _profile(
            min_gain=0.15,
            stages=((0.01, HOUR), (0.05, HOUR), (0.25, 2 * HOUR), (0.5, 4 * HOUR)),
            margins=(0.01, 0.002, 0.01),
            alpha_promote=0.025,
            exploration_share=0.0,
            approval=ApprovalSettings(required=True),
        ),
        "balanced": _profile(
            min_gain=0.10,
            stages=((0.05, HOUR), (0.25, HOUR), (0.5, 2 * HOUR)),
            margins=(0.02, 0.005, 0.02),
            alpha_promote=0.05,
            exploration_share=0.05,
            approval=ApprovalSettings(above_daily_usd=100.0),
        ),
        "aggressive": _profile(
            min_gain=0.05,
            stages=((0.1, HOUR / 2), (0.5, HOUR)),
            margins=(0.03, 0.01, 0.05),
            alpha_promote=0.10,
            exploration_share=0.15,
            approval=ApprovalSettings(),
        ),
    }
)
"""What each profile sets; what it leaves out is as it is built in."""

NOTHING: Final = PolicySettings()


def in_force(own: PolicySettings, defaults: PolicySettings) -> PolicySettings:
    """The limits of the profile that a target names, else of that in `defaults`; empty: none."""
    named = own.profile or defaults.profile
    return NOTHING if named is None else PROFILES[named]


def filled(settings: Settings) -> Settings:
    """The settings with what profiles set written out, where nobody wrote anything else."""
    defaults = settings.defaults
    targets = [
        target
        if target.profile is None
        else target.model_copy(update=_gaps(in_force(target, defaults), defaults, target))
        for target in settings.targets
    ]
    gaps = _gaps(in_force(NOTHING, defaults), defaults)
    return settings.model_copy(
        update={"defaults": defaults.model_copy(update=gaps), "targets": targets}
    )


def _gaps(profile: PolicySettings, *written: PolicySettings) -> dict[str, Any]:
    """What the profile adds to the last of the sections, given all that is written."""
    found: dict[str, Any] = {}
    for name in profile.model_fields_set:
        ours, theirs = getattr(profile, name), [getattr(section, name) for section in written]
        if not isinstance(ours, Section):
            if all(value is None for value in theirs):
                found[name] = ours
            continue
        taken = {key for value in theirs if value is not None for key in value.model_fields_set}
        own = {} if theirs[-1] is None else theirs[-1].model_dump(exclude_unset=True)
        parts = ours.model_dump(exclude_unset=True, exclude=taken) | own
        if parts:
            found[name] = type(ours)(**parts)
    return found


def said_by(profile: PolicySettings, written: PolicySettings, place: Sequence[str | int]) -> bool:
    """Whether the value at a place inside a policy section is the profile's."""
    name = str(place[0])
    ours, theirs = getattr(profile, name, None), getattr(written, name, None)
    if name not in profile.model_fields_set or not isinstance(ours, Section):
        return name in profile.model_fields_set and theirs is None
    key = str(place[-1])
    return key in ours.model_fields_set and (theirs is None or key not in theirs.model_fields_set)
