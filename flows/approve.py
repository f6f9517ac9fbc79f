"""Answer a decision that waits for a person."""

from typing import Any

from prefect import flow

from flows.equipped import equipment as open_equipment
from flows.occasion import occasion, run_name
from flows.parameters import ApproveParameters
from optimizer.evidence import DecisionId
from optimizer.loop.approval import answer
from tasks import report


@flow(name="approve", flow_run_name=run_name, persist_result=False)
async def approve(parameters: ApproveParameters) -> dict[str, Any]:
    """Approve: the rollout starts with the next step. Reject: the decision is cancelled."""
    equipment = open_equipment(parameters.config_file, parameters.clock)
    when = occasion(parameters)
    decision = answer(
        equipment,
        DecisionId(parameters.decision_id),
        agreed=parameters.answer == "approve",
        reason=parameters.reason,
        acting=when.acting(parameters.actor),
        as_of=when.as_of,
    )
    report.publish_end(equipment, decision, when)
    return {"decision": decision.id, "target": decision.target, "state": decision.state.value}
