"""The points that tuning may try: values of an arm's parameters on a grid inside bounds.

A point is an arm whose name spells its values, ``mini@temperature:0.3+top_p:0.9``. So whoever reads
the configuration knows what a name stands for, nobody keeps a table of arms, and a point is the
same arm in every run. Decimals are exact: 0.1 + 0.2 is 0.3 here.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from types import MappingProxyType

from optimizer.experiment.design import METRICS, Design, Rule
from optimizer.targets import Arm

Point = Mapping[str, float]
"""A value for each parameter."""

FIELDS = ("temperature", "top_p", "max_tokens")
"""Parameters with a field of their own; every other one is a free extra of the caller's."""
MOST_POINTS = 1_000
MOST_SHARE = 0.5
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One parameter: ``low`` and every ``step`` from there, up to ``high`` at most.

    Raises:
        ValueError: naming the field, its value and the bound.
    """

    name: str
    low: float
    high: float
    step: float

    def __post_init__(self) -> None:
        """Check name and order."""
        if not _NAME.fullmatch(self.name):
            msg = f"name {self.name!r} must begin with a letter, then letters, digits, _ . -"
            raise ValueError(msg)
        if not self.low < self.high:
            msg = f"low = {self.low:g} is not below high = {self.high:g}"
            raise ValueError(msg)
        width = _exact(self.high) - _exact(self.low)
        if not 0 < _exact(self.step) <= width:
            msg = f"step = {self.step:g} lies outside (0, {width}]"
            raise ValueError(msg)
        for part in ("low", "step"):
            value = getattr(self, part)
            if self.name == "max_tokens" and not float(value).is_integer():
                msg = f"{part} = {value:g} is no whole number of tokens"
                raise ValueError(msg)

    @property
    def size(self) -> int:
        """How many values it has."""
        return int((_exact(self.high) - _exact(self.low)) / _exact(self.step)) + 1

    def values(self) -> tuple[float, ...]:
        """All of them, from the lowest.

        Examples:
            >>> Axis(name="temperature", low=0.1, high=0.5, step=0.1).values()
            (0.1, 0.2, 0.3, 0.4, 0.5)
        """
        low, step = _exact(self.low), _exact(self.step)
        return tuple(float(low + step * n) for n in range(self.size))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What tuning may do with one target.

    base: the arm whose parameters are varied; axes: the parameters; metric: what points are
    compared by; share: of the target's traffic that points may get, fraction; max_trials: points
    that get traffic at most; min_duration, max_duration: of one trial; delta: chance that any point
    is ever declared better without being so, shared by the trials; daily_budget_usd: what points
    may cost a UTC day, None = no limit.

    Raises:
        ValueError: naming the field, its value and the bound.
    """

    target: str
    base: str
    axes: tuple[Axis, ...]
    metric: str = "quality"
    share: float = 0.1
    max_trials: int = 12
    min_duration: timedelta = timedelta(hours=6)
    max_duration: timedelta = timedelta(hours=24)
    delta: float = 0.05
    daily_budget_usd: float | None = None

    def __post_init__(self) -> None:
        """Check ranges; what a trial is made of is checked by making one."""
        if self.metric not in METRICS:
            msg = (
                f"tuning compares points by {' or '.join(METRICS)}; the goal of {self.target} is "
                f"{self.metric}"
            )
            raise ValueError(msg)
        if not 0 < self.share <= MOST_SHARE:
            msg = f"share = {self.share} lies outside (0, {MOST_SHARE}]: as much is their control"
            raise ValueError(msg)
        if self.max_trials < 1:
            msg = f"max_trials = {self.max_trials} is below 1"
            raise ValueError(msg)
        points = math.prod(axis.size for axis in self.axes)
        if not self.axes or points > MOST_POINTS:
            steps = " x ".join(f"{axis.name} {axis.size}" for axis in self.axes) or "no parameter"
            msg = f"the grid has {points} points ({steps}), above {MOST_POINTS}: widen the steps"
            raise ValueError(msg)
        self.trial(self.base, f"{self.base}@")

    def points(self) -> Iterator[Point]:
        """Every point of the grid."""
        names = [axis.name for axis in self.axes]
        for values in itertools.product(*(axis.values() for axis in self.axes)):
            yield dict(zip(names, values, strict=True))

    def extremes(self) -> Sequence[Point]:
        """The lowest, the highest and the longest values: what can be these can be every point."""
        return [
            {axis.name: extreme(axis.values()) for axis in self.axes}
            for extreme in (min, max, lambda values: max(values, key=lambda each: len(_text(each))))
        ]

    def spelt(self, name: str) -> Point | None:
        """The values that an arm's name spells; None unless they lie inside today's bounds.

        Steps do not matter: a point asked for under other steps is still what it was.
        """
        start = f"{self.base}@"
        bounds = {axis.name: (axis.low, axis.high) for axis in self.axes}
        found: dict[str, float] = {}
        for part in name.removeprefix(start).split("+") if name.startswith(start) else ():
            parameter, _, text = part.partition(":")
            if parameter not in bounds or not _NUMBER.fullmatch(text):
                return None
            low, high = bounds[parameter]
            if not low <= float(text) <= high:
                return None
            found[parameter] = float(text)
        return found if found and arm_name(self.base, found) == name else None

    def placed(self, arm: Arm) -> Point | None:
        """Where an arm of the base's stands on the axes; None where that is unknown or outside."""
        config = arm.config
        known = {**config.params, **{name: getattr(config, name) for name in FIELDS}}
        found = {}
        for axis in self.axes:
            value = known.get(axis.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                return None
            if not axis.low <= value <= axis.high:
                return None
            found[axis.name] = float(value)
        return found

    def trial(self, in_force: str, arm: str) -> Design:
        """The experiment that compares a point with the arm in force: as much traffic for each."""
        return Design(
            name=f"tuning {arm.removeprefix(f'{self.base}@')}",
            target=self.target,
            arms=(in_force, arm),
            metric=self.metric,
            rule=Rule.TUNING,
            share=2 * self.share,
            min_duration=self.min_duration,
            max_duration=self.max_duration,
            delta=self.delta / self.max_trials,
            daily_budget_usd=self.daily_budget_usd,
            auto=True,
        )


def arm_name(base: str, point: Point) -> str:
    """The name that spells a point of a base arm, whatever the order of its parameters.

    Examples:
        >>> arm_name("mini", {"top_p": 0.9, "temperature": 0.30})
        'mini@temperature:0.3+top_p:0.9'
    """
    values = "+".join(f"{name}:{_text(value)}" for name, value in sorted(point.items()))
    return f"{base}@{values}"


def arm_at(base: Arm, point: Point) -> Arm:
    """The arm of a point: its base with those values, and nothing published about it.

    Raises:
        ValueError: a value that its parameter cannot have.
    """
    own = {name: value for name, value in point.items() if name in FIELDS}
    if "max_tokens" in own:
        own["max_tokens"] = int(own["max_tokens"])
    free = {
        name: int(value) if float(value).is_integer() else value
        for name, value in point.items()
        if name not in FIELDS
    }
    params = MappingProxyType({**base.config.params, **free})
    config = replace(base.config, params=params, **own)  # type: ignore[arg-type]
    return replace(base, name=arm_name(base.name, point), config=config, prior=None)


def _exact(value: float) -> Decimal:
    return Decimal(repr(float(value)))


def _text(value: float) -> str:
    return f"{_exact(value + 0.0).normalize():f}"
