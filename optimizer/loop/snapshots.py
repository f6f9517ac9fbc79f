"""Snapshots: a target's exact configuration before its first change, sealed by a checksum.

Nothing is restored from a snapshot that does not hash to what was stored with it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, replace

from optimizer.allocation import Allocation
from optimizer.decision import Decision
from optimizer.errors import ConflictError, DataError
from optimizer.evidence import DecisionId
from optimizer.experiment.life import IN_FLIGHT as TRYING
from optimizer.loop.equipment import Acting, Equipment
from optimizer.ports import Snapshot


def seal(allocation: Allocation, arms: Mapping[str, Mapping[str, object]]) -> str:
    """SHA-256 over the split and the configurations of its arms, hex."""
    content = {"allocation": asdict(allocation), "arms": {k: dict(v) for k, v in arms.items()}}
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def take_snapshot(equipment: Equipment, decision: Decision, acting: Acting) -> Snapshot:
    """The target's exact configuration before its first change, with its checksum.

    Raises:
        ConflictError: the gateway does not hold what the ledger wants; reconcile first. Or an
            experiment holds the target, whose split is nothing to go back to.
    """
    for trial in equipment.ledger.experiments.find(states=list(TRYING), target=decision.target):
        msg = f"experiment {trial.id} is {trial.state.value} on {decision.target}; nothing starts"
        raise ConflictError(msg)
    held = equipment.gateway(decision.target).read(decision.target)
    desired = equipment.ledger.effects.desired(decision.target)
    if held is None or desired is None or not held.same_split(desired):
        msg = f"gateway and ledger disagree on {decision.target}; nothing starts before they agree"
        raise ConflictError(msg)
    arms = equipment.arms_of(decision.target)
    return Snapshot(
        id=f"s-{decision.id.removeprefix('d-')}",
        target=decision.target,
        decision_id=decision.id,
        allocation=held,
        arms=arms,
        taken_at=acting.now,
        sha256=seal(held, arms),
    )


def intact_snapshot(equipment: Equipment, decision_id: DecisionId) -> Snapshot:
    """The decision's snapshot as it was taken.

    Raises:
        DataError: there is none, or it is not what was stored.
    """
    snapshot = equipment.ledger.effects.snapshot(decision_id)
    if snapshot is None:
        msg = f"decision {decision_id} has no snapshot to go back to"
        raise DataError(msg)
    found = seal(snapshot.allocation, snapshot.arms)
    if found != snapshot.sha256 or snapshot.allocation.target != snapshot.target:
        msg = (
            f"snapshot {snapshot.id} of {snapshot.target} is damaged: it hashes to {found[:12]}, "
            f"not to {snapshot.sha256[:12]}; nothing is restored from it"
        )
        raise DataError(msg)
    return snapshot


def restored(allocation: Allocation, generation: int) -> Allocation:
    """The snapshot's split as a newer generation, which belongs to no decision."""
    return replace(allocation, generation=generation, decision_id=None)


def arms_for(
    equipment: Equipment, allocation: Allocation, decision_id: str | None
) -> dict[str, Mapping[str, object]]:
    """Configurations to publish with the split: the configured arms, and those it still names.

    An arm that left the configuration in mid-rollout is taken from the decision's snapshot, in an
    experiment from what was noted at its start.

    Raises:
        DataError: the snapshot is needed, and is missing or damaged.
    """
    arms: dict[str, Mapping[str, object]] = dict(equipment.arms_of(allocation.target))
    named = {allocation.baseline, *(part.arm for part in allocation.slices)}
    if named <= arms.keys():
        return arms
    if decision_id is None:
        kept = _tried(equipment, allocation.target)
    else:
        kept = intact_snapshot(equipment, DecisionId(decision_id)).arms
    return {**{name: kept[name] for name in sorted(named) if name in kept}, **arms}


def _tried(equipment: Equipment, target: str) -> Mapping[str, Mapping[str, object]]:
    """Configurations of the arms of the experiment that holds the target, as it began."""
    trials = equipment.ledger.experiments.find(states=list(TRYING), target=target)
    return trials[0].configs if trials else {}
