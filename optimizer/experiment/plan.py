"""What follows for one experiment: a pure planner from what is known to its next version.

One change at a time, in this order: an end that is on its way stays; arms that left or changed end
it; harm takes an arm out; the guard stops here. Then a change of evidence, a declaration, the end
of its time, its budget, and the split of the next hour. A pause or a freeze stops starts and new
splits, never the way back to the baseline, and never a declaration: that moves no traffic towards
an arm.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from optimizer.evidence import Outcome
from optimizer.experiment.design import Rule
from optimizer.experiment.life import Experiment, ExperimentState, amend, move
from optimizer.experiment.standing import Standing, even
from optimizer.metrics import DAY_S, floor_s

STEP: Final = 0.05
"""Share of the experiment's traffic by which an arm's must differ from what is published before a
new split is: smaller moves cost units their arm for nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """What an experiment meets at one moment.

    standing: None where it was not asked for; harmed: arm -> why; departed: why its arms are no
    longer what they were; blocked: why it cannot start now; still: why no new split is published
    now; spent_usd: what arms beside the baseline cost since midnight UTC, None = unknown, 0 = no
    budget asks for it; restart: from when evidence counts again, because the model behind an arm
    changed; guard_only: only what protects.
    """

    now: datetime
    standing: Standing | None = None
    harmed: dict[str, str]
    departed: str = ""
    blocked: str = ""
    still: str = ""
    spent_usd: float | None = 0.0
    restart: datetime | None = None
    guard_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The experiment's next version, the kind of its log entry, and why.

    severity: how loudly people are told, empty = not at all.
    """

    after: Experiment
    kind: str
    reason: str
    severity: str = ""


def plan(experiment: Experiment, met: Circumstances) -> Step | None:
    """The next step; None where everything stays."""
    if experiment.state.is_final or experiment.ends_as is not None:
        return None
    if experiment.state is ExperimentState.DRAFT:
        return None if met.guard_only else _start(experiment, met)
    if met.departed:
        return end(experiment, ExperimentState.CANCELLED, met.departed, severity="warning")
    if met.harmed:
        return _drop(experiment, met)
    if met.guard_only:
        return _rest(experiment, met)
    return (
        _evidence(experiment, met)
        or _declare(experiment, met)
        or _time_out(experiment, met)
        or _rest(experiment, met)
        or _shift(experiment, met)
    )


def end(
    experiment: Experiment,
    ends_as: ExperimentState,
    reason: str,
    *,
    winner: str | None = None,
    standing: Standing | None = None,
    severity: str = "info",
) -> Step:
    """The way back to the baseline; the final state is reached when the traffic is there."""
    after = amend(
        experiment,
        ends_as=ends_as,
        winner=winner,
        estimates=() if standing is None else standing.estimates,
        reason=reason,
    )
    return Step(after=after, kind="change", reason=reason, severity=severity)


def _start(experiment: Experiment, met: Circumstances) -> Step | None:
    if met.departed:
        return Step(
            after=move(experiment, ExperimentState.CANCELLED, met.now, reason=met.departed),
            kind="transition",
            reason=met.departed,
        )
    if not (experiment.design.auto or experiment.start_asked):
        return None
    why = met.blocked or met.still
    if why:
        if why == experiment.hold_reason:
            return None
        return Step(after=amend(experiment, hold_reason=why), kind="note", reason=why)
    after = move(
        experiment,
        ExperimentState.RUNNING,
        met.now,
        started_at=met.now,
        shares=even(experiment),
        hold_reason="",
    )
    arms = ", ".join(experiment.design.arms)
    reason = f"{experiment.design.share:.0%} of the traffic is split among {arms}"
    return Step(after=after, kind="transition", reason=reason, severity="info")


def _drop(experiment: Experiment, met: Circumstances) -> Step:
    dropped = (*experiment.dropped, *sorted(set(met.harmed) - set(experiment.dropped)))
    reason = "harm is proven: " + "; ".join(met.harmed[arm] for arm in sorted(met.harmed))
    left = [arm for arm in experiment.alive if arm not in dropped]
    # The evidence of what an arm did stays; what it got goes back to the baseline.
    after = replace(experiment, dropped=dropped)
    if left == [experiment.baseline] or not left:
        return end(
            after,
            ExperimentState.COMPLETED,
            f"{reason}; only {experiment.baseline} is left, baseline wins",
            winner=experiment.baseline,
            severity="critical",
        )
    shares = tuple(
        0.0 if arm in dropped else share
        for arm, share in zip(experiment.design.arms, experiment.shares, strict=True)
    )
    leader = None if experiment.leader in dropped else experiment.leader
    return Step(
        after=amend(after, shares=shares, leader=leader),
        kind="change",
        reason=reason,
        severity="critical",
    )


def _evidence(experiment: Experiment, met: Circumstances) -> Step | None:
    """A model that changed, or a leader that provably leads no more, voids what came before."""
    begun = experiment.evidence_from
    since, why = None if met.standing is None else met.standing.since, "a leader leads no more"
    if met.restart is not None and begun is not None and met.restart > begun:
        since, why = met.restart, "the model behind an arm changed"
    if since is None:
        return None
    reason = f"{why}: evidence before {since.isoformat()} no longer counts"
    shares = experiment.shares if met.still else even(experiment)
    after = amend(experiment, evidence_from=since, leader=None, shares=shares)
    return Step(after=after, kind="evidence", reason=reason, severity="warning")


def _declare(experiment: Experiment, met: Circumstances) -> Step | None:
    standing = met.standing
    if standing is None or standing.outcome is not Outcome.PASS or standing.leader is None:
        return None
    if experiment.state is not ExperimentState.RUNNING:
        return None
    if experiment.design.keep_running:
        if experiment.leader == standing.leader:
            return None
        shares = experiment.shares if met.still else standing.shares
        after = amend(experiment, leader=standing.leader, shares=shares)
        return Step(after=after, kind="change", reason=standing.sentence, severity="info")
    return _complete(experiment, standing, standing.leader)


def _complete(experiment: Experiment, standing: Standing | None, winner: str | None) -> Step:
    said = "" if standing is None else standing.sentence
    if winner is None:
        reason = f"no winner within {experiment.design.max_duration}; {said}".rstrip("; ")
    elif winner == experiment.baseline:
        reason = f"baseline wins: {said}"
    else:
        reason = said
    return end(experiment, ExperimentState.COMPLETED, reason, winner=winner, standing=standing)


def _time_out(experiment: Experiment, met: Circumstances) -> Step | None:
    started = experiment.started_at
    if started is None or met.now < started + experiment.design.max_duration:
        return None
    standing = met.standing
    # An arm that led for a while must lead by the evidence of today.
    named = None if standing is None or standing.outcome is not Outcome.PASS else standing.leader
    winner = named if experiment.design.keep_running else None
    return _complete(experiment, standing, winner)


def _rest(experiment: Experiment, met: Circumstances) -> Step | None:
    """Rest when the budget of the UTC day is spent; go on when the next day begins."""
    budget, resting = experiment.design.daily_budget_usd, experiment.resting_since
    if resting is not None:
        same_day = floor_s(resting, DAY_S) == floor_s(met.now, DAY_S)
        if met.guard_only or met.still or (budget is not None and same_day):
            return None
        after = amend(experiment, resting_since=None)
        return Step(after=after, kind="change", reason="a new day has a budget of its own")
    if budget is None or (met.spent_usd is not None and met.spent_usd < budget):
        return None
    if experiment.state is not ExperimentState.RUNNING:
        return None
    spent = "an unknown sum" if met.spent_usd is None else f"{met.spent_usd:.4g} USD"
    reason = f"arms beside {experiment.baseline} cost {spent} today, the budget is {budget:g} USD"
    return Step(
        after=amend(experiment, resting_since=met.now),
        kind="change",
        reason=reason,
        severity="info",
    )


def _shift(experiment: Experiment, met: Circumstances) -> Step | None:
    standing = met.standing
    if standing is None or met.still or not experiment.holds_traffic:
        return None
    if experiment.design.rule is not Rule.TOP_TWO:
        return None
    moved = max(abs(new - old) for new, old in zip(standing.shares, experiment.shares, strict=True))
    if moved <= STEP:
        return None
    # A leader that the evidence names no more goes with its shares.
    after = amend(experiment, shares=standing.shares, leader=standing.leader)
    return Step(after=after, kind="change", reason=f"shares move by up to {moved:.2f}")
