"""Experiments: carry out what the planner asks for, one step of one experiment, under its lease.

What an experiment wants is written into its row; the gateway is then made to hold it by the same
means as everywhere (write the intent, apply, read back, record). A run that dies in between leaves
a row whose split reconciling publishes, and the next run sees it in force and goes on.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from optimizer.allocation import Allocation
from optimizer.errors import ConflictError, OptimizerError
from optimizer.evidence import Scene, Winner
from optimizer.experiment.design import Design
from optimizer.experiment.life import (
    FINAL,
    Entry,
    Experiment,
    ExperimentId,
    ExperimentState,
    amend,
    draft,
    move,
)
from optimizer.experiment.life import IN_FLIGHT as TRYING
from optimizer.experiment.plan import Step, plan
from optimizer.loop.act import take_lease
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.publishing import read_or_none, split_of
from optimizer.loop.reconcile import bring_about
from optimizer.loop.tell import Message, tell
from optimizer.loop.trials import Changed, circumstances, same_question, still_counts
from optimizer.metrics import HOUR_S, at, ceil_s
from optimizer.ports import Lease

_LOG = logging.getLogger(__name__)

WINNERS_FRESH = timedelta(days=7)
"""How long a declared winner is proposed."""
OPEN = tuple(state for state in ExperimentState if not state.is_final)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What became of one experiment in a run.

    what: the kind of step that was taken, hold, skipped or failed.
    """

    experiment: Experiment
    what: str
    reason: str


def are_any(equipment: Equipment, *, guard_only: bool = False) -> bool:
    """Whether there is anything to do about experiments: one is configured, or is not over."""
    asked = bool(equipment.experiments or equipment.tunings) and not guard_only
    return asked or bool(_due(equipment, guard_only=guard_only))


def _due(equipment: Equipment, *, guard_only: bool) -> Sequence[Experiment]:
    """Those that a run looks at; a draft holds nothing that the guard could protect."""
    return equipment.ledger.experiments.find(states=list(TRYING if guard_only else OPEN))


def run_all(
    equipment: Equipment,
    *,
    acting: Acting,
    as_of: datetime,
    changed: Changed | None = None,
    guard_only: bool = False,
) -> tuple[Progress, ...]:
    """Take the due step of every experiment; one that fails never stops the others."""
    if not guard_only:
        note_designs(equipment, acting)
    done = []
    for experiment in _due(equipment, guard_only=guard_only):
        try:
            found = tick(
                equipment,
                experiment.id,
                acting=acting,
                as_of=as_of,
                changed=changed,
                guard_only=guard_only,
            )
        except ConflictError as error:
            found = Progress(experiment=experiment, what="skipped", reason=str(error))
        except OptimizerError as error:
            _LOG.error("experiment %s of %s: %s", experiment.id, experiment.target, error)
            found = Progress(experiment=experiment, what="failed", reason=str(error))
        done.append(found)
    return tuple(done)


def note_designs(equipment: Equipment, acting: Acting) -> None:
    """Make a draft of every configured experiment that there is none of yet."""
    for design in equipment.experiments:
        with suppress(ConflictError):  # another run moved it on; the next one sees how
            _note_design(equipment, design, acting)


def _note_design(equipment: Equipment, design: Design, acting: Acting) -> None:
    store, own = equipment.ledger.experiments, rows_of(equipment, design)
    # One that left the configuration before it began, and came back.
    gone = bool(own) and own[-1].state.is_final and own[-1].started_at is None
    if not own or gone:
        turn = own[-1].turn + 1 if gone else 1
        new = draft(design, acting.now, actor=acting.actor, turn=turn)
        store.create(new, [entry_of(new, new, "note", acting, reason="it is configured")])
    elif own[-1].state is ExperimentState.DRAFT and own[-1].design != design:
        store.update(amend(own[-1], design=design), [], lease=None)


def rows_of(equipment: Equipment, design: Design) -> list[Experiment]:
    """Every experiment that was made of a design, oldest first."""
    rows = equipment.ledger.experiments.find(target=design.target)
    return sorted(
        (each for each in rows if same_question(each.design, design)), key=lambda row: row.turn
    )


def tick(
    equipment: Equipment,
    experiment_id: ExperimentId,
    *,
    acting: Acting,
    as_of: datetime,
    changed: Changed | None = None,
    guard_only: bool = False,
) -> Progress:
    """Take the due step of one experiment and make the gateway hold what it then wants.

    Raises:
        KeyError: no such experiment.
        ConflictError: another run is acting on the target.
        DataError: its rows contradict themselves; nothing was moved.
        UnavailableError: the gateway did not answer; the next run goes on from here.
    """
    ledger = equipment.ledger
    lease = take_lease(equipment, ledger.experiments.get(experiment_id).target, acting)
    try:
        experiment = ledger.experiments.get(experiment_id)
        if experiment.state.in_flight:
            experiment = _align(equipment, experiment, acting, lease)
        met = circumstances(
            equipment,
            experiment,
            acting=acting,
            as_of=as_of,
            changed=changed or {},
            guard_only=guard_only,
        )
        step = plan(experiment, met)
        if step is None:
            said = "" if met.standing is None else met.standing.sentence
            reason = experiment.hold_reason or said or experiment.reason
            return Progress(experiment=experiment, what="hold", reason=reason)
        after = take(equipment, experiment, step, acting=acting, lease=lease)
        return Progress(experiment=after, what=step.kind, reason=step.reason)
    finally:
        ledger.effects.release(lease)


def take(
    equipment: Equipment, experiment: Experiment, step: Step, *, acting: Acting, lease: Lease
) -> Experiment:
    """Write the step down, tell people, and make the gateway hold what is then wanted."""
    after = step.after
    if experiment.state is ExperimentState.DRAFT and after.state is ExperimentState.RUNNING:
        after = _begun(equipment, after)
    entry = entry_of(experiment, after, step.kind, acting, reason=step.reason)
    equipment.ledger.experiments.update(after, [entry], lease=lease)
    if step.severity:
        tell(equipment, _message(after, step.reason, step.severity))
    return _bring(equipment, after, acting, lease) if after.state.in_flight else after


def _align(
    equipment: Equipment, experiment: Experiment, acting: Acting, lease: Lease
) -> Experiment:
    """Finish what an earlier run wrote down and did not see in force."""
    written = equipment.ledger.effects.desired(experiment.target)
    waits = experiment.holds_traffic and experiment.running_since is None
    same = written is not None and written.generation == experiment.generation
    if same and not waits and experiment.ends_as is None:
        return experiment
    return _bring(equipment, experiment, acting, lease)


def _bring(
    equipment: Equipment, experiment: Experiment, acting: Acting, lease: Lease
) -> Experiment:
    """Make the gateway hold what the experiment wants, and note it once that is seen."""
    proven = bring_about(equipment, experiment.target, acting=acting, lease=lease)
    noted = proven is not None and proven.generation == experiment.generation
    waits = experiment.ends_as is not None or experiment.running_since is None
    if proven is None or (noted and not waits):
        return experiment
    return _note_split(equipment, experiment, proven, acting, lease)


def _note_split(
    equipment: Equipment,
    experiment: Experiment,
    proven: Allocation,
    acting: Acting,
    lease: Lease,
) -> Experiment:
    """What follows from a split that was seen in force: evidence counts, or the end is reached."""
    present = equipment.present(acting)
    to, kind = experiment.ends_as, "split"
    if to is not None:
        after = move(experiment, to, present, generation=proven.generation, ends_as=None)
        kind, reason = "transition", experiment.reason
    else:
        changes: dict[str, object] = {"generation": proven.generation}
        if experiment.holds_traffic and experiment.running_since is None:
            first_hour = at(ceil_s(present, HOUR_S))
            changes |= {"running_since": present, "evidence_from": first_hour}
        after = amend(experiment, **changes)
        reason = "the split is in force"
    evidence = {"split": split_of(proven)}
    entry = entry_of(experiment, after, kind, acting, reason=reason, evidence=evidence)
    equipment.ledger.experiments.update(after, [entry], lease=lease)
    return after


def _begun(equipment: Equipment, after: Experiment) -> Experiment:
    """The experiment with the split to return to and its arms as they are.

    Raises:
        ConflictError: the gateway holds nothing that could be returned to.
    """
    held = read_or_none(equipment, after.target)
    if held is None:
        msg = f"the gateway of {after.target} holds nothing that could be returned to"
        raise ConflictError(msg)
    arms = equipment.arms_of(after.target)
    return replace(
        after,
        before=held,
        baseline=equipment.baseline_arm(after.target),
        configs={name: arms[name] for name in {*after.design.arms, held.baseline} & arms.keys()},
    )


def entry_of(
    before: Experiment,
    after: Experiment,
    kind: str,
    acting: Acting,
    *,
    reason: str,
    evidence: Mapping[str, object] | None = None,
) -> Entry:
    """The log entry of one change; the ledger numbers and chains it."""
    wanted = {
        "shares": dict(zip(after.design.arms, after.shares, strict=False)),
        "dropped": list(after.dropped),
        "evidence_from": after.evidence_from,
        "winner": after.winner,
        "estimates": after.estimates,
    }
    return Entry(
        experiment_id=after.id,
        seq=-1,
        at=acting.now,
        kind=kind,
        from_state=before.state,
        to_state=after.state,
        actor=acting.actor,
        reason=reason,
        run_id=acting.run_id,
        evidence={**wanted, **dict(evidence or {})},
    )


def _message(experiment: Experiment, reason: str, severity: str) -> Message:
    state = experiment.ends_as or experiment.state
    undo = "" if state in FINAL else f" Stop: llmopt experiments stop {experiment.id} --reason …"
    return Message(
        title=f"{experiment.target}: experiment {experiment.name} is {state.value}",
        body=f"{reason}.{undo}",
        severity=severity,
        decision_id=None,
    )


def with_experiments(equipment: Equipment, scene: Scene) -> Scene:
    """The scene with what experiments hold and what they found, as it is now.

    What one found counts while it is configured, and winner and baseline are what they were.
    """
    store = equipment.ledger.experiments
    held = {each.target: str(each.id) for each in store.find(states=list(TRYING))}
    ended = store.find(states=[ExperimentState.COMPLETED])
    found = [
        winner
        for each in ended
        if (winner := _winner(each, since=scene.now - WINNERS_FRESH))
        and still_counts(equipment, each)
    ]
    return replace(
        scene, experiments=held, winners=tuple(sorted(found, key=lambda each: each.ended_at))
    )


def _winner(experiment: Experiment, *, since: datetime) -> Winner | None:
    ended, start = experiment.ended_at, experiment.evidence_from
    if ended is None or start is None or ended < since:
        return None
    if experiment.winner is None or experiment.winner == experiment.baseline:
        return None
    return Winner(
        experiment=experiment.id,
        rule=experiment.design.rule.value,
        target=experiment.target,
        arm=experiment.winner,
        baseline=experiment.baseline,
        since=start,
        ended_at=ended,
        reason=experiment.reason,
        estimates=experiment.estimates,
    )
