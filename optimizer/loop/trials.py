"""What an experiment meets: its hours, harm, budget, and what keeps it still. Reads only."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from optimizer.allocation import SliceName
from optimizer.cycle import Fate
from optimizer.experiment.design import Design
from optimizer.experiment.harm import harmed
from optimizer.experiment.life import IN_FLIGHT as TRYING
from optimizer.experiment.life import Experiment, ExperimentState
from optimizer.experiment.plan import Circumstances
from optimizer.experiment.standing import Standing, matured_until, standing
from optimizer.loop.decide import ALL
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.evaluate import IN_FLIGHT, data_until, delivered_until
from optimizer.loop.publishing import read_or_none
from optimizer.loop.restarts import TRANSITION
from optimizer.metrics import DAY_S, GRAIN_S, HOUR_S, at, ceil_s, floor_s

URGENT_MEMORY = timedelta(hours=2)
"""How long an urgent proposal that was refused ends the experiment in its way."""

Changed = Mapping[tuple[str, str], datetime]


def circumstances(
    equipment: Equipment,
    experiment: Experiment,
    *,
    acting: Acting,
    as_of: datetime,
    changed: Changed,
    guard_only: bool,
) -> Circumstances:
    """All that the planner asks about one experiment.

    Raises:
        DataError: its stored rows contradict themselves; it stays as it is.
    """
    gone = departed(equipment, experiment)
    if gone or experiment.ends_as is not None:
        return Circumstances(now=acting.now, harmed={}, departed=gone, guard_only=guard_only)
    if experiment.state is ExperimentState.DRAFT:
        return Circumstances(
            now=acting.now,
            harmed={},
            blocked=_blocked(equipment, experiment) or _outranked(equipment, experiment, as_of),
            still=_still(equipment, experiment.target, acting.now),
            guard_only=guard_only,
        )
    return Circumstances(
        now=acting.now,
        standing=None if guard_only else standing_of(equipment, experiment, as_of=as_of),
        harmed=_harmed(equipment, experiment, as_of),
        departed="" if guard_only else _outranked(equipment, experiment, as_of),
        still=_still(equipment, experiment.target, acting.now),
        spent_usd=_spent_usd(equipment, experiment, acting.now),
        restart=_restart(experiment, changed),
        guard_only=guard_only,
    )


def standing_of(equipment: Equipment, experiment: Experiment, *, as_of: datetime) -> Standing:
    """Where an experiment stands at that moment, by its closed, delivered and mature hours."""
    target = experiment.target
    delivered = delivered_until(equipment, [target], as_of)[target]
    until = matured_until(
        at(floor_s(delivered, HOUR_S)),
        as_of,
        equipment.policies[target].label_maturity,
        experiment.design.metric,
    )
    start = experiment.evidence_from or until
    hours = equipment.ledger.aggregates.load(
        HOUR_S,
        start_s=floor_s(min(start, until), HOUR_S),
        end_s=floor_s(until, HOUR_S),
        targets=[target],
        slices=[SliceName.EXPERIMENT.value],
    )
    return standing(experiment, hours, now=as_of, until=until)


def departed(equipment: Equipment, experiment: Experiment) -> str:
    """Why the experiment can no longer be carried out as configured; empty while it can."""
    name, label = experiment.target, f"experiment {experiment.name}"
    target = equipment.targets.get(name)
    if target is None or name not in equipment.policies:
        return f"target {name} left the configuration"
    if not _is_asked(equipment, experiment):
        return f"{label} left the configuration, or was changed in it"
    known = {arm.name: arm.enabled for arm in target.arms}
    for arm in experiment.design.arms:
        if not known.get(arm, False):
            return f"arm {arm} of {name} was disabled or left the configuration"
    return _unlike(equipment, experiment)


def still_counts(equipment: Equipment, experiment: Experiment) -> bool:
    """Whether what an ended experiment found holds: it is asked still, of unaltered arms."""
    compared = [arm for arm in (experiment.winner, experiment.baseline) if arm]
    return _is_asked(equipment, experiment) and not _altered(equipment, experiment, compared)


def _is_asked(equipment: Equipment, experiment: Experiment) -> bool:
    """Whether the experiment is configured as it was."""
    return any(same_question(design, experiment.design) for design in equipment.experiments)


def same_question(one: Design, other: Design) -> bool:
    """Whether two designs differ at most in who starts them."""
    return replace(one, auto=False) == replace(other, auto=False)


def _unlike(equipment: Equipment, experiment: Experiment) -> str:
    """Why the evidence is void: the arms, or the baseline, are not what they were at the start."""
    if not experiment.state.in_flight:
        return ""
    in_force = equipment.baseline_arm(experiment.target)
    if in_force != experiment.baseline:
        return f"{in_force} is in force now; the experiment began against {experiment.baseline}"
    for arm in _altered(equipment, experiment, experiment.design.arms):
        return (
            f"the configuration of arm {arm} of {experiment.target} changed during the "
            "experiment, so what was measured says nothing of it"
        )
    return ""


def _altered(equipment: Equipment, experiment: Experiment, arms: Sequence[str]) -> list[str]:
    """Those of the arms that are no longer configured as they were when the experiment began."""
    today = equipment.arms_of(experiment.target)
    return [arm for arm in arms if today.get(arm) != dict(experiment.configs.get(arm, {}))]


def _outranked(equipment: Equipment, experiment: Experiment, as_of: datetime) -> str:
    """Why the experiment must give way: a safety reason cannot wait for it."""
    recent = equipment.ledger.decisions.proposals(since=as_of - URGENT_MEMORY)
    for proposal, outcome, _ in recent:
        waits = outcome == Fate.TARGET_IN_FLIGHT.value
        # What a person has yet to agree to is no reason to end anything.
        must = proposal.urgent and not proposal.asks
        if proposal.target == experiment.target and must and waits:
            return (
                f"it gives way to the urgent change to {proposal.candidate}: {proposal.rationale}"
            )
    return ""


def _blocked(equipment: Equipment, experiment: Experiment) -> str:
    """Why the experiment cannot start now."""
    target, ledger = experiment.target, equipment.ledger
    for other in ledger.experiments.find(states=list(TRYING), target=target):
        return f"experiment {other.id} is in flight"
    for decision in ledger.decisions.find(states=IN_FLIGHT, target=target):
        return f"decision {decision.id} is in flight"
    in_force = equipment.baseline_arm(target)
    if in_force not in experiment.design.arms:
        return f"the baseline in force, {in_force}, is none of its arms"
    written, held = ledger.effects.desired(target), read_or_none(equipment, target)
    if written is None or held is None or not held.same_split(written):
        return f"gateway and ledger disagree on {target}"
    return ""


def _still(equipment: Equipment, target: str, now: datetime) -> str:
    """Why nothing is started and no new split is published."""
    pauses = equipment.ledger.effects.paused()
    for name in (ALL, target):
        if name in pauses:
            return f"paused: {pauses[name]}"
    freeze = equipment.policies[target].frozen_at(now)
    if freeze is not None:
        return f"frozen until {freeze.end.isoformat()} {freeze.reason}".rstrip()
    return ""


def _harmed(equipment: Equipment, experiment: Experiment, as_of: datetime) -> dict[str, str]:
    since = experiment.running_since
    if since is None:
        return {}
    grains = equipment.ledger.aggregates.load(
        GRAIN_S,
        start_s=floor_s(since),
        end_s=int(data_until(equipment, as_of).timestamp()),
        targets=[experiment.target],
        slices=[SliceName.EXPERIMENT.value],
    )
    alpha = equipment.policies[experiment.target].alpha_rollback
    return harmed(experiment, grains, alpha=alpha)


def _spent_usd(equipment: Equipment, experiment: Experiment, now: datetime) -> float | None:
    """What the arms beside the baseline cost since midnight UTC; None = unknown.

    The day is that of the clock, by which a rest is counted too: a run that is late after midnight
    spends none of the new day's budget. Requests of unknown cost count as much as the arm's others
    on average.
    """
    if experiment.design.daily_budget_usd is None:
        return 0.0
    rows = equipment.ledger.aggregates.load(
        GRAIN_S,
        start_s=floor_s(now, DAY_S),
        end_s=int(now.timestamp()),
        targets=[experiment.target],
        slices=[SliceName.EXPERIMENT.value],
    )
    tried = rows[rows["arm"] != experiment.baseline]
    spent = 0.0
    for _, own in tried.groupby("arm", observed=True):
        n, known, nusd = (float(own[name].sum()) for name in ("n", "n_cost", "cost_nusd"))
        if known == 0 < n:
            return None
        spent += nusd * 1e-9 * n / max(known, 1.0)
    return spent


def _restart(experiment: Experiment, changed: Changed) -> datetime | None:
    """From when evidence counts again, where the model behind an arm changed."""
    moments = [
        changed[experiment.target, arm]
        for arm in experiment.alive
        if (experiment.target, arm) in changed
    ]
    if not moments:
        return None
    return at(ceil_s(max(moments) + TRANSITION, HOUR_S))
