"""The hourly flow: observe, decide, act."""

from typing import Any

from prefect import flow

from flows.dispatch import step_each
from flows.equipped import equipment as open_equipment
from flows.experimenting import experiment
from flows.observing import observe
from flows.occasion import occasion, run_name
from flows.parameters import OptimizeParameters
from flows.reconciling import reconcile
from optimizer.analyzers.drift import changed_arms
from optimizer.evidence import Considered, Insight, Scene
from optimizer.loop.alerts import raise_alerts, with_told
from optimizer.loop.decide import gather, keep_insights
from optimizer.loop.equipment import Equipment
from optimizer.loop.experiments import with_experiments
from tasks import report
from tasks.act import judge_in_flight, restart_evidence
from tasks.decide import decide, run_analyzer, run_strategy
from tasks.options import opaque

ACTOR = "optimize"


@flow(name="optimize", flow_run_name=run_name, persist_result=False)
async def optimize(parameters: OptimizeParameters = OptimizeParameters()) -> dict[str, Any]:  # noqa: B008 - a frozen default that Prefect turns into the form
    """One cycle: pull what is new, aggregate, analyze, propose, decide, judge, take due steps.

    May run twice, late or not at all: it works on all closed windows since each source's cursor.
    """
    equipment = open_equipment(parameters.config_file, parameters.clock)
    when = occasion(parameters)
    acting = when.acting(ACTOR)
    with report.recorded(equipment, "optimize", when) as record:
        observed = observe(equipment, when)
        findings = () if parameters.dry_run else reconcile(equipment, acting, when)
        scene = gather(equipment, as_of=when.as_of, only=parameters.targets)
        insights = _insights(equipment, scene)
        keep_insights(equipment, when.as_of, insights)
        changed = changed_arms(insights, equipment.targets)
        tried = () if parameters.dry_run else experiment(equipment, acting, when, changed=changed)
        scene = with_told(equipment, with_experiments(equipment, scene))
        considered = _considered(equipment, scene, insights)
        proposals = [each.proposal for each in considered if each.proposal is not None]
        if not parameters.dry_run:
            insights.extend(raise_alerts(equipment, when.as_of, considered))
        decided = decide(
            opaque(equipment), opaque(scene), opaque(proposals), acting, dry_run=parameters.dry_run
        )
        report.publish_new(equipment, decided.created, when)
        if changed and not parameters.dry_run:
            restart_evidence(opaque(equipment), opaque(changed), acting)
        assessed = judge_in_flight(
            opaque(equipment), acting, when.as_of, guard_only=False, dry_run=parameters.dry_run
        )
        moved = () if parameters.dry_run else await step_each(assessed, parameters, when)
        return record(
            observed=observed,
            findings=findings,
            insights=insights,
            tried=tried,
            decided=decided,
            assessed=assessed,
            moved=moved,
        )


def _insights(equipment: Equipment, scene: Scene) -> list[Insight]:
    found: list[Insight] = []
    for name, analyzer in equipment.analyzers.items():
        found.extend(run_analyzer(name, opaque(analyzer), opaque(scene)))
    return found


def _considered(equipment: Equipment, scene: Scene, insights: list[Insight]) -> list[Considered]:
    found: list[Considered] = []
    for name, strategy in equipment.strategies.items():
        found.extend(run_strategy(name, opaque(strategy), opaque(scene), opaque(insights)))
    return found
