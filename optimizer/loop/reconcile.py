"""Reconcile: what the ledger wants against what each gateway has.

Every run begins here. Intents that a dead run left open are carried to their end; a target that was
never published is published; a split that someone changed by hand is reported, then repaired or
adopted as the policy says. Re-applying the wanted split also renews its freshness stamp.

Where nothing is in flight the configuration decides: a changed baseline is published, and the split
of a rollout that failed to deploy is given up for its snapshot. What looks wrong is looked at again
under the target's lease, because another run may just have moved it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from optimizer.allocation import Allocation, whole
from optimizer.decision import Decision, State
from optimizer.errors import ConflictError, DataError, OptimizerError, UnavailableError
from optimizer.evidence import DecisionId
from optimizer.experiment.life import IN_FLIGHT as TRYING
from optimizer.experiment.life import Experiment, trial_split
from optimizer.loop.act import drop, resume, take_lease
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.evaluate import IN_FLIGHT
from optimizer.loop.publishing import holds, publish, read_or_none, split_of
from optimizer.loop.snapshots import arms_for, intact_snapshot
from optimizer.ports import Intent, Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing met.

    kind: resumed, withheld (an effect a pause stopped), published, repaired, adopted, orphaned (a
    rollout whose target or arm left the configuration), skipped or failed.
    """

    target: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sight:
    """One target as it is seen: the split written down, the one in force, and who is in flight.

    ``baseline`` is the arm that should be in force while nobody is; ``trial`` the experiment that
    holds the target, beside which nobody is ``flying``.
    """

    target: str
    baseline: str
    written: Allocation | None
    found: Allocation | None
    problem: str
    flying: Decision | None
    trial: Experiment | None


def reconcile(equipment: Equipment, *, acting: Acting) -> tuple[Finding, ...]:
    """Make every configured target's gateway hold what the ledger wants.

    A target that cannot be reconciled is reported and never stops the others.
    """
    findings: list[Finding] = []
    open_targets = {intent.target for intent in equipment.ledger.effects.open_intents()}
    written = equipment.ledger.effects.desired_all()
    flying = {d.target: d for d in equipment.ledger.decisions.find(states=IN_FLIGHT)}
    trials = {x.target: x for x in equipment.ledger.experiments.find(states=list(TRYING))}
    baselines = equipment.baseline_arms()
    for target in (*equipment.targets, *sorted(open_targets - equipment.targets.keys())):
        try:
            if target in open_targets:
                findings += _resume_all(equipment, target, acting)
            else:
                sight = _look(
                    equipment,
                    target,
                    baselines[target],
                    written=written.get(target),
                    flying=flying.get(target),
                    trial=trials.get(target),
                )
                findings += _align(equipment, sight, acting)
        except ConflictError as error:
            findings.append(Finding(target=target, kind="skipped", detail=str(error)))
        except OptimizerError as error:
            findings.append(Finding(target=target, kind="failed", detail=str(error)))
    return (*findings, *_orphans(equipment, flying.values()))


def _orphans(equipment: Equipment, flying: Iterable[Decision]) -> list[Finding]:
    return [
        Finding(
            target=decision.target,
            kind="orphaned",
            detail=f"decision {decision.id} is {decision.state.value}, and {why}; its next step "
            "ends it",
        )
        for decision in flying
        if (why := equipment.departed(decision))
    ]


def _resume_all(equipment: Equipment, target: str, acting: Acting) -> list[Finding]:
    lease = take_lease(equipment, target, acting)
    try:
        found = []
        for intent in equipment.ledger.effects.open_intents(target):
            if intent.decision_id is None:
                _close(equipment, intent, acting, lease)
            else:
                after = resume(equipment, intent, acting=acting, lease=lease)
                if after.generation == intent.allocation.generation and _is_open(equipment, intent):
                    _renew(equipment, target, after)
                    found.append(Finding(target=target, kind="withheld", detail=intent.key))
                    continue
            found.append(Finding(target=target, kind="resumed", detail=intent.key))
        return found
    finally:
        equipment.ledger.effects.release(lease)


def _is_open(equipment: Equipment, intent: Intent) -> bool:
    still = equipment.ledger.effects.open_intents(intent.target)
    return any(other.key == intent.key for other in still)


def _renew(equipment: Equipment, target: str, decision: Decision) -> None:
    """Keep what the gateway holds fresh while the next step is withheld."""
    held = read_or_none(equipment, target)
    if held is not None:
        arms = arms_for(equipment, held, decision.id)
        equipment.gateway(target).apply(held, arms=arms)


def _align(equipment: Equipment, sight: _Sight, acting: Acting) -> list[Finding]:
    if _is_returning(sight):
        return []  # its next step restores the snapshot and proves it
    if _agrees(sight, _intended(equipment, sight)):
        _refresh(equipment, sight)
        return []
    lease = take_lease(equipment, sight.target, acting)
    try:
        again = _look_again(equipment, sight.target)
        if _is_returning(again) or equipment.ledger.effects.open_intents(sight.target):
            return []  # another run was acting; the next one sees how it ended
        intended = _intended(equipment, again)
        if _agrees(again, intended):
            _refresh(equipment, again)
            return []
        return [_mend(equipment, again, intended, acting, lease)]
    finally:
        equipment.ledger.effects.release(lease)


def _is_returning(sight: _Sight) -> bool:
    return sight.flying is not None and sight.flying.state is State.ROLLING_BACK


def _look(
    equipment: Equipment,
    target: str,
    baseline: str,
    *,
    written: Allocation | None,
    flying: Decision | None,
    trial: Experiment | None,
) -> _Sight:
    try:
        found = equipment.gateway(target).read(target)
        problem = "" if found is not None else "the gateway holds nothing"
    except DataError as error:
        found, problem = None, str(error)
    return _Sight(
        target=target,
        baseline=baseline,
        written=written,
        found=found,
        problem=problem,
        flying=flying if trial is None else None,  # beside an experiment a decision only waits
        trial=trial,
    )


def _look_again(equipment: Equipment, target: str) -> _Sight:
    """The target as it is now that nobody else may move it."""
    ledger = equipment.ledger
    trial = next(iter(ledger.experiments.find(states=list(TRYING), target=target)), None)
    if trial is not None and target not in equipment.targets:
        baseline = trial.baseline
    else:
        baseline = equipment.baseline_arm(target)
    return _look(
        equipment,
        target,
        baseline,
        written=ledger.effects.desired(target),
        flying=next(iter(ledger.decisions.find(states=IN_FLIGHT, target=target)), None),
        trial=trial,
    )


def bring_about(
    equipment: Equipment, target: str, *, acting: Acting, lease: Lease
) -> Allocation | None:
    """Make the gateway hold what should be in force, and see it; None = it is not proven.

    For whoever holds the target's lease and has just written down what is wanted.

    Raises:
        ConflictError: another run moved the target meanwhile.
        UnavailableError: the gateway did not answer, or refuses; the next run goes on from here.
    """
    for intent in equipment.ledger.effects.open_intents(target):
        if intent.decision_id is not None:
            return None
        _close(equipment, intent, acting, lease)
    sight = _look_again(equipment, target)
    intended = _intended(equipment, sight)
    if not _agrees(sight, intended):
        _mend(equipment, sight, intended, acting, lease)
    written = equipment.ledger.effects.desired(target)
    return written if holds_now(equipment, written) else None


def holds_now(equipment: Equipment, written: Allocation | None) -> bool:
    """Whether the gateway holds exactly that allocation."""
    return written is not None and holds(read_or_none(equipment, written.target), written)


def _intended(equipment: Equipment, sight: _Sight) -> Allocation:
    """The split that should be in force; its generation means nothing."""
    written, target, trial = sight.written, sight.target, sight.trial
    if written is not None and sight.flying is not None:
        return written
    if trial is not None and trial.holds_traffic:
        return trial_split(trial)
    if trial is not None:  # on its way back, paused or resting: what was there before it
        written = trial.before
    if written is None or written.baseline != sight.baseline:
        return whole(target, sight.baseline, generation=0)
    if written.decision_id is not None:  # a rollout that failed to deploy left its split behind
        return intact_snapshot(equipment, DecisionId(written.decision_id)).allocation
    if not _is_known(equipment, written):
        return whole(target, sight.baseline, generation=0)
    return written


def _is_known(equipment: Equipment, allocation: Allocation) -> bool:
    return {part.arm for part in allocation.slices} <= equipment.arms_of(allocation.target).keys()


def _agrees(sight: _Sight, intended: Allocation) -> bool:
    """Whether ledger and gateway both have the intended split, the gateway not a newer one."""
    written, found = sight.written, sight.found
    return (
        written is not None
        and found is not None
        and written.same_split(intended)
        and found.same_split(intended)
        and found.generation <= written.generation
    )


def _refresh(equipment: Equipment, sight: _Sight) -> None:
    """Apply what is written down once more, which renews its freshness stamp."""
    written = sight.written
    if written is not None:
        arms = arms_for(equipment, written, written.decision_id)
        equipment.gateway(sight.target).apply(written, arms=arms)


def _mend(
    equipment: Equipment, sight: _Sight, intended: Allocation, acting: Acting, lease: Lease
) -> Finding:
    """Write down and publish what should be in force, above every generation seen."""
    written, found = sight.written, sight.found
    drifted = written is not None and written.same_split(intended)
    adopted = found if drifted and _may_adopt(equipment, sight) else None
    base = intended if adopted is None else adopted
    # One that holds no traffic yet has no snapshot either: the split is not its own.
    owner = sight.flying if sight.flying is not None and sight.flying.state.holds_traffic else None
    allocation = replace(
        base,
        generation=1 + max((each.generation for each in (written, found) if each), default=0),
        decision_id=None if owner is None else owner.id,
    )
    if drifted:
        equipment.ledger.runs.audit(
            at=acting.now,
            actor=acting.actor,
            operation="gateway_drift",
            detail={
                "target": sight.target,
                "found": split_of(found),
                "wanted": split_of(written),
                "problem": sight.problem,
            },
        )
    step = "adopt" if adopted is not None else "repair" if drifted else "publish"
    _set(equipment, allocation, step, acting, lease)
    if not drifted:
        detail = f"{split_of(allocation)}"
        if len(allocation.slices) == 1:
            detail = f"all traffic on {allocation.baseline}"
        return Finding(target=sight.target, kind="published", detail=detail)
    detail = sight.problem or f"held {split_of(found)}, wanted {split_of(written)}"
    kind = "repaired" if adopted is None else "adopted"
    return Finding(target=sight.target, kind=kind, detail=detail)


def _may_adopt(equipment: Equipment, sight: _Sight) -> bool:
    """Whether what was set by hand may stay: nothing in flight, and every arm is configured."""
    found = sight.found
    return (
        sight.flying is None
        and sight.trial is None
        and equipment.policies[sight.target].adopt_drift
        and found is not None
        and _is_known(equipment, found)
    )


def _set(
    equipment: Equipment, allocation: Allocation, step: str, acting: Acting, lease: Lease
) -> None:
    """Write down, apply, read back and record an allocation that belongs to no transition."""
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


def _close(equipment: Equipment, intent: Intent, acting: Acting, lease: Lease) -> None:
    """Carry an intent that belongs to no transition to its end; adopting moves the baseline too."""
    allocation = intent.allocation
    newest = equipment.ledger.effects.desired(intent.target)
    if newest is not None and newest.generation > allocation.generation:
        drop(equipment, intent, "a newer split took its place", acting=acting, lease=lease)
        return
    readback = publish(equipment, allocation, allocation.decision_id)
    adopted = intent.move == "adopt" and readback.proven
    equipment.ledger.effects.finish(
        intent.key,
        status="applied" if readback.proven else "failed",
        read_back=readback.as_json(),
        decision=None,
        events=[],
        baseline=(intent.target, allocation.baseline) if adopted else None,
        at=equipment.present(acting),
        lease=lease,
    )
    if not readback.proven:
        msg = f"{intent.move} of {intent.target} is not proven: {readback.detail}"
        raise UnavailableError(msg)
