"""Runs whose worker died are found; those that live are left alone."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events import Event, Resource
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.settings import (
    PREFECT_API_DATABASE_CONNECTION_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)
from prefect.states import Running

from flows.parameters import ReapParameters
from flows.reap import BEATS, HEARTBEAT, TAG, reap

pytestmark = pytest.mark.usefixtures("prefect_harness")

BEAT_S = 30


@flow(name="working")
async def working() -> None:
    """A flow whose runs are only written down here."""


@contextmanager
def beating() -> Iterator[None]:
    """As in production: runs send heartbeats."""
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: BEAT_S}):
        yield


async def running(client: PrefectClient, since: timedelta, tag: str = TAG) -> UUID:
    """A run in the state that a dead worker leaves.

    The server stamps states itself, so that only its database can make one old.
    """
    run = await client.create_flow_run(working, tags=[tag])
    await client.set_flow_run_state(run.id, Running(), force=True)
    began = datetime.now(UTC) - since  # noqa: TID251 - a real server runs by the real clock
    _, _, path = PREFECT_API_DATABASE_CONNECTION_URL.value().partition("///")
    with closing(sqlite3.connect(path, timeout=30)) as database, database:
        changed = database.execute(
            "UPDATE flow_run_state SET timestamp = ? WHERE flow_run_id = ? AND type = 'RUNNING'",
            (f"{began:%Y-%m-%d %H:%M:%S.%f}", str(run.id)),
        )
        assert changed.rowcount == 1
    return run.id


async def beat(client: PrefectClient, run: UUID, ago: timedelta) -> None:
    """A heartbeat as Prefect's engine sends it."""
    event = Event(
        occurred=datetime.now(UTC) - ago,  # noqa: TID251 - as above
        event=HEARTBEAT,
        resource=Resource({"prefect.resource.id": f"prefect.flow-run.{run}"}),
    )
    answer = await client._client.post("/events", json=[event.model_dump(mode="json")])
    answer.raise_for_status()
    stored = EventFilter(resource=EventResourceFilter(id=[f"prefect.flow-run.{run}"]))
    stored.event = EventNameFilter(name=[HEARTBEAT])
    for _ in range(150):  # the server stores events a little later
        if (await client.read_events(stored, limit=1)).events:
            return
        await asyncio.sleep(0.2)
    pytest.fail("the server did not store the heartbeat")


async def settled(client: PrefectClient, *runs: UUID) -> list[FlowRun]:
    return [await client.read_flow_run(run) for run in runs]


def states(run: FlowRun) -> tuple[str, str | None]:
    assert run.state is not None
    return run.state.type.value, run.state.name


def reaped(result: dict[str, Any]) -> set[str]:
    return {name.rpartition("(")[2].rstrip(")") for name in result["reaped"]}


def test_the_dead_are_retried_and_the_living_left_alone() -> None:
    long_ago, minute = timedelta(minutes=10), timedelta(minutes=1)

    async def scene() -> None:
        async with get_client() as client:
            silent = await running(client, long_ago)
            alive = await running(client, long_ago)
            once_alive = await running(client, long_ago)
            young = await running(client, minute)
            foreign = await running(client, long_ago, tag="something-else")
            await beat(client, alive, minute)
            await beat(client, once_alive, timedelta(minutes=5))

            with beating():
                result = await reap(ReapParameters())

            assert reaped(result) == {str(silent), str(once_alive)}
            dead = await settled(client, silent, once_alive)
            assert {states(run) for run in dead} == {("SCHEDULED", "AwaitingRetry")}
            history = await client.read_flow_run_states(silent)
            assert [state.type.value for state in history][-2:] == ["CRASHED", "SCHEDULED"]
            others = await settled(client, alive, young, foreign)
            assert {states(run) for run in others} == {("RUNNING", "Running")}

    asyncio.run(scene())


def test_without_retry_the_dead_stay_crashed_and_the_reaper_never_reaps_itself() -> None:
    async def scene() -> None:
        async with get_client() as client:
            silent = await running(client, timedelta(hours=1))
            with beating():
                result = await reap(ReapParameters(retry=False))
            assert str(silent) in reaped(result)
            (run,) = await settled(client, silent)
            assert states(run) == ("CRASHED", "Crashed")

    asyncio.run(scene())


def test_it_waits_for_three_heartbeats_however_short_it_is_told_to_wait() -> None:
    async def scene() -> None:
        async with get_client() as client:
            run = await running(client, timedelta(seconds=200))
            with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: 180}):
                result = await reap(ReapParameters(silent_s=90))
            assert 180 * BEATS > 200
            assert str(run) not in reaped(result)

    asyncio.run(scene())


def test_where_no_heartbeats_are_sent_nobody_is_taken_for_dead() -> None:
    async def scene() -> None:
        async with get_client() as client:
            run = await running(client, timedelta(hours=1))
            result = await reap(ReapParameters())
            assert result["reaped"] == []
            assert "no heartbeats" in result["reason"]
            (found,) = await settled(client, run)
            assert states(found) == ("RUNNING", "Running")

    asyncio.run(scene())
