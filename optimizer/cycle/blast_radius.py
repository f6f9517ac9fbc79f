"""How much a change that is not proven may hurt: its own, and all that are in flight together.

At risk are the requests a day that the canary serves at its largest share, and what they cost.
"""

import math
from collections.abc import Iterable, Mapping

import pandas as pd

from optimizer.cycle.case import AT_REST, Case, Risk
from optimizer.evidence import Proposal, Scene
from optimizer.policy import BlastRadius, Policy
from optimizer.statistics.seasonal import DAY_HOURS

LARGEST_SHARE = 0.5
"""Of any canary, where its own stages are not known: its control needs as much."""


def largest_share(policy: Policy | None, *, exploratory: bool) -> float:
    """The largest share of traffic that a canary is given before it is proven."""
    if policy is None:
        return LARGEST_SHARE
    return max(policy.shares(exploratory=exploratory))


def risk(share: float, requests_per_hour: float | None, cost_usd: float | None) -> Risk:
    """What a canary of that share puts at risk in a day.

    Examples:
        >>> risk(0.5, 1000.0, 0.002)
        Risk(daily_requests=12000.0, daily_usd=24.0)
    """
    if requests_per_hour is None:
        return Risk(daily_requests=None, daily_usd=None)
    requests = DAY_HOURS * requests_per_hour * share
    if cost_usd is None or not math.isfinite(cost_usd):
        return Risk(daily_requests=requests, daily_usd=None)
    return Risk(daily_requests=requests, daily_usd=requests * cost_usd)


def risk_of(scene: Scene, proposal: Proposal, requests_per_hour: float | None) -> Risk:
    """What the proposal's canary would put at risk, at the cost that is predicted of it."""
    policy = scene.policies[proposal.target]
    costs = [each.canary for each in proposal.estimates if each.metric == "cost_usd"]
    return risk(
        largest_share(policy, exploratory=proposal.exploratory),
        requests_per_hour,
        costs[0] if costs else None,
    )


def in_flight(scene: Scene, hours: pd.DataFrame, rates: Mapping[str, float]) -> Risk:
    """What everything in flight puts at risk, at what a request of its target has cost."""
    sums = hours.groupby("target", observed=True)[["cost_nusd", "n_cost"]].sum()
    costs = {
        str(name): row["cost_nusd"] * 1e-9 / row["n_cost"]
        for name, row in sums[sums["n_cost"] > 0].to_dict("index").items()
    }
    return total(
        risk(
            largest_share(scene.policies.get(name), exploratory=False),
            rates.get(name),
            costs.get(name),
        )
        for name in sorted(scene.in_flight)
    )


def total(risks: Iterable[Risk]) -> Risk:
    """All of them together; unknown where one of them is.

    Examples:
        >>> total([risk(0.5, 10.0, 0.01), risk(0.5, 10.0, None)])
        Risk(daily_requests=240.0, daily_usd=None)
    """
    found = AT_REST
    for each in risks:
        found = Risk(
            daily_requests=_sum(found.daily_requests, each.daily_requests),
            daily_usd=_sum(found.daily_usd, each.daily_usd),
        )
    return found


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def too_wide(case: Case) -> str | None:
    """The first limit of the blast radius that the change would exceed, or nobody knows whether."""
    limits = case.policy.blast_radius
    together = total((case.risk, case.risk_in_flight))
    for name, value, limit in (
        ("requests a day", case.risk.daily_requests, limits.max_daily_requests_at_risk),
        ("USD a day", case.risk.daily_usd, limits.max_daily_usd_at_risk),
        (
            "requests a day with all in flight",
            together.daily_requests,
            limits.max_daily_requests_at_risk_together,
        ),
        (
            "USD a day with all in flight",
            together.daily_usd,
            limits.max_daily_usd_at_risk_together,
        ),
    ):
        reason = _above(case, name, value, limit)
        if reason is not None:
            return reason
    return None


def _above(case: Case, name: str, value: float | None, limit: float | None) -> str | None:
    if limit is None:
        return None
    if value is None:
        # A way out of an unsafe arm is not kept waiting by a number nobody knows.
        return None if case.proposal.urgent else f"{name} at risk unknown, limit {limit:g}"
    return f"{value:.4g} {name} at risk, limit {limit:g}" if value > limit else None


def refused(case: Case) -> str | None:
    """The same, where the policy refuses what is too wide instead of asking a person."""
    return too_wide(case) if case.policy.blast_radius.refuse else None


def limited_together(radii: Iterable[BlastRadius]) -> bool:
    """Whether any of them limits what is in flight on all targets."""
    return any(
        limit is not None
        for each in radii
        for limit in (each.max_daily_usd_at_risk_together, each.max_daily_requests_at_risk_together)
    )
