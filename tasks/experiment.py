"""The task of experiments: start, watch, split anew, and end what is tried side by side."""

from datetime import datetime

from prefect import task

from optimizer.loop import experiments, tuning
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.trials import Changed
from tasks.options import EFFECT


@task(name="run_experiments", timeout_seconds=600, **EFFECT)
def run_experiments(
    equipment: Equipment,
    acting: Acting,
    as_of: datetime,
    changed: Changed,
    *,
    guard_only: bool = False,
) -> tuple[experiments.Progress, ...]:
    """Take the due step of every experiment and draft the next trials; the guard does less."""
    done = experiments.run_all(
        equipment, acting=acting, as_of=as_of, changed=changed, guard_only=guard_only
    )
    if not guard_only:
        tuning.ask(equipment, acting)
    return done
