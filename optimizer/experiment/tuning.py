"""What tuning makes of the trials so far, and which point it asks for next.

A trial is an experiment of one point against the arm in force. Everything is computed anew from the
ledger's rows, so that a late or repeated run asks for the same. What is told of a trial is its
effect against the arm that served beside it, so that drift cancels; an effect that nobody knows is
told as unknown, and proven harm as a limit that was broken.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from types import MappingProxyType

from optimizer.evidence import Estimate
from optimizer.experiment.design import Rule
from optimizer.experiment.grid import Axis, Point, Tuning, arm_at, arm_name
from optimizer.experiment.life import Experiment
from optimizer.metrics import METRICS
from optimizer.policy import Guardrail
from optimizer.targets import Arm

HARM = "harm"
"""What a point broke that was taken out because it provably fails more often."""
_SEED_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One trial as it is told.

    value: by how much the point is better than the base, in the metric's unit, None = unknown;
    overruns: how far it went beyond each guardrail's margin, > 0 where it was broken.
    """

    point: Point
    value: float | None
    overruns: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


Suggest = Callable[[Sequence[Axis], Sequence[Told], int], Point]
"""Where to look next inside the axes' bounds, by what was told, with that seed: the same arguments
give the same point."""


def begun(
    tuning: Tuning, rows: Sequence[Experiment], today: Mapping[str, Mapping[str, object]]
) -> list[Experiment]:
    """The trials that began and still count, oldest first, in whatever order the rows come.

    Args:
        tuning: of the target.
        rows: experiments of the target.
        today: configurations of the target's arms; a trial of an arm that changed says nothing.
    """
    counted = [
        row
        for row in rows
        if row.design.rule is Rule.TUNING
        and row.started_at is not None
        and row.design.metric == tuning.metric
        and all(today.get(arm) == dict(row.configs.get(arm, {})) for arm in row.design.arms)
    ]
    return sorted(counted, key=lambda row: (row.started_at, row.id))


def told(
    tuning: Tuning,
    base: Arm,
    trials: Sequence[Experiment],
    guardrails: Sequence[Guardrail],
) -> tuple[Told, ...]:
    """What is told of trials, the base first: it is as good as itself.

    An effect is against the arm in force then. Where that was a promoted point, what that point had
    gained is added, so that all values are against the base.
    """
    origin = tuning.placed(base)
    found = [] if origin is None else [Told(point=origin, value=0.0)]
    gained: dict[str, float | None] = {base.name: 0.0}
    for trial in trials:
        arm = trial.design.arms[-1]
        own, before = _gain(tuning, trial), gained.get(trial.baseline)
        value = None if own is None or before is None else before + own
        gained[arm] = value
        spelt = tuning.spelt(arm)
        point = None if spelt is None else tuning.placed(arm_at(base, spelt))
        if point is not None:
            overruns = _overruns(trial, guardrails)
            found.append(Told(point=point, value=value, overruns=overruns))
    return tuple(found)


def next_arm(
    tuning: Tuning,
    base: Arm,
    trials: Sequence[Experiment],
    guardrails: Sequence[Guardrail],
    suggest: Suggest,
) -> str | None:
    """The arm to try next: the untried point nearest to what is suggested; None = no more.

    Args:
        tuning: of the target.
        base: the arm that is varied.
        trials: those that began, as :func:`begun` gives them.
        guardrails: of the target's policy.
        suggest: asked once; it may name any point inside the bounds, tried or not.
    """
    if len(trials) >= tuning.max_trials:
        return None
    known = told(tuning, base, trials, guardrails)
    tried = [each.point for each in known]
    left = [point for point in tuning.points() if point not in tried]
    if not left:
        return None
    wanted = suggest(tuning.axes, known, seed_of(tuning, len(trials)))
    width = {axis.name: axis.high - axis.low for axis in tuning.axes}

    def far(point: Point) -> float:
        return sum(((point[name] - wanted[name]) / width[name]) ** 2 for name in width)

    return arm_name(base.name, min(left, key=far))


def seed_of(tuning: Tuning, trials: int) -> int:
    """The seed of one question: that of target, base and bounds, and another after each trial."""
    text = f"{tuning.target}|{tuning.base}|{tuning.axes}|{trials}"
    return int.from_bytes(sha256(text.encode()).digest()[:_SEED_BYTES], "big")


def _gain(tuning: Tuning, trial: Experiment) -> float | None:
    """By how much the point was better than the arm beside it; None = not known well enough."""
    found = _estimate(trial, tuning.metric)
    if trial.dropped or found is None or found.effect is None or found.lower is None:
        return None
    return -METRICS[tuning.metric].direction.harm_sign * found.effect


def _overruns(trial: Experiment, guardrails: Sequence[Guardrail]) -> Mapping[str, float]:
    if trial.dropped:
        return {HARM: 1.0}
    found = {guardrail: _estimate(trial, guardrail.metric) for guardrail in guardrails}
    return {
        guardrail.metric: guardrail.overrun(estimate.effect, estimate.control)
        for guardrail, estimate in found.items()
        if estimate is not None and estimate.effect is not None and estimate.control is not None
    }


def _estimate(trial: Experiment, metric: str) -> Estimate | None:
    return next((each for each in trial.estimates if each.metric == metric), None)
