"""Reconcile: what the ledger wants against what each gateway holds.

Every run begins here. Intents that a dead run left open are carried to their end; a target that was
never published is published; a split that someone changed by hand is reported, then repaired or
adopted as the policy says. Re-applying the wanted split also renews its freshness stamp.
"""

from dataclasses import dataclass

from optimizer.allocation import Allocation, whole
from optimizer.errors import ConflictError, DataError, UnavailableError
from optimizer.loop.act import Readback, publish, resume, split_of, take_lease
from optimizer.loop.equipment import Acting, Equipment
from optimizer.ports import Intent, Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing met: kind is resumed, published, repaired, adopted, skipped or failed."""

    target: str
    kind: str
    detail: str


def reconcile(equipment: Equipment, *, acting: Acting) -> tuple[Finding, ...]:
    """Make every configured target's gateway hold what the ledger wants.

    A target that cannot be reconciled is reported and never stops the others.
    """
    findings: list[Finding] = []
    open_targets = {intent.target for intent in equipment.ledger.effects.open_intents()}
    desired = equipment.ledger.effects.desired_all()
    for target in equipment.targets:
        try:
            if target in open_targets:
                findings += _resume_all(equipment, target, acting)
            else:
                findings += _align(equipment, target, desired.get(target), acting)
        except ConflictError as error:
            findings.append(Finding(target=target, kind="skipped", detail=str(error)))
        except (UnavailableError, DataError) as error:
            findings.append(Finding(target=target, kind="failed", detail=str(error)))
    return tuple(findings)


def _resume_all(equipment: Equipment, target: str, acting: Acting) -> list[Finding]:
    lease = take_lease(equipment, target, acting)
    try:
        found = []
        for intent in equipment.ledger.effects.open_intents(target):
            if intent.decision_id is None:
                _close(equipment, intent, acting, lease)
            else:
                resume(equipment, intent, acting=acting, lease=lease)
            found.append(Finding(target=target, kind="resumed", detail=intent.key))
        return found
    finally:
        equipment.ledger.effects.release(lease)


def _align(
    equipment: Equipment, target: str, wanted: Allocation | None, acting: Acting
) -> list[Finding]:
    gateway = equipment.gateway(target)
    if wanted is None:
        arm = equipment.baseline_arms()[target]
        _set(equipment, whole(target, arm, generation=1), "publish", acting)
        return [Finding(target=target, kind="published", detail=f"all traffic on {arm}")]
    try:
        found = gateway.read(target)
        problem = "" if found is not None else "the gateway holds nothing"
    except DataError as error:
        found, problem = None, str(error)
    if found is not None and found.same_split(wanted) and found.generation <= wanted.generation:
        gateway.apply(wanted, arms=equipment.arms_of(target))
        return []
    return [_mend(equipment, wanted, found, problem, acting)]


def _mend(
    equipment: Equipment,
    wanted: Allocation,
    found: Allocation | None,
    problem: str,
    acting: Acting,
) -> Finding:
    """Repair a drifted split, or adopt it where the policy allows and nothing is in flight."""
    target = wanted.target
    seen = 0 if found is None else found.generation
    generation = max(wanted.generation, seen) + 1
    policy = equipment.policies[target]
    adopt = policy.adopt_drift and found is not None and wanted.decision_id is None
    base = found if adopt and found is not None else wanted
    allocation = Allocation(
        target=target,
        generation=generation,
        salt=base.salt,
        baseline=base.baseline,
        slices=base.slices,
        decision_id=wanted.decision_id,
    )
    _set(equipment, allocation, "adopt" if adopt else "repair", acting)
    detail = problem or f"held {split_of(found)}, wanted {split_of(wanted)}"
    equipment.ledger.runs.audit(
        at=acting.now,
        actor=acting.actor,
        operation="gateway_drift",
        detail={"target": target, "found": split_of(found), "wanted": split_of(wanted)},
    )
    return Finding(target=target, kind="adopted" if adopt else "repaired", detail=detail)


def _set(equipment: Equipment, allocation: Allocation, step: str, acting: Acting) -> None:
    """Write down, apply, read back and record an allocation that belongs to no transition."""
    lease = take_lease(equipment, allocation.target, acting)
    try:
        intent = Intent(
            key=f"{allocation.target}:{step}:{allocation.generation}",
            decision_id=None,
            target=allocation.target,
            move=step,
            allocation=allocation,
            then_state=None,
            then_stage=None,
            reason=step,
            created_at=acting.now,
        )
        stored = equipment.ledger.effects.begin(intent, None, [], lease=lease)
        _close(equipment, stored, acting, lease)
    finally:
        equipment.ledger.effects.release(lease)


def _close(equipment: Equipment, intent: Intent, acting: Acting, lease: Lease) -> None:
    readback: Readback = publish(equipment, intent.allocation)
    equipment.ledger.effects.finish(
        intent.key,
        status="applied" if readback.proven else "failed",
        read_back=readback.as_json(),
        decision=None,
        events=[],
        baseline=None,
        at=acting.now,
        lease=lease,
    )
    if not readback.proven:
        msg = f"{intent.move} of {intent.target} is not proven: {readback.detail}"
        raise UnavailableError(msg)
