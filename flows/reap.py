"""Find runs whose worker died, mark them as crashed, and schedule them again.

kill -9 of a worker together with its run, or a SIGTERM of the worker alone, leaves the run Running
for ever (known upstream). A run without a heartbeat for several beats is dead or as good as dead;
if it wakes after all, its lease is gone and the ledger refuses its writes.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow, get_client
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.events.filters import (
    EventFilter,
    EventNameFilter,
    EventOccurredFilter,
    EventResourceFilter,
)
from prefect.runtime import flow_run
from prefect.settings import get_current_settings
from prefect.states import AwaitingRetry, Crashed

from flows.occasion import run_name
from flows.parameters import ReapParameters

TAG = "optimizer"
HEARTBEAT = "prefect.flow-run.heartbeat"
BEATS = 3
"""Missing heartbeats that make a death: one may be lost, two may be late."""


@flow(name="reap", flow_run_name=run_name, persist_result=False)
async def reap(parameters: ReapParameters = ReapParameters()) -> dict[str, Any]:  # noqa: B008 - a frozen default that Prefect turns into the form
    """Mark silent runs as crashed and, where asked, schedule their retry."""
    beat_s = get_current_settings().flows.heartbeat_frequency
    if beat_s is None:
        return {"reaped": [], "reason": "runs send no heartbeats here, silence proves nothing"}
    silent = timedelta(seconds=max(parameters.silent_s, BEATS * beat_s))
    reaped = []
    async with get_client() as client:
        for run in await _running(client):
            if str(run.id) != str(flow_run.id) and await _is_dead(client, run, silent):
                await _bury(client, run, retry=parameters.retry)
                reaped.append(f"{run.name} ({run.id})")
    return {"reaped": reaped}


async def _running(client: PrefectClient) -> list[FlowRun]:
    return await client.read_flow_runs(
        flow_run_filter=FlowRunFilter(
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.RUNNING])),
            tags=FlowRunFilterTags(any_=[TAG]),
        )
    )


async def _is_dead(client: PrefectClient, run: FlowRun, silent: timedelta) -> bool:
    """Whether neither a state nor a heartbeat was heard of the run for so long."""
    limit = datetime.now(UTC) - silent
    if run.state is None or run.state.timestamp > limit:
        return False
    heard = await client.read_events(
        EventFilter(
            event=EventNameFilter(name=[HEARTBEAT]),
            resource=EventResourceFilter(id=[f"prefect.flow-run.{run.id}"]),
            occurred=EventOccurredFilter(since=limit),
        ),
        limit=1,
    )
    return not heard.events


async def _bury(client: PrefectClient, run: FlowRun, *, retry: bool) -> None:
    """Crashed, then scheduled again; a run that moved on meanwhile is left alone."""
    again = await client.read_flow_run(run.id)
    if again.state is None or again.state.type is not StateType.RUNNING:
        return
    message = "no heartbeat: the worker died"
    await client.set_flow_run_state(run.id, Crashed(message=message), force=True)
    if retry:
        await client.set_flow_run_state(run.id, AwaitingRetry(message=message), force=True)
