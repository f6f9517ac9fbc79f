"""Experiments by hand: what a person asks for, done at once under the target's lease."""

from collections.abc import Callable

from optimizer.errors import ConflictError
from optimizer.experiment.design import Design
from optimizer.experiment.life import Experiment, ExperimentId, ExperimentState, amend, draft, move
from optimizer.experiment.plan import Step, end
from optimizer.loop.act import take_lease
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.experiments import Progress, entry_of, note_designs, rows_of, take, tick


def start(equipment: Equipment, design: Design, *, acting: Acting) -> Progress:
    """Ask for the start of a configured experiment; it begins now, or when nothing is in its way.

    One that has ended is begun anew, with new evidence and new units first.

    Raises:
        ConflictError: it runs already, or another run is acting on the target.
        DataError, UnavailableError: as :func:`optimizer.loop.experiments.tick`.
    """
    note_designs(equipment, acting)
    store = equipment.ledger.experiments
    newest = rows_of(equipment, design)[-1]
    if newest.state.in_flight:
        msg = f"experiment {newest.id} of {newest.target} is {newest.state.value}"
        raise ConflictError(msg)
    reason = f"{acting.actor} asked for its start"
    if newest.state.is_final:
        newest = draft(design, acting.now, actor=acting.actor, turn=newest.turn + 1)
        store.create(newest, [entry_of(newest, newest, "note", acting, reason=reason)])
    if not newest.start_asked:
        asked = amend(newest, start_asked=True)
        store.update(asked, [entry_of(newest, asked, "note", acting, reason=reason)], lease=None)
    return tick(equipment, newest.id, acting=acting, as_of=acting.now)


def stop(
    equipment: Equipment, experiment_id: ExperimentId, reason: str, *, acting: Acting
) -> Experiment:
    """End it: the traffic goes back to the baseline, and nothing is proposed.

    Raises:
        ConflictError: it is ending already, or another run is acting on the target.
        UnavailableError: the gateway did not answer; the next run goes on from here.
    """

    def ended(found: Experiment) -> Step:
        if found.state is not ExperimentState.DRAFT:
            return end(found, ExperimentState.CANCELLED, reason, severity="")
        after = move(found, ExperimentState.CANCELLED, acting.now, reason=reason)
        return Step(after=after, kind="transition", reason=reason)

    return _by_hand(equipment, experiment_id, ended, acting)


def pause(
    equipment: Equipment, experiment_id: ExperimentId, reason: str, *, acting: Acting
) -> Experiment:
    """Take its traffic back for now and keep its evidence. Raises as :func:`stop`."""

    def paused(found: Experiment) -> Step:
        after = move(found, ExperimentState.PAUSED, acting.now, hold_reason=reason)
        return Step(after=after, kind="transition", reason=reason)

    return _by_hand(equipment, experiment_id, paused, acting)


def resume(
    equipment: Equipment, experiment_id: ExperimentId, reason: str, *, acting: Acting
) -> Experiment:
    """Give a paused experiment its share again. Raises as :func:`stop`."""

    def resumed(found: Experiment) -> Step:
        after = move(found, ExperimentState.RUNNING, acting.now, hold_reason="")
        return Step(after=after, kind="transition", reason=reason)

    return _by_hand(equipment, experiment_id, resumed, acting)


def _by_hand(
    equipment: Equipment,
    experiment_id: ExperimentId,
    step: Callable[[Experiment], Step],
    acting: Acting,
) -> Experiment:
    store = equipment.ledger.experiments
    lease = take_lease(equipment, store.get(experiment_id).target, acting)
    try:
        found = store.get(experiment_id)
        if found.ends_as is not None:
            msg = f"experiment {found.id} of {found.target} is ending: {found.reason}"
            raise ConflictError(msg)
        return take(equipment, found, step(found), acting=acting, lease=lease)
    finally:
        equipment.ledger.effects.release(lease)
