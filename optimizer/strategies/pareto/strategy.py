"""From judged arms and their plans to proposals, each with the arms that were left and why."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pandas as pd
from scipy import special

from optimizer.evidence import (
    Considered,
    Estimate,
    Impact,
    Insight,
    Proposal,
    Rejected,
    Scene,
    proposal_id,
)
from optimizer.statistics import arms, ramp
from optimizer.statistics.arms import Row
from optimizer.statistics.multiplicity import given_selected
from optimizer.statistics.outlook import Z_95, known, predictions
from optimizer.statistics.seasonal import DAY_HOURS
from optimizer.strategies.pareto.feasible import judged, rests_on_prior
from optimizer.strategies.pareto.plan import plans
from optimizer.strategies.pareto.settings import NAME, Settings

DETAILS: Final[Mapping[str, str]] = {
    "disabled": "disabled in the configuration",
    "recently_rolled_back": "rolled back or cancelled within the last {r.retry_after}",
    "no_evidence": "cost from {r.cost_from}, quality from {r.quality_from}: {r.n} requests, "
    "{r.n_quality} labels and no prior that compares with the baseline's",
    "margin_spent": "margin spent; re-anchoring needs approval: earlier promotions left "
    "{r.margin:.3g} of the quality margin",
    "safety": "predicted failure share {r.failure_expected:.3g}, p95 {r.p95_expected_ms:.4g} ms, "
    "quality {r.quality_expected:.3g} break a safety limit",
    "quality": "quality {r.quality_gap:+.4f} against the baseline ({r.quality_from}), margin "
    "{r.margin:.4g}: kept with probability {r.p_quality:.3f}; {more}",
    "latency": "share beyond the baseline's p95 {r.slow_gap:+.4f}, margin {r.slow_margin:.4g}: "
    "kept with probability {r.p_latency:.3f}",
    "failures": "failure share {r.failure_rate:.4g}, margin {r.failure_margin:.4g}: kept with "
    "probability {r.p_failures:.3f}",
    "not_cheaper": "costs {r.cost_ratio:.3f} of the baseline ({r.cost_from}), a saving of "
    "{r.min_gain:.0%} holds with probability {r.p_saving:.3f}",
    "dominated": "no better than {r.dominator} in quality, cost and latency",
    "costlier": "feasible, at {r.cost_ratio:.3f} of the baseline's cost",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pareto:
    """Proposes for each idle target the cheapest arm that keeps quality, latency and failures."""

    settings: Settings = field(default_factory=Settings)

    def __call__(self, scene: Scene, insights: Sequence[Insight]) -> tuple[Proposal, ...]:
        """The proposals, by target."""
        book = judged(scene, self.settings)
        wanted = book["target"][book["chosen"].to_numpy(dtype=np.bool_)]
        considered = self._concluded(scene, book[book["target"].isin(wanted)], insights)
        return tuple(each.proposal for each in considered if each.proposal is not None)

    def consider(self, scene: Scene, insights: Sequence[Insight]) -> tuple[Considered, ...]:
        """What was made of every idle target, refusals included, by target."""
        return self._concluded(scene, judged(scene, self.settings), insights)

    def _concluded(
        self, scene: Scene, book: pd.DataFrame, insights: Sequence[Insight]
    ) -> tuple[Considered, ...]:
        if book.empty:
            return ()
        hours = scene.hours[scene.hours["target"].isin(book["target"])]
        rates = arms.requests_per_hour(hours, now_s=int(scene.now.timestamp()))
        planned = plans(scene, book, rates, self.settings)
        notes: dict[str, list[str]] = {}
        for insight in insights:
            notes.setdefault(insight.target, []).append(f"{insight.kind}: {insight.title}")
        considered = []
        for name, rows in arms.rows_by_target(book):
            rejected = tuple(
                _rejected(row, self.settings) for row in rows if not (row.chosen or row.is_base)
            )
            plan, proposal = planned.get(name), None
            if isinstance(plan, Rejected):
                rejected = (plan, *rejected)
            elif plan is not None:
                proposal = self._proposal(
                    scene, rows, plan, rates[name], rejected, tuple(notes.get(name, ()))
                )
            considered.append(
                Considered(strategy=NAME, target=name, proposal=proposal, rejected=rejected)
            )
        return tuple(considered)

    def _proposal(  # noqa: PLR0917 - a proposal rests on this many things
        self,
        scene: Scene,
        rows: Sequence[Row],
        plan: ramp.Reach,
        rate: float,
        rejected: tuple[Rejected, ...],
        notes: tuple[str, ...],
    ) -> Proposal:
        base = next(row for row in rows if row.is_base)
        row = next(row for row in rows if row.chosen)
        exploratory = rests_on_prior(row)
        return Proposal(
            id=proposal_id(NAME, row.target, row.arm, scene.now),
            strategy=NAME,
            target=row.target,
            candidate=row.arm,
            rationale=_rationale(row, base, plan),
            expected=_impact(row, rate, exploratory=exploratory),
            estimates=tuple(Estimate(**values) for values in predictions(row, base)),
            rejected=rejected,
            insights=notes,
            priority=self.settings.priority,
            exploratory=exploratory,
            planned_hours=plan.hours,
            p_value=None if exploratory else _p_value(row, self.settings),
        )


def _rejected(row: Row, settings: Settings) -> Rejected:
    more = _more_labels(row, settings.delta) if row.reason == "quality" else ""
    return Rejected(
        arm=row.arm, reason=row.reason, detail=DETAILS[row.reason].format(r=row, more=more)
    )


def _more_labels(row: Row, delta: float) -> str:
    """How many more labels would show that the margin is kept, if the estimate is the truth."""
    gap = row.quality_gap + row.margin
    if not gap > 0:
        return "more labels would not change that"
    if row.quality_from != "own":
        return "labels of its own would tell"
    needed = (-special.ndtri(delta) * math.sqrt(row.gap_variance) / gap) ** 2 - 1.0
    return f"about {math.ceil(max(0.0, row.n_quality * needed))} more labels would tell"


def _rationale(row: Row, base: Row, plan: ramp.Reach) -> str:
    quality = (
        f"quality {row.quality_gap:+.4f} ({row.quality_from}) within a margin of {row.margin:.4g} "
        f"with probability {row.p_quality:.3f}"
        if row.guards_quality
        else "no quality guardrail"
    )
    return (
        f"{row.arm} is the cheapest feasible arm of {row.target}: {row.cost_ratio:.3f} of the cost "
        f"of {base.arm} ({row.cost_from}), {quality}; the rollout takes about {plan.hours:.0f} h, "
        f"decided by {plan.metric}"
    )


def _p_value(row: Row, settings: Settings) -> float:
    """The largest p-value of the claims that rest on traffic of the arm's own.

    A union of nulls: the proposal is false if one of its claims is. Each claim had to pass a bar of
    its own to be made at all.

    References:
        Berger (1982). Multiparameter hypothesis testing and acceptance sampling. Technometrics 24.
    """
    claims = [(row.p_latency, settings.delta), (row.p_saving, 1.0 - settings.saving_chance)]
    if row.guards_quality:
        claims.append((row.p_quality, settings.delta))
    return max(
        given_selected(1.0 - chance, bar) for chance, bar in claims if not math.isnan(chance)
    )


def _impact(row: Row, rate: float, *, exploratory: bool) -> Impact:
    half = Z_95 * math.sqrt(row.log_ratio_variance) if row.cost_from == "own" else math.nan
    spread = Z_95 * math.sqrt(row.gap_variance)
    daily = rate * DAY_HOURS * row.base_cost_usd * (1.0 - row.cost_ratio)
    return Impact(
        cost_reduction_pct=known(100 * (1 - row.cost_ratio)),
        cost_reduction_lower_pct=known(100 * (1 - row.cost_ratio * math.exp(half))),
        cost_reduction_upper_pct=known(100 * (1 - row.cost_ratio * math.exp(-half))),
        quality_delta=known(row.quality_gap),
        quality_delta_lower=known(row.quality_gap - spread),
        quality_delta_upper=known(row.quality_gap + spread),
        latency_delta_pct=known(100 * math.expm1(row.log_latency_ratio)),
        daily_saving_usd=known(daily),
        confidence=known(row.p_cheaper) if row.cost_from == "own" else None,
        n=int(row.n),
        method=f"cost from {row.cost_from}, quality from {row.quality_from}"
        + (", exploratory" if exploratory else ""),
    )
