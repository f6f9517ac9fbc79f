"""Finish what a dead run left open, and tell what came of it as its own run would have."""

from flows.occasion import Occasion
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.reconcile import Finding
from tasks import act, report
from tasks.options import opaque


def reconcile(equipment: Equipment, acting: Acting, when: Occasion) -> tuple[Finding, ...]:
    """Make every gateway hold what the ledger wants; publish the decisions this moved on."""
    begun = {
        intent.decision_id: None
        for intent in equipment.ledger.effects.open_intents()
        if intent.decision_id is not None
    }
    findings = act.reconcile(opaque(equipment), acting)
    for decision_id in begun:
        report.publish_end(equipment, equipment.ledger.decisions.get(decision_id), when)
    return findings
