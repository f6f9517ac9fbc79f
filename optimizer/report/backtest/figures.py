"""The figures of a backtest: what decisions would have saved, beside the yardsticks.

The law kept here: the best arm of each target in hindsight saves at least what the best single swap
saves, and that at least nothing, because changing nothing is always among the choices. Yardsticks
are picked with all of the period in hand, so they flatter themselves; decisions were made without.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.aggregates import N_CLUSTERS
from optimizer.policy import Policy
from optimizer.report.backtest.scenarios import UNCHANGED, Outlook, Scenarios
from optimizer.report.backtest.value import DECISIONS, arm_scenario
from optimizer.statistics.clusters import bucket_ratio
from optimizer.statistics.offpolicy_support import MEAN_WEIGHT_SE

FloatArray = npt.NDArray[np.float64]

RANDOMISED: Final = "randomised"
OBSERVED: Final = "as observed, not randomised"
CONTRADICTED: Final = "as observed: the propensities do not fit the log"
BEST: Final = "best arm of each target"
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the log shows by itself: requests, those of unknown cost, and the cost of the others."""

    requests: int
    unpriced: int
    usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetFigures:
    """One target; basis: how far its log allows comparisons."""

    target: str
    in_force: str
    spent: Spent
    decided: Outlook
    best: Outlook
    basis: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TotalFigures:
    """All targets together; swap: the one arm, for all that offer it, which saves most."""

    spent: Spent
    decided: Outlook
    swap: Outlook
    best: Outlook


def account(
    scenarios: Scenarios,
    *,
    offered: Mapping[str, Sequence[str]],
    in_force: Mapping[str, str],
    basis: Mapping[str, str],
    policies: Mapping[str, Policy],
) -> tuple[tuple[TargetFigures, ...], TotalFigures]:
    """The figures by target and of all.

    Args:
        scenarios: holds that of all decisions and one of every arm.
        offered: the arms of each target.
        in_force: the arm of each target at the start.
        basis: how far each target's log allows comparisons.
        policies: whose guardrails an arm must keep to count in hindsight.
    """
    targets = sorted(in_force)
    fit = {
        target: {
            arm: scenarios.outlook(arm, [(arm_scenario(arm), target)], [target])
            for arm in offered[target]
            if scenarios.keeps(
                arm_scenario(arm), arm_scenario(in_force[target]), target, policies[target]
            )
        }
        for target in targets
    }
    best = {target: _best(fit[target]) for target in targets}
    rows = tuple(
        TargetFigures(
            target=target,
            in_force=in_force[target],
            spent=_spent(scenarios.calls[scenarios.calls["target"] == target]),
            decided=scenarios.outlook("decisions", [(DECISIONS, target)], [target]),
            best=scenarios.outlook(best[target], _pairs({target: best[target]}), [target]),
            basis=basis.get(target, OBSERVED),
        )
        for target in targets
    )
    swap = _swap(offered, fit)
    swapped = {target: swap for target in targets if swap in offered[target]}
    return rows, TotalFigures(
        spent=_spent(scenarios.calls),
        decided=scenarios.outlook("decisions", [(DECISIONS, t) for t in targets], targets),
        swap=scenarios.outlook(swap, _pairs(swapped), targets),
        best=scenarios.outlook(BEST, _pairs(best), targets),
    )


def bases(propensities: pd.DataFrame) -> dict[str, str]:
    """How far each target's log allows comparisons.

    The weights 1/p of the requests an arm served add up to all requests, up to chance; where they
    are further off than four standard errors over sessions, which keep their arm, what the log
    calls propensities is something else.

    Args:
        propensities: target, arm, cluster, n, known, and the sum of 1/p: weight.

    References:
        Bottou et al. (2013), Counterfactual reasoning and learning systems, JMLR 14:3207 (a mean
        weight away from 1 betrays what is wrong with the log).
    """
    found = {}
    for target, rows in propensities.groupby("target"):
        sizes = _buckets(rows, "n")
        if rows["known"].sum() < rows["n"].sum():
            found[str(target)] = OBSERVED
        elif any(_misfits(own, sizes) for _, own in rows.groupby("arm")):
            found[str(target)] = CONTRADICTED
        else:
            found[str(target)] = RANDOMISED
    return found


def _misfits(rows: pd.DataFrame, sizes: FloatArray) -> bool:
    """Whether an arm's mean weight is too far from 1, by the spread over sessions."""
    mean = bucket_ratio(_buckets(rows, "weight"), sizes, min_clusters=2)
    error = math.sqrt(np.nan_to_num(mean.variance))  # one chance for all has no spread
    return abs(float(mean.value) - 1.0) > MEAN_WEIGHT_SE * error + _ROUNDING


def _buckets(rows: pd.DataFrame, column: str) -> FloatArray:
    """The column's sums by hash bucket of sessions, shape (N_CLUSTERS,)."""
    sums = np.bincount(rows["cluster"], rows[column], minlength=N_CLUSTERS)
    return sums.astype(np.float64)


def _spent(calls: pd.DataFrame) -> Spent:
    requests, priced = int(calls["n"].sum()), int(calls["n_cost"].sum())
    return Spent(requests=requests, unpriced=requests - priced, usd=float(calls["spend_usd"].sum()))


def _pairs(arms: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(arm_scenario(arm), target) for target, arm in arms.items() if arm != UNCHANGED]


def _best(fit: Mapping[str, Outlook]) -> str:
    """The arm that saves most, if any saves; ties by name."""
    saving = [(each.saving.value, name) for name, each in fit.items() if each.saving.value > 0]
    return max(saving, default=(0.0, UNCHANGED))[1]


def _swap(offered: Mapping[str, Sequence[str]], fit: Mapping[str, Mapping[str, Outlook]]) -> str:
    """The arm that saves most if every target that offers it changes to it, if that is allowed."""
    found = [(0.0, UNCHANGED)]
    for name in sorted({arm for arms in offered.values() for arm in arms}):
        offering = [target for target, arms in offered.items() if name in arms]
        if all(name in fit[target] for target in offering):
            worth = math.fsum(fit[target][name].saving.value for target in offering)
            if worth > 0:
                found.append((worth, name))
    return max(found)[1]
