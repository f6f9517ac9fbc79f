"""One decision, one step."""

from typing import Any

from prefect import flow

from flows.equipped import equipment as open_equipment
from flows.occasion import occasion, run_name
from flows.parameters import RolloutParameters
from optimizer.evidence import DecisionId
from tasks import report
from tasks.act import take_step
from tasks.options import opaque


@flow(name="rollout", flow_run_name=run_name, persist_result=False)
async def rollout(parameters: RolloutParameters) -> dict[str, Any]:
    """Judge the decision again and take the step that is due: write, apply, read back, record."""
    equipment = open_equipment(parameters.config_file, parameters.clock)
    when = occasion(parameters)
    actor = "guard" if parameters.guard_only else "rollout"
    found = take_step(
        opaque(equipment),
        DecisionId(parameters.decision_id),
        when.acting(actor),
        when.as_of,
        guard_only=parameters.guard_only,
    )
    report.publish_step(equipment, found, when)
    return {
        "decision": found.decision.id,
        "target": found.decision.target,
        "move": found.step.move.value,
        "state": found.decision.state.value,
        "reason": found.step.reason,
    }
