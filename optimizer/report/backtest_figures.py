"""The figures of a backtest: what decisions would have saved, beside the yardsticks.

The law kept here: the best arm of each target in hindsight saves at least what the best single swap
saves, and that at least nothing, because changing nothing is always among the choices. Yardsticks
are picked with all of the period in hand, so they flatter themselves; decisions were made without.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from optimizer.policy import Policy
from optimizer.report.backtest_scenarios import UNCHANGED, Outlook, Scenarios
from optimizer.report.backtest_value import DECISIONS, arm_scenario

RANDOMISED: Final = "randomised"
OBSERVED: Final = "as observed, not randomised"
CONTRADICTED: Final = "as observed: the propensities do not fit the log"
BEST: Final = "best arm of each target"
_SIGMAS: Final = 4.0


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
    are further off than four standard errors, what the log calls propensities is something else.

    Args:
        propensities: target, arm, n, known, and the sums of 1/p and of its square: weight, squares.

    References:
        Statistical specification, off-policy gate (LOW_OVERLAP).
    """
    found = {}
    for target, rows in propensities.groupby("target"):
        total = float(rows["n"].sum())
        mean = rows["weight"] / total
        error = ((rows["squares"] / total - mean**2).clip(lower=0.0) / total) ** 0.5
        if rows["known"].sum() < total:
            found[str(target)] = OBSERVED
        elif bool(((mean - 1.0).abs() > _SIGMAS * error + 1e-9).any()):
            found[str(target)] = CONTRADICTED
        else:
            found[str(target)] = RANDOMISED
    return found


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
