"""The task of experiments: start, watch, split anew, and end what is tried side by side."""

from collections.abc import Mapping
from datetime import datetime

from prefect import task

from optimizer.loop import experiments
from optimizer.loop.equipment import Acting, Equipment
from tasks.options import EFFECT


@task(name="run_experiments", timeout_seconds=600, **EFFECT)
def run_experiments(
    equipment: Equipment,
    acting: Acting,
    as_of: datetime,
    changed: Mapping[tuple[str, str], datetime],
    *,
    guard_only: bool = False,
) -> tuple[experiments.Progress, ...]:
    """Take the due step of every experiment; the guard only takes out what does harm."""
    return experiments.run_all(
        equipment, acting=acting, as_of=as_of, changed=changed, guard_only=guard_only
    )
