"""Rules on what the candidate is predicted to do: safety limits and money."""

from calendar import monthrange

from optimizer.cycle.case import Case
from optimizer.metrics import HOUR_S
from optimizer.policy import SafetyLimits
from optimizer.statistics.seasonal import DAY_HOURS


def _worse_than(
    case: Case, metric: str, limit: float | None, *, sign: int = 1, factor: float = 1.0
) -> str | None:
    """A sentence if the candidate is predicted beyond a limit that it does not bring nearer."""
    candidate, baseline = case.predicted.get(metric, (None, None))
    if limit is None or candidate is None or sign * (candidate * factor - limit) <= 0:
        return None
    if baseline is not None and sign * (baseline * factor - limit) > 0 > sign * (
        candidate - baseline
    ):
        return None
    side = "above" if sign > 0 else "below"
    return (
        f"{metric} of {case.proposal.candidate} predicted {candidate * factor:g} {side} {limit:g}"
    )


def safety(case: Case) -> str | None:
    """A safety limit that the candidate is predicted to break."""
    limits: SafetyLimits = case.policy.safety
    return (
        _worse_than(case, "failure_rate", limits.failure_rate_max)
        or _worse_than(case, "latency_p95_ms", limits.latency_p95_ms_max)
        or _worse_than(case, "quality", limits.quality_min, sign=-1)
    )


def spending(case: Case) -> str | None:
    """A budget that the candidate is predicted to break, or whose use nobody can predict."""
    budget, rate = case.policy.budget, case.requests_per_hour
    limits = (budget.monthly_usd, budget.daily_usd, budget.hourly_usd, budget.per_request_usd)
    if limits == (None,) * len(limits):
        return None
    if case.predicted.get("cost_usd", (None, None))[0] is None:
        # A way out of an unsafe arm is not closed by a price nobody knows.
        return None if case.proposal.urgent else "cost unknown, and the policy sets a budget"
    per_request = _worse_than(case, "cost_usd", budget.per_request_usd)
    if per_request is not None or rate is None:
        return per_request
    days = monthrange(case.now.year, case.now.month)[1]
    for name, limit, hours in (
        ("hour", budget.hourly_usd, 1),
        ("day", budget.daily_usd, DAY_HOURS),
        ("month", budget.monthly_usd, days * DAY_HOURS),
    ):
        reason = _worse_than(case, "cost_usd", limit, factor=hours * rate)
        if reason is not None:
            return f"{reason} USD a {name} at {rate:.0f} requests an hour"
    return None


def exploration(case: Case) -> str | None:
    """Whether trying an arm without traffic of its own would cost more than is set aside."""
    limit = case.policy.budget.exploration_daily_usd
    if limit is None or not case.proposal.exploratory or case.proposal.urgent:
        return None
    candidate, _ = case.predicted.get("cost_usd", (None, None))
    if candidate is None or case.requests_per_hour is None:
        return "the cost of exploring is unknown, and the policy sets an exploration budget"
    stage = case.policy.stages[0]
    share, *_ = case.policy.shares(exploratory=True)
    served = max(
        case.requests_per_hour * share * stage.bake_time.total_seconds() / HOUR_S,
        stage.min_requests,
    )
    extra = served * candidate
    if case.spent_usd >= limit or case.spent_usd + extra > limit:
        return (
            f"exploration spent {case.spent_usd:.4g} USD today, the first stage adds {extra:.4g}, "
            f"limit {limit:g}"
        )
    return None
