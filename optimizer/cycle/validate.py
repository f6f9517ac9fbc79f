"""Validate: the levels of rules, in their order; the first that is violated decides."""

from optimizer.cycle.case import Case, Fate, Rule
from optimizer.cycle.limits import exploration, safety, spending
from optimizer.cycle.pace import exploring, frozen, pace

LEVELS: tuple[tuple[Fate, tuple[Rule, ...]], ...] = (
    (Fate.SAFETY, (safety,)),
    (Fate.BUDGET, (spending, exploration)),
    (Fate.OPERATIONAL, (frozen, pace, exploring)),
)


def validate(case: Case) -> tuple[Fate, str]:
    """The first level that is violated decides."""
    for fate, rules in LEVELS:
        for rule in rules:
            reason = rule(case)
            if reason is not None:
                return fate, reason
    ask = case.policy.approval_reason(case.proposal.expected.daily_saving_usd)
    return (Fate.ACCEPTED, "") if ask is None else (Fate.AWAITING_APPROVAL, ask)
