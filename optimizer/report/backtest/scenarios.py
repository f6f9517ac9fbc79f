"""Scenarios over several targets: their saving, their change in quality, and what is unknown."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import pandas as pd

from optimizer.metrics import METRICS, Direction
from optimizer.policy import Guardrail, Policy
from optimizer.report.backtest.value import (
    NAN,
    NOTHING,
    UNKNOWN,
    Amount,
    Costs,
    Differences,
    amount,
)

QUALITY: Final = "quality"
UNCHANGED: Final = "no change"

Pairs = Collection[tuple[str, str]]
"""(scenario, target): which scenario each target follows; a target without one stays as it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a scenario is worth.

    saving: USD against what was spent; saving_share: of what was spent; quality: mean score of a
    request against what was served; elsewhere: requests sent to another arm, unknown_requests of
    them without a value, which cost unknown_usd as they were served; quality_known: fraction of
    the valued ones whose change in quality is known, nan where there are none.
    """

    name: str
    saving: Amount
    saving_share: Amount
    quality: Amount
    elsewhere: float
    unknown_requests: float
    unknown_usd: float
    quality_known: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenarios:
    """Every scenario by target, valued.

    calls: target, cell_s, n, n_cost, spend_usd, all calls of the log; others: differences by metric
    (quality is one of them).
    """

    calls: pd.DataFrame
    costs: Costs
    others: Mapping[str, Differences]

    def outlook(self, name: str, pairs: Pairs, targets: Collection[str]) -> Outlook:
        """What the pairs are worth, against all that those targets spent."""
        own = self.calls[self.calls["target"].isin(list(targets))]
        spent, requests = float(own["spend_usd"].sum()), float(own["n"].sum())
        hours = chosen(self.costs.hours, pairs)
        unknown = hours[~hours["known"]]
        saving = self._saving(hours, pairs)
        quality, known = self._quality(hours, pairs, requests)
        return Outlook(
            name=name,
            saving=saving,
            saving_share=saving.scaled(1.0 / spent) if spent > 0 else UNKNOWN,
            quality=quality,
            elsewhere=float((hours["share"] * hours["requests"]).sum()),
            unknown_requests=float((unknown["share"] * unknown["requests"]).sum()),
            unknown_usd=float((unknown["share"] * unknown["spend_usd"]).sum()),
            quality_known=known,
        )

    def keeps(self, scenario: str, reference: str, target: str, policy: Policy) -> bool:
        """Whether a scenario keeps every guardrail of the target by its point estimates.

        Harm is counted from the reference, the scenario in which the arm in force serves
        everything: what was served may hold worse arms, which must not make others look harmless.
        What is unknown is not kept.
        """
        hours = chosen(self.costs.hours, [(scenario, target)])
        return bool(hours["known"].any()) and all(
            self._kept(scenario, reference, target, rail) for rail in policy.guardrails
        )

    def _saving(self, hours: pd.DataFrame, pairs: Pairs) -> Amount:
        if len(hours) and not hours["known"].any():
            return UNKNOWN
        return amount(float(hours["saving_usd"].sum()), chosen(self.costs.spread, pairs))

    def _quality(self, hours: pd.DataFrame, pairs: Pairs, requests: float) -> tuple[Amount, float]:
        """The change in quality of a request, and of which fraction of requests it is known."""
        if not len(hours):
            return NOTHING, NAN
        days = chosen(self.others[QUALITY].days, pairs)
        moved = float(days["redirected"].sum())
        known = float(days["redirected"][days["known"]].sum()) / moved if moved > 0 else NAN
        if not hours["known"].any() or known == 0.0:
            return UNKNOWN, known
        spread = chosen(self.others[QUALITY].spread, pairs)
        return amount(float(days["change"].sum()), spread).scaled(1.0 / requests), known

    def _kept(self, scenario: str, reference: str, target: str, rail: Guardrail) -> bool:
        change = self._change(scenario, target, rail) - self._change(reference, target, rail)
        harm = change if METRICS[rail.metric].direction is Direction.LOWER else -change
        levels = self.others[rail.metric].levels
        return harm <= rail.margin * (levels.get(target, NAN) if rail.relative else 1.0)

    def _change(self, scenario: str, target: str, rail: Guardrail) -> float:
        """Mean change of the metric in a request; 0 where nothing moves, nan where unknown."""
        days = chosen(self.others[rail.metric].days, [(scenario, target)])
        if not len(days):
            return 0.0
        known = days[days["known"]]
        return float(known["change"].sum() / known["redirected"].sum()) if len(known) else NAN


def chosen(frame: pd.DataFrame, pairs: Pairs) -> pd.DataFrame:
    """The rows of those scenarios and targets."""
    wanted = pd.DataFrame(sorted(pairs), columns=["scenario", "target"], dtype="str")
    return frame.merge(wanted, on=["scenario", "target"], how="inner")
