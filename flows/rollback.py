"""Roll back by hand or by automation: no analysis, from every state, also while paused."""

from typing import Any

from prefect import flow

from flows.equipped import equipment as open_equipment
from flows.occasion import occasion, run_name
from flows.parameters import RollbackParameters
from optimizer.decision import State
from optimizer.errors import ConfigError
from optimizer.evidence import DecisionId
from optimizer.loop.equipment import Equipment
from optimizer.loop.evaluate import IN_FLIGHT
from tasks import report
from tasks.act import roll_back
from tasks.options import opaque


@flow(name="rollback", flow_run_name=run_name, persist_result=False)
async def rollback(parameters: RollbackParameters) -> dict[str, Any]:
    """Return the target's traffic to the snapshot taken before the change, and prove it."""
    equipment = open_equipment(parameters.config_file, parameters.clock)
    when = occasion(parameters)
    decision = roll_back(
        opaque(equipment),
        _named(equipment, parameters),
        parameters.reason,
        when.acting(parameters.actor),
    )
    report.publish_end(equipment, decision, when)
    return {"decision": decision.id, "target": decision.target, "state": decision.state.value}


def _named(equipment: Equipment, parameters: RollbackParameters) -> DecisionId:
    """The decision that is meant.

    Raises:
        ConfigError: neither a decision nor a target with one in flight was named, or the change is
            completed, so that there is no way back but a new one.
    """
    if parameters.decision_id:
        decision = equipment.ledger.decisions.get(DecisionId(parameters.decision_id))
        if decision.state is State.COMPLETED:
            msg = f"decision {decision.id} is completed; undo it by a new change"
            raise ConfigError(msg)
        return decision.id
    if not parameters.target:
        msg = "name a decision, or a target that has one in flight"
        raise ConfigError(msg)
    found = equipment.ledger.decisions.find(states=IN_FLIGHT, target=parameters.target)
    if not found:
        msg = f"nothing is in flight on {parameters.target}; undo a completed change by a new one"
        raise ConfigError(msg)
    return found[-1].id
