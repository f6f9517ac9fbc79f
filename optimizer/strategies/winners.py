"""What experiments found: an arm declared the best by traffic of its own is proposed for a rollout.

One class serves every kind of experiment, A/B tests, bandits and trials of tuning, under a name
each. An experiment declares, and promotes nothing: its winner passes the canary like every other
arm, on data that did not choose it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pandas as pd

from optimizer.evidence import (
    Considered,
    Estimate,
    Impact,
    Insight,
    Proposal,
    Rejected,
    Scene,
    Winner,
    proposal_id,
)
from optimizer.metrics import DAY_S, HOUR_S
from optimizer.policy import Guardrail
from optimizer.statistics import arms
from optimizer.statistics.arms import Row
from optimizer.statistics.outlook import known, outlook, predictions

SLICE: Final = "experiment"
DAY_HOURS: Final = DAY_S // HOUR_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Winners:
    """Proposes the newest winner of each target among experiments of one rule.

    name: of the strategy; rule: how the experiments it speaks for split their traffic; priority: of
    the proposals, above those that rest on predictions; min_requests: rows from which an arm's
    traffic describes it.
    """

    name: str
    rule: str
    priority: int = 60
    min_requests: int = 100

    def __call__(self, scene: Scene, insights: Sequence[Insight]) -> tuple[Proposal, ...]:
        """The proposals, by target."""
        considered = self.consider(scene, insights)
        return tuple(each.proposal for each in considered if each.proposal is not None)

    def consider(self, scene: Scene, _insights: Sequence[Insight]) -> tuple[Considered, ...]:
        """Every fresh winner, with its proposal or why there is none, by target."""
        newest = {winner.target: winner for winner in scene.winners}
        return tuple(
            self._considered(scene, winner)
            for _, winner in sorted(newest.items())
            if winner.rule == self.rule and _is_idle(scene, winner.target)
        )

    def _considered(self, scene: Scene, winner: Winner) -> Considered:
        against = _against(scene, winner)
        if against:
            rejected = Rejected(arm=winner.arm, reason="no_longer", detail=against)
            return Considered(strategy=self.name, target=winner.target, rejected=(rejected,))
        return Considered(
            strategy=self.name, target=winner.target, proposal=self._proposal(scene, winner)
        )

    def _proposal(self, scene: Scene, winner: Winner) -> Proposal:
        row, base = self._rows(scene, winner)
        rates = arms.requests_per_hour(scene.hours, now_s=int(scene.now.timestamp()))
        rate = rates.get(winner.target, math.nan)
        proven = {each.metric for each in winner.estimates}
        predicted = tuple(
            Estimate(**values)
            for values in predictions(row, base)
            if values["metric"] not in proven
        )
        quality = next((each for each in winner.estimates if each.metric == "quality"), None)
        return Proposal(
            id=proposal_id(self.name, winner.target, winner.arm, scene.now),
            strategy=self.name,
            target=winner.target,
            candidate=winner.arm,
            rationale=f"experiment {winner.experiment}: {winner.reason}",
            expected=Impact(
                cost_reduction_pct=known(100 * (1 - row.cost_ratio)),
                quality_delta=known(row.quality_gap) if quality is None else quality.effect,
                quality_delta_lower=None if quality is None else quality.lower,
                quality_delta_upper=None if quality is None else quality.upper,
                latency_delta_pct=known(100 * math.expm1(row.log_latency_ratio)),
                daily_saving_usd=known(
                    DAY_HOURS * rate * row.base_cost_usd * (1.0 - row.cost_ratio)
                ),
                n=int(row.n),
                method=f"measured side by side in experiment {winner.experiment}",
            ),
            estimates=(*winner.estimates, *predicted),
            priority=self.priority,
            exploratory=False,
        )

    def _rows(self, scene: Scene, winner: Winner) -> tuple[Row, Row]:
        """What the experiment's own hours say of the winner and of the baseline."""
        hours = _own_hours(scene.hours, winner)
        policy, target = scene.policies[winner.target], scene.targets[winner.target]
        cut = int((scene.now - policy.label_maturity).timestamp())
        book = outlook(
            {winner.target: target},
            scene.baselines,
            hours,
            arms.mature(hours, {winner.target: cut}),
            min_requests=self.min_requests,
            min_labels=self.min_requests,
        )
        found = {row.arm: row for row in arms.rows(book)}
        return found[winner.arm], found[winner.baseline]


def _own_hours(hours: pd.DataFrame, winner: Winner) -> pd.DataFrame:
    start = hours["window_start_s"]
    return hours[
        (hours["target"] == winner.target)
        & (hours["slice"] == SLICE)
        & (start >= winner.since.timestamp())
        & (start + HOUR_S <= winner.ended_at.timestamp())
    ]


def _is_idle(scene: Scene, target: str) -> bool:
    return (
        target in scene.targets
        and target in scene.policies
        and target not in scene.in_flight
        and target not in scene.experiments
        and target not in scene.paused
    )


def _against(scene: Scene, winner: Winner) -> str:
    """Why the winner is not proposed (any more); empty while it is."""
    target = scene.targets[winner.target]
    in_force = scene.baselines.get(winner.target, target.baseline)
    if in_force != winner.baseline:
        return f"{in_force} is in force now; it was compared with {winner.baseline}"
    arm = next((arm for arm in target.arms if arm.name == winner.arm), None)
    if arm is None or not arm.enabled:
        return f"arm {winner.arm} is unknown or disabled"
    tried = _tried(scene, winner)
    if tried is not None:
        return f"it was tried since; the rollout ended {tried.isoformat()}"
    return broken_guardrail(scene.policies[winner.target].guardrails, winner.estimates)


def broken_guardrail(guardrails: Sequence[Guardrail], estimates: Sequence[Estimate]) -> str:
    """Which guardrail the experiment itself proved to be broken; empty where it proved none."""
    limits = {guardrail.metric: guardrail for guardrail in guardrails}
    for found in estimates:
        limit, control = limits.get(found.metric), found.control
        if limit is None or control is None or found.lower is None or found.upper is None:
            continue
        over = min(limit.overrun(end, control) for end in (found.lower, found.upper))
        if over > 0:
            return f"{found.metric} is beyond its margin {limit.margin:g} by at least {over:.4f}"
    return ""


def _tried(scene: Scene, winner: Winner) -> datetime | None:
    """When a rollout of the winner ended after the experiment."""
    ends = [
        past.ended_at
        for past in scene.past
        if (past.target, past.arm) == (winner.target, winner.arm)
        and past.ended_at >= winner.ended_at
    ]
    return max(ends, default=None)
