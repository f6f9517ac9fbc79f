"""Commands about targets: what serves them, and the reference that losses are counted against."""

import click

from optimizer.allocation import Allocation
from optimizer.cli.failures import not_found
from optimizer.cli.invocation import acts, current, options
from optimizer.cli.lazy import LazyGroup
from optimizer.loop.decide import ALL
from optimizer.loop.evaluate import IN_FLIGHT


@click.group(cls=LazyGroup)
def targets() -> None:
    """List targets, and move the reference that losses are counted against."""


@targets.command("list")
@options
@click.pass_context
def list_(ctx: click.Context) -> None:
    """Every configured target: baseline, split, what is in flight, and whether it is paused."""
    calling = current(ctx)
    equipment = calling.equipment()
    effects = equipment.ledger.effects
    desired, pauses = effects.desired_all(), effects.paused()
    flying = {d.target: d.id for d in equipment.ledger.decisions.find(states=IN_FLIGHT)}
    baselines = equipment.baseline_arms()
    rows = [
        {
            "target": name,
            "baseline": baselines[name],
            "split": _split(desired.get(name)),
            "generation": None if name not in desired else desired[name].generation,
            "in_flight": flying.get(name),
            "paused": pauses.get(name, pauses.get(ALL)),
            "gateway": equipment.gateway_of.get(name),
        }
        for name in equipment.targets
    ]
    calling.output.table("targets", rows)


def _split(allocation: Allocation | None) -> str | None:
    if allocation is None:
        return None
    return ", ".join(f"{part.name.value} {part.arm} {part.share:.1%}" for part in allocation.slices)


@targets.command()
@options
@acts
@click.argument("target")
@click.option("--reason", required=True, help="Why; it is written into the audit log.")
@click.pass_context
def anchor(ctx: click.Context, target: str, reason: str) -> None:
    """Make today's baseline the reference: losses of earlier promotions are forgotten."""
    calling = current(ctx)
    equipment = calling.equipment()
    if target not in equipment.targets:
        raise not_found("target", target, "`llmopt targets list` shows them")
    acting = calling.acting()
    store = equipment.ledger.decisions
    before = {
        metric: charged.harm
        for (name, metric), charged in store.anchors().items()
        if name == target
    }
    store.move_anchor(target, at=acting.now, actor=acting.actor, reason=reason)
    told = ", ".join(f"{metric} {harm:+.4g}" for metric, harm in before.items()) or "nothing"
    calling.output.record(
        {"target": target, "reference": equipment.baseline_arms()[target], "forgotten": before},
        f"{target}: the reference is now {equipment.baseline_arms()[target]}; forgotten: {told}",
    )
