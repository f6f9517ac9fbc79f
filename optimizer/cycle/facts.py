"""The facts of a proposal that policies are asked about.

A fact that is not known is None and no number: a policy that needs it cannot be decided.
"""

import math
from collections.abc import Mapping, Sequence

from optimizer.cycle.arbitrate import gate, known_hours
from optimizer.cycle.blast_radius import largest_share, risk_of
from optimizer.evidence import Proposal, ProposalId, Scene
from optimizer.policy import EXPECTED, PREDICTED, Fact, Facts
from optimizer.statistics import arms
from optimizer.statistics.seasonal import DAY_HOURS
from optimizer.targets import Arm


def facts_of(scene: Scene, proposals: Sequence[Proposal]) -> Mapping[ProposalId, Facts]:
    """The facts of each proposal that can be validated at all; of the others nobody is asked."""
    asked = [proposal for proposal in proposals if gate(scene, proposal) is None]
    hours = known_hours(scene, {proposal.target for proposal in asked})
    rates = arms.requests_per_hour(hours, now_s=int(scene.now.timestamp()))
    return {one.id: _facts(scene, one, rates.get(one.target)) for one in asked}


def _facts(scene: Scene, proposal: Proposal, requests_per_hour: float | None) -> Facts:
    target, policy = scene.targets[proposal.target], scene.policies[proposal.target]
    in_force = scene.baselines.get(proposal.target, target.baseline)
    predicted = {each.metric: each.canary for each in proposal.estimates}
    today = {each.metric: each.control for each in proposal.estimates}
    requests = None if requests_per_hour is None else DAY_HOURS * requests_per_hour
    risk = risk_of(scene, proposal, requests_per_hour)
    found: dict[str, Fact] = {
        "now": scene.now,
        "strategy": proposal.strategy,
        "urgent": proposal.urgent,
        "exploratory": proposal.exploratory,
        "target.name": target.name,
        "target.task_type": target.task_type.value,
        "target.labels": target.labels,
        **_arm("candidate", target.arm(proposal.candidate)),
        **_arm("baseline", next((arm for arm in target.arms if arm.name == in_force), None)),
        **{f"expected.{name}": getattr(proposal.expected, name) for name in EXPECTED},
        **{f"predicted.{name}": predicted.get(name) for name in PREDICTED},
        **{f"baseline.{name}": today.get(name) for name in PREDICTED},
        "requests_per_day": requests,
        "daily_cost_usd": _product(requests, predicted.get("cost_usd")),
        "baseline.daily_cost_usd": _product(requests, today.get("cost_usd")),
        "largest_share": largest_share(policy, exploratory=proposal.exploratory),
        "daily_requests_at_risk": risk.daily_requests,
        "daily_usd_at_risk": risk.daily_usd,
    }
    return {name: _known(value) for name, value in found.items()}


def _arm(role: str, arm: Arm | None) -> dict[str, Fact]:
    if arm is None:
        return dict.fromkeys(f"{role}.{part}" for part in ("name", "model", "provider", "regions"))
    return {
        f"{role}.name": arm.name,
        f"{role}.model": arm.config.model,
        f"{role}.provider": arm.config.provider,
        f"{role}.regions": None if arm.offers is None else arm.offers.regions,
    }


def _product(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one * other


def _known(value: Fact) -> Fact:
    """The value; a number that is none, and a list that names nothing, are unknown."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None if value == () else value
    return float(value) if math.isfinite(value) else None
