"""Trials of tuning as rows, without a ledger; what they found is given."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from optimizer.evidence import Estimate
from optimizer.experiment.grid import Axis, Tuning, arm_at, arm_name
from optimizer.experiment.life import Experiment, ExperimentState, draft, move
from optimizer.targets import Arm, ModelConfig
from rollout_scene import START, TARGET

BASE = Arm(name="large", config=ModelConfig(model="large-1", temperature=0.7, top_p=1.0))
TEMPERATURE = Axis(name="temperature", low=0.1, high=0.9, step=0.2)
TOP_P = Axis(name="top_p", low=0.5, high=1.0, step=0.25)


def tuning(**changes: Any) -> Tuning:  # noqa: ANN401 - fields of Tuning
    return replace(Tuning(target=TARGET, base="large", axes=(TEMPERATURE,)), **changes)


def named(temperature: float) -> str:
    return arm_name("large", {"temperature": temperature})


def quality(effect: float | None, *, lower: float | None = -1.0, control: float = 0.7) -> Estimate:
    return Estimate(
        metric="quality", unit="score", effect=effect, lower=lower, upper=1.0, control=control
    )


def failures(effect: float) -> Estimate:
    return Estimate(metric="failure_rate", unit="share", effect=effect, control=0.01)


def configs(*arms: str, asked: Tuning | None = None, base: Arm = BASE) -> dict[str, Any]:
    """The arms' configurations, as they are published."""
    asked = asked or tuning()
    points = {arm: asked.spelt(arm) for arm in arms}
    return {
        arm: (base if point is None else arm_at(base, point)).config.as_dict()
        for arm, point in points.items()
    }


def trial(
    temperature: float,
    *estimates: Estimate,
    number: int = 0,
    baseline: str = "large",
    asked: Tuning | None = None,
    **changes: Any,  # noqa: ANN401 - fields of Experiment
) -> Experiment:
    """A trial that began ``number`` days after the first and has ended."""
    asked = asked or tuning()
    arm, start = named(temperature), START + timedelta(days=number)
    made = draft(asked.trial(baseline, arm), start, actor="optimize")
    began = move(
        made,
        ExperimentState.RUNNING,
        start,
        baseline=baseline,
        started_at=start,
        running_since=start,
        evidence_from=start,
        shares=(0.5, 0.5),
        configs=configs(baseline, arm, asked=asked),
    )
    end = move(began, ExperimentState.COMPLETED, start + timedelta(hours=23), estimates=estimates)
    return replace(end, **changes)


def today(rows: Sequence[Experiment], **more: Any) -> dict[str, Any]:  # noqa: ANN401 - of configs
    """Configurations of every arm that the rows name."""
    return configs("large", *(arm for row in rows for arm in row.design.arms), **more)
