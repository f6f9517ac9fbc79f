"""The five-minute flow: look at what is in flight; hold or roll back, never advance."""

from typing import Any

from prefect import flow

from flows.dispatch import step_each
from flows.equipped import equipment as open_equipment
from flows.experimenting import experiment
from flows.observing import observe
from flows.occasion import occasion, run_name
from flows.parameters import GuardParameters
from flows.reconciling import reconcile
from tasks import report
from tasks.act import judge_in_flight
from tasks.options import opaque


@flow(name="guard", flow_run_name=run_name, persist_result=False)
async def guard(parameters: GuardParameters = GuardParameters()) -> dict[str, Any]:  # noqa: B008 - a frozen default that Prefect turns into the form
    """Pull the last minutes, judge what is in flight, roll back what is proven to harm."""
    equipment = open_equipment(parameters.config_file, parameters.clock)
    when = occasion(parameters)
    acting = when.acting("guard")
    with report.recorded(equipment, "guard", when) as record:
        observed = observe(equipment, when)
        findings = reconcile(equipment, acting, when)
        assessed = judge_in_flight(opaque(equipment), acting, when.as_of, guard_only=True)
        tried = experiment(equipment, acting, when, guard_only=True)
        moved = await step_each(assessed, parameters, when, guard_only=True)
        return record(
            observed=observed, findings=findings, assessed=assessed, tried=tried, moved=moved
        )
