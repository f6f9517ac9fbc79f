"""Rules on when a target may change at all."""

from datetime import timedelta

from optimizer.cycle.case import Case

DAY = timedelta(days=1)


def frozen(case: Case) -> str | None:
    """A freeze window that covers now."""
    freeze = case.policy.frozen_at(case.now)
    if freeze is None:
        return None
    return f"frozen until {freeze.end.isoformat()} {freeze.reason}".rstrip()


def pace(case: Case) -> str | None:
    """Whether the target has changed too often, or too lately."""
    recent = [at for at in case.changes if case.now - DAY < at <= case.now]
    if len(recent) >= case.policy.max_changes_per_day:
        return f"{len(recent)} changes in a day, limit {case.policy.max_changes_per_day}"
    if recent and case.now - max(recent) < case.policy.cooldown:
        return f"last change at {max(recent).isoformat()}, cooldown {case.policy.cooldown}"
    return None


def exploring(case: Case) -> str | None:
    """Whether the policy forbids trying what has no traffic of its own."""
    if case.proposal.exploratory and case.policy.exploration_share == 0:
        return "exploration_share is 0: no arm without traffic of its own is tried"
    return None
