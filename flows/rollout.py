"""One decision, one step."""

from typing import Any

from prefect import flow

from flows.equipped import equipment as open_equipment
from flows.occasion import occasion, run_name
from flows.parameters import RolloutParameters
from optimizer.errors import ConflictError, DataError
from optimizer.evidence import DecisionId
from tasks import report
from tasks.act import take_step
from tasks.options import opaque

HELD = "held"


@flow(name="rollout", flow_run_name=run_name, persist_result=False)
async def rollout(parameters: RolloutParameters) -> dict[str, Any]:
    """Judge the decision again and take the step that is due: write, apply, read back, record.

    Where another run is acting on the target, or the evidence contradicts itself, the traffic stays
    as it is and the result says so; the next run looks anew.
    """
    equipment = open_equipment(parameters.config_file, parameters.clock)
    when = occasion(parameters)
    decision_id = DecisionId(parameters.decision_id)
    try:
        found = take_step(
            opaque(equipment),
            decision_id,
            when.acting("guard" if parameters.guard_only else "rollout"),
            when.as_of,
            guard_only=parameters.guard_only,
        )
    except (ConflictError, DataError) as error:
        decision = equipment.ledger.decisions.get(decision_id)
        report.publish_held(equipment, decision, error)
        move, reason = HELD, str(error)
    else:
        decision, move, reason = found.decision, found.step.move.value, found.step.reason
        report.publish_step(equipment, found, when)
    return {
        "decision": decision.id,
        "target": decision.target,
        "move": move,
        "state": decision.state.value,
        "reason": reason,
    }
