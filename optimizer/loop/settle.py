"""Settle: expected against realised, measured on the holdback, and what the promotion cost."""

from dataclasses import replace
from datetime import datetime

from optimizer.decision import Decision
from optimizer.evidence import Anchor, Verdict
from optimizer.judge import Case, charges, realised
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.evaluate import complete_until, grains_for
from optimizer.rollout import Move


def settle(
    equipment: Equipment, decision: Decision, *, acting: Acting, as_of: datetime
) -> Decision:
    """The decision with its realised impact; its charges are stored, and count once it completes.

    Doing so again replaces the charges by those of the newer data.
    """
    until = complete_until(equipment, [decision], as_of)[decision.target]
    grains = grains_for(equipment, [decision], until)
    store = equipment.ledger.decisions
    case = Case(
        decision=decision, policy=equipment.policies[decision.target], anchors=store.anchors()
    )
    actual = realised(case, grains, now=acting.now, data_until=until)
    measured = charges(case, grains, now=acting.now, data_until=until)
    promoted = _promotion_verdict(equipment, decision)
    for metric, charge in measured.items():
        charged = charge or _charge_at_promotion(decision, metric, promoted)
        if charged is not None:
            store.charge_anchor(decision.id, charged, at=acting.now, settled=charge is not None)
    return replace(decision, actual=actual)


def _promotion_verdict(equipment: Equipment, decision: Decision) -> Verdict | None:
    looks = equipment.ledger.decisions.looks(decision.id)
    return next((look.verdict for look in reversed(looks) if look.move == Move.PROMOTE.value), None)


def _charge_at_promotion(decision: Decision, metric: str, verdict: Verdict | None) -> Anchor | None:
    """The judge's own estimate at promotion, where the holdback was too small to tell."""
    if verdict is None:
        return None
    for check in verdict.checks:
        if check.metric == metric and check.harm is not None and check.variance is not None:
            return Anchor(
                target=decision.target,
                metric=metric,
                reference_arm=decision.baseline,
                harm=check.harm,
                variance=check.variance,
                promotions=1,
            )
    return None
