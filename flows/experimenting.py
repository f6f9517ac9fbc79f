"""Take the due steps of experiments, where there are any: an idle task costs every run its time."""

from flows.occasion import Occasion
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.experiments import Progress, are_any
from optimizer.loop.trials import Changed
from tasks.experiment import run_experiments
from tasks.options import opaque


def experiment(
    equipment: Equipment,
    acting: Acting,
    when: Occasion,
    *,
    changed: Changed | None = None,
    guard_only: bool = False,
) -> tuple[Progress, ...]:
    """Start, watch, split anew and end experiments; ``changed`` arms begin their evidence anew."""
    if not are_any(equipment, guard_only=guard_only):
        return ()
    return run_experiments(
        opaque(equipment), acting, when.as_of, opaque(changed or {}), guard_only=guard_only
    )
