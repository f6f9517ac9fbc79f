"""Which arms of an experiment provably fail more often than its control arm.

Looked at by every run, every five minutes. Units that make one request each are counted exactly,
window by window; otherwise the variance is that of whole units. The chance that a harmless arm is
ever taken out is at most alpha, shared by the arms.
"""

import numpy as np
import pandas as pd

from optimizer.experiment.batches import Batches, batches
from optimizer.experiment.life import Experiment
from optimizer.metrics import ceil_s
from optimizer.statistics.declaring_means import leads
from optimizer.statistics.evalues import Side, exact_increments, log_evalue


def harmed(experiment: Experiment, grains: pd.DataFrame, *, alpha: float) -> dict[str, str]:
    """The arms that do harm and why, of those still compared; none without a control arm.

    Args:
        experiment: one that has been in force.
        grains: aggregates in windows of five minutes, any slices.
        alpha: chance that one of the arms is taken out without being worse, in (0, 1).

    Raises:
        DataError: hash buckets that cannot be read.
    """
    since, control = experiment.running_since, experiment.baseline
    others = [arm for arm in experiment.alive if arm != control]
    if since is None or not others or control not in experiment.design.arms:
        return {}
    arms = [control, *others]
    found = batches(grains, experiment.target, arms, from_s=ceil_s(since))
    worse = _exact(found, alpha) if found.single else _clustered(found, alpha)
    n, failed = found.sums["n"].sum(axis=0), found.sums["n_failed"].sum(axis=0)
    return {
        arm: f"{arm} fails {failed[place]} of {n[place]} requests, {control} {failed[0]} of {n[0]}"
        for place, arm in enumerate(arms)
        if place > 0 and worse[place - 1]
    }


def _exact(found: Batches, alpha: float) -> list[bool]:
    n, failed = found.sums["n"], found.sums["n_failed"]
    added = exact_increments(failed[:, 1:], n[:, 1:], failed[:, :1], n[:, :1], side=Side.HIGHER)
    reached = log_evalue(added.sum(axis=0)) >= np.log((n.shape[1] - 1) / alpha)
    return [bool(each) for each in reached]


def _clustered(found: Batches, alpha: float) -> list[bool]:
    failed = found.buckets["n_failed"]
    totals = found.sums["n_failed"]
    # The square of 0 and 1 is itself.
    proven = leads(
        failed, found.buckets["n"], totals, rivals=max(failed.shape[1] - 1, 1), delta=alpha
    )
    return [bool(limit > 0) for limit in proven.lower[1:, 0]]
