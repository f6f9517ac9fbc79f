"""Runs that meet, or that run again: one acts, the others see it and say so."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.objects import State as PrefectState
from prefect.exceptions import MissingResult

from flow_scene import Installation, installed
from flows.dispatch import step_each
from flows.occasion import Occasion
from flows.parameters import OptimizeParameters
from flows.rollout import rollout
from optimizer.decision import State
from optimizer.evidence import DecisionId
from optimizer.loop.act import take_lease
from optimizer.loop.evaluate import assess
from rollout_scene import START, TARGET, acting, propose

pytestmark = pytest.mark.usefixtures("prefect_harness", "closed_afterwards")


def due_to_start(place: Path) -> tuple[Installation, DecisionId]:
    given = installed(place)
    given.guard(START)
    return given, propose(given.equipment, START).id


def test_a_run_that_meets_another_on_its_target_is_held_and_not_failed(tmp_path: Path) -> None:
    given, decision = due_to_start(tmp_path)
    lease = take_lease(given.equipment, TARGET, acting(START, "another run"))

    result = given.rollout(decision, START)

    assert (result["move"], result["state"]) == ("held", "validating")
    assert "another run is acting" in result["reason"]
    assert given.messages() == []
    hour = given.optimize(START)
    assert hour["started"][decision].startswith("held: another run is acting")
    assert given.last_run()["status"] == "completed"
    given.equipment.ledger.effects.release(lease)
    assert given.rollout(decision, START)["state"] == "deploying"


def test_of_two_runs_on_one_decision_one_acts(tmp_path: Path) -> None:
    given, decision = due_to_start(tmp_path)
    given_step = given.step(decision, START)

    async def both() -> list[dict[str, Any]]:
        return list(await asyncio.gather(rollout(given_step), rollout(given_step)))

    results = asyncio.run(both())

    assert sorted(result["move"] for result in results) in (["held", "start"], ["hold", "start"])
    assert given.transitions(decision) == ["validating", "deploying"]
    assert given.held().generation == 2
    assert len(given.messages()) == 1


def test_a_parent_that_runs_again_doubles_nothing(tmp_path: Path) -> None:
    given, decision = due_to_start(tmp_path)
    tries = []

    @flow(retries=1, retry_delay_seconds=0)
    async def failing_late() -> None:
        parameters = OptimizeParameters(config_file=given.config, as_of=START, clock=START)
        when = Occasion(as_of=START, now=START, run_id="parent", deployed=False)
        found = assess(given.equipment, acting=when.acting("optimize"), as_of=START)
        tries.append(await step_each(found, parameters, when))
        if len(tries) == 1:
            raise RuntimeError("the parent fails after its child")

    asyncio.run(failing_late())

    assert [len(moved) for moved in tries] == [1, 0]
    assert given.transitions(decision) == ["validating", "deploying"]
    assert given.held().generation == 2
    assert len(given.messages()) == 1


def test_under_a_server_each_dispatching_run_starts_a_step_once_and_a_failed_one_again(
    tmp_path: Path,
) -> None:
    given, decision = due_to_start(tmp_path)
    parameters = OptimizeParameters(config_file=given.config, as_of=START, clock=START)
    found = assess(given.equipment, acting=acting(START), as_of=START)

    async def started(run_id: str) -> str:
        when = Occasion(as_of=START, now=START, run_id=run_id, deployed=True)
        (moved,) = await step_each(found, parameters, when)
        return moved.how

    async def all_of_them() -> tuple[list[str], FlowRun]:
        deployment = await rollout.ato_deployment(name="rollout", tags=["optimizer"])
        await deployment.aapply()
        hows = [await started(run_id) for run_id in ("hour-1", "hour-1", "hour-2")]
        async with get_client() as client:
            return hows, await client.read_flow_run(UUID(hows[0].removeprefix("run ")))

    hows, run = asyncio.run(all_of_them())

    assert all(how.startswith("run ") for how in hows)
    assert hows[0] == hows[1] != hows[2]
    assert set(run.tags) == {"optimizer", f"target:{TARGET}", f"decision:{decision}"}
    assert run.parameters["parameters"]["decision_id"] == decision
    assert given.decision(decision).state is State.VALIDATING


def test_without_the_deployment_the_step_is_taken_in_this_process(tmp_path: Path) -> None:
    given, decision = due_to_start(tmp_path)
    parameters = OptimizeParameters(config_file=given.config, as_of=START, clock=START)
    found = assess(given.equipment, acting=acting(START), as_of=START)

    async def started() -> str:
        async with get_client() as client:
            for deployment in await client.read_deployments():
                await client.delete_deployment(deployment.id)
        when = Occasion(as_of=START, now=START, run_id="hour", deployed=True)
        (moved,) = await step_each(found, parameters, when)
        return moved.how

    assert asyncio.run(started()) == "deploying"
    assert given.decision(decision).state is State.DEPLOYING


def test_a_state_that_comes_back_bare_is_read_from_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, decision = due_to_start(tmp_path)
    parameters = OptimizeParameters(config_file=given.config, as_of=START, clock=START)
    found = assess(given.equipment, acting=acting(START), as_of=START)

    async def bare(_state: object, **_: object) -> None:
        raise MissingResult

    async def started() -> str:
        when = Occasion(as_of=START, now=START, run_id="hour", deployed=False)
        monkeypatch.setattr(PrefectState, "aresult", bare)
        (moved,) = await step_each(found, parameters, when)
        return moved.how

    assert asyncio.run(started()) == "deploying"
    assert given.decision(decision).state is State.DEPLOYING
