"""Keep: roll hours up into days, forget what is past its keeping, check the chain of events.

Decisions, their events and the audit log are kept for good; aggregates and checked rows are not.
"""

from datetime import datetime, timedelta

from optimizer.engine.spool import DATASETS, QUARANTINE
from optimizer.evidence import DecisionId
from optimizer.experiment.life import IN_FLIGHT as TRYING
from optimizer.experiment.life import ExperimentId
from optimizer.loop.equipment import Equipment
from optimizer.loop.evaluate import IN_FLIGHT
from optimizer.loop.observe import roll_days
from optimizer.metrics import DAY_S, GRAIN_S, HOUR_S, floor_s
from optimizer.recorded import is_chain

QUARANTINE_DAYS = 30
ORPHAN_GRACE = timedelta(hours=6)
"""Longer than any intake takes: a file is written before the ledger names it."""
_EVER_S = 1 << 40
_MANY_FILES = 8
"""Files of one dataset and day from which merging them pays."""


def prune(
    equipment: Equipment, as_of: datetime, *, grains: timedelta, hours: timedelta, days: timedelta
) -> dict[str, int]:
    """Sum closed hours into days, then delete older aggregates; rows deleted per width.

    The evidence of what is in flight is kept, however long it has been in flight.
    """
    roll_days(equipment.ledger, as_of=as_of)
    store = equipment.ledger.aggregates
    needed = [
        floor_s(decision.evidence_from, DAY_S)
        for decision in equipment.ledger.decisions.find(states=IN_FLIGHT)
        if decision.evidence_from is not None
    ]
    trials = [
        floor_s(trial.running_since, DAY_S)
        for trial in equipment.ledger.experiments.find(states=list(TRYING))
        if trial.running_since is not None
    ]
    oldest = {GRAIN_S: min([*needed, *trials])} if [*needed, *trials] else {}
    oldest |= {HOUR_S: min(trials)} if trials else {}
    return {
        name: store.prune(
            width_s, before_s=min(floor_s(as_of - age, DAY_S), oldest.get(width_s, _EVER_S))
        )
        for name, width_s, age in (
            ("grains", GRAIN_S, grains),
            ("hours", HOUR_S, hours),
            ("days", DAY_S, days),
        )
    }


def compact(equipment: Equipment, as_of: datetime) -> dict[str, int]:
    """Forget rows whose labels can no longer come, merge small files, delete orphans.

    The manifest changes first: a file is deleted only when no manifest names it, after a grace that
    is longer than any reader needs it.
    """
    intake = equipment.ledger.intake
    limit_s = floor_s(as_of - equipment.feedback_horizon - timedelta(days=1), DAY_S)
    # Rows of a window that was never aggregated are kept, however old they are.
    waiting_s = min(intake.dirty(until_s=_EVER_S), default=_EVER_S)
    forgotten = merged = 0
    for dataset in DATASETS:
        keep_s = limit_s - (QUARANTINE_DAYS * DAY_S if dataset == QUARANTINE else 0)
        files = intake.files(dataset, start_s=-_EVER_S, end_s=_EVER_S)
        old = [file.name for file in files if file.max_s < min(keep_s, waiting_s)]
        intake.forget(old)
        equipment.engine.spool.touch(old)
        forgotten += len(old)
        merged += _merge(equipment, dataset, as_of, keep_s)
    known = [
        file.name
        for dataset in DATASETS
        for file in intake.files(dataset, start_s=-_EVER_S, end_s=_EVER_S)
    ]
    swept = equipment.engine.spool.sweep(known, now=as_of, grace=ORPHAN_GRACE)
    return {"forgotten": forgotten, "merged": merged, "swept": len(swept)}


def _merge(equipment: Equipment, dataset: str, as_of: datetime, keep_s: int) -> int:
    """Merge each closed day's small files into one; how many files went."""
    intake = equipment.ledger.intake
    today_s = floor_s(as_of, DAY_S)
    merged = 0
    for day_s in range(keep_s, today_s, DAY_S):
        files = [
            file
            for file in intake.files(dataset, start_s=day_s, end_s=day_s + DAY_S)
            if day_s <= file.min_s and file.max_s < day_s + DAY_S
        ]
        if len(files) < _MANY_FILES:
            continue
        whole = equipment.engine.compact(files)
        intake.replace([file.name for file in files], whole)
        equipment.engine.spool.touch([file.name for file in files])
        merged += len(files) - len(whole)
    return merged


def broken_chains(equipment: Equipment) -> list[DecisionId]:
    """Decisions whose stored log does not hash to what is stored, or ends in another state."""
    decisions = equipment.ledger.decisions.find()
    return [decision.id for decision in decisions if not chain_holds(equipment, decision.id)]


def chain_holds(equipment: Equipment, decision_id: DecisionId) -> bool:
    """Whether every event hashes to its stored hash over its predecessor's, up to today's state.

    Entries cut off the end are seen by the state the decision has reached without them.
    """
    decisions = equipment.ledger.decisions
    return is_chain(decisions.events(decision_id), ends_in=decisions.get(decision_id).state)


def broken_experiments(equipment: Equipment) -> list[ExperimentId]:
    """Experiments whose stored log does not hash to what is stored, or ends in another state."""
    store = equipment.ledger.experiments
    return [
        each.id
        for each in store.find()
        if not is_chain(store.entries(each.id), ends_in=store.get(each.id).state)
    ]
