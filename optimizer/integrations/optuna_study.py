"""Where tuning looks next, by Optuna: a study in memory, for one question.

Importing Optuna takes a third of a second, so this module is imported when a question is asked.

References:
    Bergstra, Bardenet, Bengio and Kegl (2011). Algorithms for hyper-parameter optimization. NeurIPS
    24: the tree-structured Parzen estimator.
"""

from collections.abc import Sequence
from typing import Final

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from optimizer.experiment.grid import Axis, Point
from optimizer.experiment.tuning import Told

STARTUP: Final = 4
"""Trials before the estimator is asked, the base among them; a trial takes hours, and few are
made."""


def suggest(axes: Sequence[Axis], told: Sequence[Told], seed: int) -> Point:
    """A point inside the bounds; the same arguments give the same point.

    Of a trial whose value is unknown only the place is told; one that broke a limit is worse than
    every one that broke none.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space: dict[str, BaseDistribution] = {
        axis.name: FloatDistribution(axis.low, axis.high) for axis in axes
    }
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(n_startup_trials=STARTUP, seed=seed),
        direction="maximize",
    )
    for each in told:
        study.add_trial(_frozen(each, space))
    return dict(study.ask(space).params)


def _frozen(each: Told, space: dict[str, BaseDistribution]) -> FrozenTrial:
    return create_trial(
        state=TrialState.PRUNED if each.value is None else TrialState.COMPLETE,
        value=each.value,
        params=dict(each.point),
        distributions=space,
        constraints=dict(each.overruns),
    )
