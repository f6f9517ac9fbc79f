"""Take the steps that are due: each in a run of its own, so that it is retried and audited alone.

Under a server, a step is a run of the ``rollout`` deployment, started once per decision version.
Without one (a one-shot run from cron, a test, the demo) the same flow runs in this process.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from prefect.deployments import arun_deployment

from flows.occasion import Occasion
from flows.parameters import RolloutParameters, RunParameters
from flows.rollout import rollout
from optimizer.errors import ConflictError, DataError, UnavailableError
from optimizer.loop.evaluate import Assessment


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A step that was started: where, and what became of it as far as known."""

    decision_id: str
    target: str
    move: str
    how: str


async def step_each(
    assessed: Sequence[Assessment],
    parameters: RunParameters,
    when: Occasion,
    *,
    guard_only: bool = False,
) -> tuple[Moved, ...]:
    """Start every step that is due; one failing target never stops the others."""
    moved = []
    for assessment in assessed:
        if not assessment.is_due:
            continue
        decision = assessment.decision
        given = RolloutParameters(
            config_file=parameters.config_file,
            as_of=when.as_of,
            clock=parameters.clock,
            decision_id=decision.id,
            guard_only=guard_only,
        )
        how = await (_deployed(given, assessment) if when.deployed else _in_process(given))
        moved.append(
            Moved(
                decision_id=decision.id,
                target=decision.target,
                move=assessment.step.move.value,
                how=how,
            )
        )
    return tuple(moved)


async def _deployed(given: RolloutParameters, assessment: Assessment) -> str:
    decision = assessment.decision
    run = await arun_deployment(
        "rollout/rollout",
        parameters={"parameters": given.model_dump(mode="json")},
        timeout=0,
        idempotency_key=f"{decision.id}:{decision.version}:{assessment.step.move.value}",
        flow_run_name=f"{assessment.step.move.value} {decision.target} {decision.id}",
        tags=[f"target:{decision.target}", f"decision:{decision.id}"],
        as_subflow=False,
    )
    return f"run {run.id}"


async def _in_process(given: RolloutParameters) -> str:
    try:
        result = await rollout(given)
    except (ConflictError, UnavailableError, DataError) as error:
        return f"not done: {error}"
    return str(result["state"])
