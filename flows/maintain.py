"""Daily housekeeping: roll-ups, retention, compaction, the chain of events."""

from typing import Any

from prefect import flow

from flows.equipped import equipment as open_equipment
from flows.occasion import occasion, run_name
from flows.parameters import MaintainParameters
from tasks.maintain import compact_spool, prune_aggregates, verify_chain
from tasks.options import opaque


@flow(name="maintain", flow_run_name=run_name, persist_result=False)
async def maintain(parameters: MaintainParameters = MaintainParameters()) -> dict[str, Any]:  # noqa: B008 - a frozen default that Prefect turns into the form
    """Sum hours into days, delete what is past its keeping, merge small files, check the chain."""
    equipment = open_equipment(parameters.config_file, parameters.clock)
    when = occasion(parameters)
    removed = prune_aggregates(
        opaque(equipment),
        when.as_of,
        grains_days=parameters.grains_days,
        hours_days=parameters.hours_days,
        days_days=parameters.days_days,
    )
    spool = compact_spool(opaque(equipment), when.as_of)
    broken = verify_chain(opaque(equipment))
    return {"removed": removed, "spool": spool, "broken_chains": broken}
