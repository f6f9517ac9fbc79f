"""What the core would refuse is refused here, with the place in the file."""

import difflib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from optimizer.errors import ConfigError
from optimizer.settings.build import axis_of, designs_of, policy_of, target_of, tuning_of
from optimizer.settings.limits import StageSettings
from optimizer.settings.model import PolicySettings, Settings, TargetSettings
from optimizer.settings.places import Place, dotted, origin_of

Problem = tuple[Place, str]


def check(settings: Settings, origins: Mapping[Place, str], path: Path) -> None:
    """Build every target and policy once.

    Raises:
        ConfigError: naming everything that cannot be built.
    """
    found = list(_problems(settings))
    if found:
        lines = [
            f"{origin_of(place, origins, path)}: {dotted(place)}: {message}"
            for place, message in found
        ]
        raise ConfigError("\n".join(lines))


def _problems(settings: Settings) -> Iterator[Problem]:
    limits = list(_limits(("defaults",), settings.defaults, PolicySettings()))
    yield from limits
    gateways = [gateway.name for gateway in settings.integrations.gateways]
    yield from _repeated(("targets",), [target.name for target in settings.targets], "targets")
    yield from _repeated(("policies",), [policy.name for policy in settings.policies], "policies")
    for index, target in enumerate(settings.targets):
        place: Place = ("targets", index)
        yield from _gateway(place, target.gateway, gateways)
        yield from _arms(place, target)
        yield from _experiments(place, target)
        if not limits:
            own = list(_limits(place, target, settings.defaults))
            yield from own or _tuning((*place, "tuning"), target, settings.defaults)


def _limits(place: Place, own: PolicySettings, defaults: PolicySettings) -> Iterator[Problem]:
    found = list(_stages((*place, "stages"), own.stages or ()))
    guarded = [item.metric for item in own.guardrails or ()]
    found += _repeated((*place, "guardrails"), guarded, "guardrails", key="metric")
    if not found:
        try:
            policy_of(own, defaults)
        except ValueError as error:
            found = [(place, str(error))]
    yield from found


def _stages(place: Place, stages: Sequence[StageSettings]) -> Iterator[Problem]:
    for index, (before, stage) in enumerate(itertools.pairwise(stages), start=1):
        if stage.share <= before.share:
            message = f"{stage.share} is not above the stage before it, {before.share}: shares grow"
            yield (*place, index, "share"), message


def _repeated(
    place: Place, names: Iterable[str], family: str, key: str = "name"
) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in first:
            message = f"two {family} of the {key} {name!r}; the first is {family}[{first[name]}]"
            yield (*place, index, key), message
        first.setdefault(name, index)


def _arms(place: Place, target: TargetSettings) -> Iterator[Problem]:
    names = [arm.name for arm in target.arms]
    found = list(_repeated((*place, "arms"), names, "arms"))
    if target.baseline not in names:
        message = f"{target.baseline!r} is none of the target's arms {names}"
        found.append(((*place, "baseline"), message + _meant(target.baseline, names)))
    if target.fallback is not None and target.fallback not in names:
        message = f"{target.fallback!r} is none of the target's arms {names}"
        found.append(((*place, "fallback"), message + _meant(target.fallback, names)))
    if not found:
        try:
            target_of(target)
        except ValueError as error:
            found = [(place, str(error))]
    yield from found


def _experiments(place: Place, target: TargetSettings) -> Iterator[Problem]:
    here: Place = (*place, "experiments")
    found = list(_repeated(here, [each.name for each in target.experiments], "experiments"))
    for index, each in enumerate(target.experiments):
        if not found:
            try:
                designs_of(target.model_copy(update={"experiments": [each]}))
            except ValueError as error:
                found.append(((*here, index), str(error)))
    yield from found


def _tuning(here: Place, target: TargetSettings, defaults: PolicySettings) -> Iterator[Problem]:
    if target.tuning is None:
        return
    asked, place = target.tuning.parameters, (*here, "parameters")
    found = list(_repeated(place, [each.name for each in asked], "parameters"))
    for index, each in enumerate(asked):
        try:
            axis_of(each)
        except ValueError as error:
            found.append(((*place, index), str(error)))
    if not found:
        try:
            tuning_of(target, policy_of(target, defaults).goal)
        except ValueError as error:
            found = [(here, str(error))]
    yield from found


def _gateway(place: Place, name: str | None, gateways: Sequence[str]) -> Iterator[Problem]:
    here = (*place, "gateway")
    if name is None and len(gateways) != 1:
        known = f"{len(gateways)} gateways are configured: {', '.join(gateways)}"
        if not gateways:
            known = "none is configured; add one under integrations.gateways"
        yield here, f"is needed, because {known}"
    if name is not None and name not in gateways:
        yield here, f"{name!r} is none of the gateways {list(gateways)}" + _meant(name, gateways)


def _meant(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
