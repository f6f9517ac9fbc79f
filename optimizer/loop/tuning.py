"""Tuning: the points that were asked for are arms of their targets, and the next one is asked for.

A point becomes an arm with the ledger's row of its trial, and stays one while its values lie in the
operator's bounds: nothing else remembers it, and a point that nobody asked for is known to nobody.
The study is no more than those rows; what follows after a trial is drafted at the end of the run
that saw it end, and lives from then on like every experiment.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from optimizer.errors import ConflictError
from optimizer.experiment.design import Design, Rule
from optimizer.experiment.grid import Tuning, arm_at
from optimizer.experiment.life import Experiment, draft
from optimizer.experiment.tuning import begun, next_arm
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.experiments import WINNERS_FRESH, entry_of
from optimizer.loop.trials import same_question
from optimizer.strategies.winners import broken_guardrail
from optimizer.targets import Arm, Target


def tuned(equipment: Equipment) -> Equipment:
    """The equipment as the ledger's trials make it: their points are arms, their designs are asked.

    Raises:
        UnavailableError: the database does not answer.
    """
    targets, trials = dict(equipment.targets), {}
    for tuning in equipment.tunings:
        rows = _trials(equipment, tuning)
        target = targets[tuning.target]
        targets[tuning.target] = replace(target, arms=(*target.arms, *_arms(tuning, target, rows)))
        trials[tuning.target] = rows
    if not any(trials.values()):
        return equipment
    known = replace(equipment, targets=targets)
    asked = list(equipment.experiments)
    if equipment.suggest is not None:
        in_force = known.baseline_arms()
        for tuning in equipment.tunings:
            rows = trials[tuning.target]
            asked += _designs(tuning, rows, in_force[tuning.target], asked)
    return replace(known, experiments=tuple(asked))


def ask(equipment: Equipment, acting: Acting) -> tuple[Experiment, ...]:
    """Draft the next trial of every target that has none open; the drafts that are new.

    None follows while a winner waits for its rollout: what was found goes first.
    """
    if equipment.suggest is None:
        return ()
    found = []
    for tuning in equipment.tunings:
        design = _next(equipment, tuning, acting)
        if design is not None:
            rows = _trials(equipment, tuning)
            turns = [row.turn for row in rows if same_question(row.design, design)]
            turn = max(turns, default=0) + 1
            new = draft(design, acting.now, actor=acting.actor, turn=turn)
            entry = entry_of(new, new, "note", acting, reason="tuning asks for it")
            with suppress(ConflictError):  # another run drafted it; the next one sees it
                if equipment.ledger.experiments.create(new, [entry]):
                    found.append(new)
    return tuple(found)


def _trials(equipment: Equipment, tuning: Tuning) -> list[Experiment]:
    rows = equipment.ledger.experiments.find(target=tuning.target)
    return [row for row in rows if row.design.rule is Rule.TUNING]


def _arms(tuning: Tuning, target: Target, rows: Sequence[Experiment]) -> list[Arm]:
    """The points of the trials that are no arms of the target yet, oldest first."""
    known, found = {arm.name for arm in target.arms}, []
    for name in dict.fromkeys(arm for row in rows for arm in row.design.arms):
        point = tuning.spelt(name)
        if name not in known and point is not None:
            found.append(arm_at(target.arm(tuning.base), point))
    return found


def _designs(
    tuning: Tuning, rows: Sequence[Experiment], in_force: str, asked: Sequence[Design]
) -> list[Design]:
    """Designs of the trials that would be asked for today in the same words."""
    found: list[Design] = []
    for row in rows:
        # One that was cancelled before it began is forgotten: it may be asked for again.
        if row.state.is_final and row.started_at is None:
            continue
        arm = row.design.arms[-1]
        today = tuning.trial(in_force, arm) if arm != in_force else None
        if today == row.design and today not in (*asked, *found):
            found.append(today)
    return found


def _next(equipment: Equipment, tuning: Tuning, acting: Acting) -> Design | None:
    rows = _trials(equipment, tuning)
    if any(not row.state.is_final for row in rows):
        return None
    target, policy = equipment.targets[tuning.target], equipment.policies[tuning.target]
    in_force = equipment.baseline_arm(tuning.target)
    if in_force != tuning.base and tuning.spelt(in_force) is None:
        return None
    trials = begun(tuning, rows, equipment.arms_of(tuning.target))
    if trials and _waits(equipment, trials[-1], in_force, acting):
        return None
    base = target.arm(tuning.base)
    suggest = equipment.suggest
    if suggest is None or not base.enabled:
        return None
    arm = next_arm(tuning, base, trials, policy.guardrails, suggest)
    return None if arm is None else tuning.trial(in_force, arm)


def _waits(equipment: Equipment, trial: Experiment, in_force: str, acting: Acting) -> bool:
    """Whether the newest trial found a better arm that may yet be tried in a rollout."""
    ended, since = trial.ended_at, acting.now - WINNERS_FRESH
    if trial.winner in {None, trial.baseline} or trial.baseline != in_force:
        return False
    if ended is None or ended < since:
        return False
    if broken_guardrail(equipment.policies[trial.target].guardrails, trial.estimates):
        return False
    return not any(
        (past.target, past.arm) == (trial.target, trial.winner) and past.ended_at >= ended
        for past in equipment.ledger.decisions.past(since=since)
    )
