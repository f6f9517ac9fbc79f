"""The first part of the hourly run and of the guard: pull, then aggregate."""

from dataclasses import dataclass

from flows.occasion import Occasion
from optimizer.errors import ConflictError, DataError, UnavailableError
from optimizer.loop.equipment import Equipment
from optimizer.loop.observe import AggregateReport, PullReport
from tasks.observe import compute_aggregates, pull_metrics
from tasks.options import opaque


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What came in, and which sources stayed away (name -> why)."""

    pulls: tuple[PullReport, ...]
    aggregated: AggregateReport
    absent: dict[str, str]


def observe(equipment: Equipment, when: Occasion) -> Observed:
    """Pull every source and aggregate what became complete.

    A source that stays away, or contradicts itself, degrades the run: its targets run out of fresh
    data and are held.
    """
    pulls: list[PullReport] = []
    absent: dict[str, str] = {}
    for source in equipment.sources:
        try:
            pulls.append(pull_metrics(opaque(source), opaque(equipment), max(when.as_of, when.now)))
        except (UnavailableError, ConflictError, DataError) as error:
            absent[source.name] = str(error)
    aggregated = compute_aggregates(opaque(equipment), when.as_of)
    return Observed(pulls=tuple(pulls), aggregated=aggregated, absent=absent)
