"""Commands about experiments: list, show, start, pause, resume and stop."""

from collections.abc import Callable, Mapping

import click

from optimizer.cli.failures import Refused, not_found
from optimizer.cli.invocation import Invocation, acts, current, options
from optimizer.cli.lazy import LazyGroup
from optimizer.cli.output import Json
from optimizer.experiment.life import Experiment, ExperimentId, ExperimentState
from optimizer.experiment.standing import Standing
from optimizer.loop import trying
from optimizer.loop.experiments import OPEN
from optimizer.loop.trials import standing_of

_ID = click.argument("experiment_id")
_REASON = click.option("--reason", required=True, help="Why; it is written into the log.")
_TARGET = click.option("--target", default=None, help="Where several targets have this name.")


@click.group(cls=LazyGroup)
def experiments() -> None:
    """List, show, start, pause, resume and stop experiments."""


@experiments.command("list")
@options
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in ExperimentState]),
    help="Only experiments in this state; may be repeated.",
)
@click.option("--target", default=None, help="Only experiments of this target.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="Newest.")
@click.pass_context
def list_(ctx: click.Context, *, states: tuple[str, ...], target: str | None, limit: int) -> None:
    """Experiments, newest first; one that no run has seen yet is not in it."""
    wanted = [ExperimentState(value) for value in states] or None
    found = current(ctx).ledger().experiments.find(states=wanted, target=target)
    rows = [_row(experiment) for experiment in reversed(found)][:limit]
    current(ctx).output.table("experiments", rows)


def _row(experiment: Experiment) -> dict[str, Json]:
    return {
        "id": experiment.id,
        "target": experiment.target,
        "name": experiment.name,
        "arms": ", ".join(experiment.design.arms),
        "rule": experiment.design.rule,
        "state": experiment.state,
        "winner": experiment.winner or experiment.leader,
        "started": experiment.started_at,
        "why": experiment.hold_reason or experiment.reason,
    }


@experiments.command()
@options
@_ID
@click.pass_context
def show(ctx: click.Context, experiment_id: str) -> None:
    """One experiment, where it stands, and its whole log."""
    calling = current(ctx)
    experiment = find(calling, experiment_id)
    entries = calling.ledger().experiments.entries(experiment.id)
    stands = _standing(calling, experiment)
    if calling.as_json:
        told = {"experiment": experiment, "standing": stands, "log": entries}
        calling.output.record(told, "")
        return
    facts = _facts(experiment, stands)
    calling.output.table(
        f"experiment {experiment.id}",
        [{"field": name, "value": value} for name, value in facts.items()],
    )
    if stands is not None:
        calling.output.table(
            "arms",
            [
                {"arm": each.arm, "n": each.n, "mean": each.mean, "next share": each.share}
                for each in stands.arms
            ],
        )
    calling.output.table(
        "log",
        [
            {
                "#": entry.seq,
                "at": entry.at,
                "entry": f"{entry.kind}: {entry.from_state.value} -> {entry.to_state.value}",
                "by": entry.actor,
                "why": entry.reason,
                "hash": entry.hash[:12],
            }
            for entry in entries
        ],
    )


def _standing(calling: Invocation, experiment: Experiment) -> Standing | None:
    """Where it stands now; None before its start, after its end, and without its target."""
    if not experiment.state.in_flight or experiment.target not in calling.equipment().policies:
        return None
    return standing_of(calling.equipment(), experiment, as_of=calling.acting().now)


def _facts(experiment: Experiment, stands: Standing | None) -> Mapping[str, Json]:
    design = experiment.design
    return {
        "target": experiment.target,
        "name": experiment.name,
        "arms": ", ".join(design.arms),
        "dropped": ", ".join(experiment.dropped),
        "metric": design.metric,
        "rule": design.rule,
        "share of the traffic": design.share,
        "state": experiment.state,
        "stands": None if stands is None else stands.sentence,
        "leader": experiment.leader,
        "winner": experiment.winner,
        "held because": experiment.hold_reason,
        "ended because": experiment.reason,
        "started": experiment.started_at,
        "evidence from": experiment.evidence_from,
        "ended": experiment.ended_at,
    }


@experiments.command()
@options
@acts
@click.argument("name")
@_TARGET
@click.pass_context
def start(ctx: click.Context, name: str, target: str | None) -> None:
    """Start a configured experiment; one that has ended is begun anew.

    Where something is in its way it starts by itself as soon as that is gone.
    """
    calling = current(ctx)
    found = [
        design
        for design in calling.equipment().experiments
        if design.name == name and target in {None, design.target}
    ]
    if not found:
        raise not_found("experiment", name, "it is none of those in the configuration")
    if len(found) > 1:
        named = ", ".join(design.target for design in found)
        msg = f"several targets have an experiment {name}: {named}; say which with --target"
        raise click.UsageError(msg, ctx)
    done = trying.start(calling.equipment(), found[0], acting=calling.acting())
    _say(calling, done.experiment)


@experiments.command()
@options
@acts
@_ID
@_REASON
@click.pass_context
def pause(ctx: click.Context, experiment_id: str, reason: str) -> None:
    """Take its traffic back to the baseline for now; its evidence stays."""
    _act(current(ctx), trying.pause, experiment_id, reason, ExperimentState.RUNNING)


@experiments.command()
@options
@acts
@_ID
@click.option("--reason", default="it is resumed", help="Why; it is written into the log.")
@click.pass_context
def resume(ctx: click.Context, experiment_id: str, reason: str) -> None:
    """Give a paused experiment its share of the traffic again."""
    _act(current(ctx), trying.resume, experiment_id, reason, ExperimentState.PAUSED)


@experiments.command()
@options
@acts
@_ID
@_REASON
@click.pass_context
def stop(ctx: click.Context, experiment_id: str, reason: str) -> None:
    """End it: the traffic goes back to the baseline, and nothing is proposed."""
    _act(current(ctx), trying.stop, experiment_id, reason, *OPEN)


def _act(
    calling: Invocation,
    act: Callable[..., Experiment],
    experiment_id: str,
    reason: str,
    *states: ExperimentState,
) -> None:
    """Do it to the experiment, if it is in one of the states, and say what became of it."""
    found = _in(calling, experiment_id, *states)
    _say(calling, act(calling.equipment(), found.id, reason, acting=calling.acting()))


def _in(calling: Invocation, experiment_id: str, *states: ExperimentState) -> Experiment:
    """The experiment, if it is in one of the states."""
    found = find(calling, experiment_id)
    if found.state not in states:
        wanted = " or ".join(state.value for state in states)
        msg = f"experiment {found.id} is {found.state.value}, not {wanted}"
        raise Refused(msg)
    return found


def _say(calling: Invocation, experiment: Experiment) -> None:
    why = experiment.hold_reason or experiment.reason
    text = f"{experiment.target}: experiment {experiment.name} ({experiment.id}) is "
    text += experiment.state.value + (f": {why}" if why else "")
    calling.output.record(experiment, text)


def find(calling: Invocation, experiment_id: str) -> Experiment:
    """The experiment of that id.

    Raises:
        Refused: there is none.
    """
    try:
        return calling.ledger().experiments.get(ExperimentId(experiment_id))
    except KeyError:
        hint = "`llmopt experiments list` shows them"
        raise not_found("experiment", experiment_id, hint) from None
