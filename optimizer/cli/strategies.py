"""The record of each strategy: what it promised, and what came of it."""

import click

from optimizer.cli.invocation import current, options
from optimizer.cli.lazy import LazyGroup
from optimizer.cycle.autonomy import track_records
from optimizer.decision import State
from optimizer.loop.decide import settled


@click.group(cls=LazyGroup)
def strategies() -> None:
    """Show what each strategy's promises were worth."""


@strategies.command("list")
@options
@click.pass_context
def list_(ctx: click.Context) -> None:
    """Every enabled strategy: decisions by end, promises measured and missed, and if it is trusted.

    A strategy whose promises provably fail more often than they may needs approval.
    """
    calling = current(ctx)
    equipment = calling.equipment()
    decisions = equipment.ledger.decisions.find()
    records = track_records(settled(decisions, calling.acting().now))
    names = sorted({*equipment.strategies, *(each.strategy for each in decisions)})
    rows = []
    for name in names:
        own = [each.state for each in decisions if each.strategy == name]
        record = records.get(name)
        rows.append(
            {
                "strategy": name,
                "enabled": name in equipment.strategies,
                "completed": own.count(State.COMPLETED),
                "rolled_back": own.count(State.ROLLED_BACK),
                "measured": 0 if record is None else record.settled,
                "missed": 0 if record is None else record.missed,
                "saving_bias_points": None if record is None else record.bias_pct,
                "acts_alone": record is None or record.is_trusted,
            }
        )
    calling.output.table("strategies", rows)
