"""Tasks that look: one pull per source, one aggregation per run."""

from datetime import datetime

from prefect import task

from optimizer.loop import observe
from optimizer.loop.equipment import Equipment
from optimizer.ports import Source
from tasks.options import EFFECT


@task(
    name="pull_metrics", task_run_name="pull_metrics-{source.name}", timeout_seconds=1800, **EFFECT
)
def pull_metrics(source: Source, equipment: Equipment, now: datetime) -> observe.PullReport:
    """Pull everything behind the source's cursor into the spool."""
    return observe.pull(
        source,
        ledger=equipment.ledger,
        engine=equipment.engine,
        targets=equipment.targets,
        prices=equipment.book_prices(now),
        now=now,
    )


@task(name="compute_aggregates", timeout_seconds=1800, **EFFECT)
def compute_aggregates(equipment: Equipment, as_of: datetime) -> observe.AggregateReport:
    """Aggregate every closed window that has new rows, and the hours above it."""
    return observe.aggregate(
        equipment.ledger, equipment.engine, as_of=as_of, lateness=equipment.lateness
    )
