"""One decision, from its proposal to its end, through the flows, and what is left of it."""

import asyncio
import time
from collections.abc import Callable, Collection
from typing import Any

import pytest
from prefect import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    ArtifactFilterKey,
)
from prefect.client.schemas.objects import Artifact
from prefect.events.filters import EventFilter, EventResourceFilter
from prefect.events.schemas.events import ReceivedEvent

from flow_scene import Installation, following, installed
from optimizer.decision import State
from rollout_scene import HOUR, START, propose, put

pytestmark = pytest.mark.usefixtures("prefect_harness", "closed_afterwards")

PATIENCE_S = 30
WALK = [
    # hours after the start, what the decision becomes, the candidate's share
    (0.0, "deploying", 0.1),
    (1.5, "deploying", 0.5),
    (3.0, "deployed", 0.9),
    (4.5, "monitoring", 0.9),
    (6.0, "completed", 1.0),
]


def events_of(decision: str, hashes: Collection[str]) -> list[ReceivedEvent]:
    """Custom events of these entries of the decision's log, once all are there; oldest first."""

    async def read() -> list[ReceivedEvent]:
        async with get_client() as client:
            found = await client.read_events(
                EventFilter(resource=EventResourceFilter(id=[f"llmopt.decision.{decision}"])),
                limit=50,
            )
            return [event for event in found.events if event.payload["hash"] in hashes]

    found = eventually(read, lambda found: len(found) >= len(hashes))
    return sorted(found, key=lambda event: event.occurred)


def artifacts_of(filtering: ArtifactFilter) -> list[Artifact]:
    async def read() -> list[Artifact]:
        async with get_client() as client:
            return await client.read_artifacts(artifact_filter=filtering)

    return asyncio.run(read())


def eventually(read: Callable[[], Any], holds: Callable[[Any], bool]) -> Any:  # noqa: ANN401 - what was read
    """What was read, once it holds or patience ends: Prefect stores events a little later."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = asyncio.run(read())
        if holds(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


@pytest.fixture(scope="module")
def walked(
    prefect_harness: None,  # noqa: ARG001 - flows need it
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Installation, str]:
    """An installation in which one decision went all the way."""
    given = installed(tmp_path_factory.mktemp("walked"))
    given.optimize(START)
    decision = propose(given.equipment, START).id
    put(given.equipment, following())
    for hours, state, share in WALK:
        result = given.optimize(START + hours * HOUR)
        assert result["started"] == {decision: state}
        assert given.shares().get("small") == pytest.approx(share)
    return given, decision


def test_a_decision_goes_to_its_end_and_all_of_it_is_told(
    walked: tuple[Installation, str],
) -> None:
    given, decision = walked

    settled = given.decision(decision)
    assert settled.state is State.COMPLETED
    assert given.transitions(decision) == [
        "validating", "deploying", "deployed", "monitoring", "completed",
    ]  # fmt: skip
    assert given.equipment.baseline_arms() == {settled.target: "small"}
    assert given.equipment.ledger.effects.open_intents() == []
    assert settled.actual is not None
    assert settled.actual.cost_reduction_pct == pytest.approx(50, abs=5)
    assert settled.actual.quality_delta == pytest.approx(0, abs=0.05)

    log = given.equipment.ledger.decisions.events(settled.id)
    # The first entry was written by no flow here.
    hashes = [entry.hash for entry in log[1:]]
    custom = events_of(decision, hashes)
    assert [event.payload["hash"] for event in custom] == hashes
    assert [event.event for event in custom] == [
        f"llmopt.decision.{entry.to_state.value}" for entry in log[1:]
    ]

    (page,) = artifacts_of(ArtifactFilter(key=ArtifactFilterKey(any_=[f"decision-{decision}"])))[:1]
    assert f"llmopt rollback {decision}" in str(page.data)
    run = given.last_run()["id"]
    cycle = artifacts_of(ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run])))
    assert {artifact.key: artifact.type for artifact in cycle} == {
        "optimize-in-flight": "table",
        "optimize-cycle": "markdown",
    }

    told = given.messages()
    assert [message["decision_id"] for message in told] == [decision] * 3
    started, promoted, ended = told
    assert "deploying (large -> small)" in started["title"]
    assert "deployed (large -> small)" in promoted["title"]
    assert "completed (large -> small)" in ended["title"]
    for message in (started, promoted):
        assert f"Undo: llmopt rollback {decision}" in message["body"]


def test_a_completed_cycle_changes_nothing_when_it_is_run_again(
    walked: tuple[Installation, str],
) -> None:
    given, decision = walked
    ledger = given.equipment.ledger
    before = (given.decision(decision), ledger.decisions.events(given.decision(decision).id))
    told = len(given.messages())

    again = given.optimize(START + 6 * HOUR)

    assert (again["in_flight"], again["started"]) == (0, {})
    assert (given.decision(decision), ledger.decisions.events(before[0].id)) == before
    assert len(given.messages()) == told
    assert len(ledger.decisions.find()) == 1
