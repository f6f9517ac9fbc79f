"""Tasks of the daily housekeeping; each says what it removed."""

from datetime import datetime, timedelta

from prefect import task

from optimizer.loop import keep
from optimizer.loop.equipment import Equipment
from tasks.options import EFFECT, PURE


@task(name="prune_aggregates", timeout_seconds=1800, **EFFECT)
def prune_aggregates(
    equipment: Equipment, as_of: datetime, *, grains_days: int, hours_days: int, days_days: int
) -> dict[str, int]:
    """Sum hours into days, then delete what is past its keeping; returns rows removed."""
    return keep.prune(
        equipment,
        as_of,
        grains=timedelta(days=grains_days),
        hours=timedelta(days=hours_days),
        days=timedelta(days=days_days),
    )


@task(name="compact_spool", timeout_seconds=1800, **EFFECT)
def compact_spool(equipment: Equipment, as_of: datetime) -> dict[str, int]:
    """Merge small files, forget rows whose labels are past their horizon, sweep orphans."""
    return keep.compact(equipment, as_of)


@task(name="verify_chain", timeout_seconds=1800, **PURE)
def verify_chain(equipment: Equipment) -> list[str]:
    """Ids of decisions and experiments whose log does not hash to what is stored."""
    return [*keep.broken_chains(equipment), *keep.broken_experiments(equipment)]
