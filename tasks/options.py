"""How tasks are retried and what Prefect keeps of them: nothing but the line in its UI.

State lives in the ledger. Results are neither cached nor persisted, because a task with an effect
must look at the world again when it is retried.
"""

from typing import Any, TypeVar, cast

from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task
from prefect.utilities.annotations import quote

from optimizer.errors import UnavailableError

T = TypeVar("T")


def opaque(value: T) -> T:
    """The value, hidden from Prefect's walk through parameters: adapters are no inputs."""
    return cast("T", quote(value))


async def only_unavailable(_task: Task[Any, Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a failure is worth another try: only when a dependency did not answer."""
    try:
        await state.aresult()
    except UnavailableError:
        return True
    except BaseException:  # noqa: BLE001 - any other failure is final, whatever it is
        return False
    return False


PURE: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
"""A stage shown in the UI; retrying it cannot help."""

EFFECT: dict[str, Any] = {
    **PURE,
    "retries": 3,
    "retry_delay_seconds": [1, 5, 15],
    "retry_jitter_factor": 0.2,
    "retry_condition_fn": only_unavailable,
}
"""A task that touches the outside."""
