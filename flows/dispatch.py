"""Take the steps that are due: each in a run of its own, so that it is retried and audited alone.

Under a server, a step is a run of the ``rollout`` deployment, started once per decision version and
dispatching run: a parent that is retried starts no second child, and a child that came to nothing
does not keep the next parent from trying again. Without a server (a one-shot run from cron, a test,
the demo) the same flow runs in this process.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from prefect.deployments import arun_deployment
from prefect.exceptions import MissingResult, ObjectNotFound

from flows.equipped import equipment
from flows.occasion import Occasion, about
from flows.parameters import RolloutParameters, RunParameters
from flows.rollout import HELD, rollout
from optimizer.evidence import DecisionId
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
        how = await (_deployed(given, assessment, when) if when.deployed else _in_process(given))
        moved.append(
            Moved(
                decision_id=decision.id,
                target=decision.target,
                move=assessment.step.move.value,
                how=how,
            )
        )
    return tuple(moved)


async def _deployed(given: RolloutParameters, assessment: Assessment, when: Occasion) -> str:
    """The run that was started; a server that does not start it leaves the step to the next run."""
    decision, step = assessment.decision, assessment.step.move.value
    try:
        run = await arun_deployment(
            "rollout/rollout",
            parameters={"parameters": given.model_dump(mode="json")},
            timeout=0,
            idempotency_key=f"{decision.id}:{decision.version}:{step}:{when.run_id}",
            tags=about(decision),
            as_subflow=False,
        )
    except ObjectNotFound:
        return await _in_process(given)
    except httpx.HTTPError as error:
        return f"not started: {error}"
    return f"run {run.id}"


async def _in_process(given: RolloutParameters) -> str:
    """What became of the step; the state of a run that failed is told, not raised.

    Without tags: every task inherits them and asks the server for a concurrency slot per tag, which
    takes a second each and locks the embedded server's SQLite for up to a minute.
    """
    state = await rollout(given, return_state=True)
    if not state.is_completed():
        return f"not done: {state.message}"
    try:
        result = await state.aresult()
    except MissingResult:
        # The server answered late and gave the state back bare; the ledger knows what was done.
        ledger = equipment(given.config_file, given.clock).ledger
        return ledger.decisions.get(DecisionId(given.decision_id)).state.value
    return f"held: {result['reason']}" if result["move"] == HELD else str(result["state"])
