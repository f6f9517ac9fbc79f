"""Validate: the levels of rules, in their order; the first that is violated decides.

Told to operators in ``docs/policies.md``, in the same order.
"""

from optimizer.cycle.blast_radius import refused, too_wide
from optimizer.cycle.capabilities import capable, retired, retiring
from optimizer.cycle.case import Case, Fate, Rule
from optimizer.cycle.discoveries import undiscovered
from optimizer.cycle.explored import told_by_logs, worse_in_logs
from optimizer.cycle.headroom import headroom
from optimizer.cycle.limits import exploration, safety, spending
from optimizer.cycle.pace import exploring, frozen, pace
from optimizer.cycle.policies import denied, owed

LEVELS: tuple[tuple[Fate, tuple[Rule, ...]], ...] = (
    (Fate.INCAPABLE, (capable, retired, headroom)),
    (Fate.SAFETY, (safety, worse_in_logs)),
    (Fate.BUDGET, (spending, exploration)),
    (Fate.OPERATIONAL, (frozen, pace, exploring, refused)),
    (Fate.POLICY, (denied,)),
    (Fate.POLICY_UNAVAILABLE, (owed,)),
    (Fate.MULTIPLICITY, (undiscovered,)),
)


def validate(case: Case) -> tuple[Fate, str]:
    """The first level that is violated decides; else who must agree, and what to be warned of."""
    for fate, rules in LEVELS:
        for rule in rules:
            reason = rule(case)
            if reason is not None:
                return fate, reason
    asks = (
        case.policy.approval_reason(case.proposal.expected.daily_saving_usd),
        untrusted(case),
        too_wide(case),
        case.proposal.asks or None,
    )
    notes = (*asks, retiring(case), told_by_logs(case), *case.ruling.warnings)
    told = [text for text in notes if text is not None]
    return Fate.AWAITING_APPROVAL if any(asks) else Fate.ACCEPTED, "; ".join(told)


def untrusted(case: Case) -> str | None:
    """Why the strategy may not act alone; the way out of an unsafe arm is never kept waiting."""
    record = case.record
    if record is None or record.is_trusted or case.proposal.urgent:
        return None
    return f"{record.sentence}: a person must agree" if case.policy.approval.when_missed else None
