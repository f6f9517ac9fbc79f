"""Pause and resume: no promotions, no new rollouts of a target or of all; rollbacks still run."""

import click

from optimizer.cli.failures import not_found
from optimizer.cli.invocation import Invocation, acts, current, options

_TARGET = click.option("--target", default=None, help="This target.")
_ALL = click.option("--all", "every", is_flag=True, help="Every target.")


@click.command()
@options
@acts
@_TARGET
@_ALL
@click.option(
    "--reason", required=True, help="Why; shown wherever something is held because of it."
)
@click.pass_context
def pause(ctx: click.Context, *, target: str | None, every: bool, reason: str) -> None:
    """Stop promotions and new rollouts; what is on traffic stays, and is still rolled back."""
    calling = current(ctx)
    chosen = _chosen(ctx, calling, target, every=every)
    acting = calling.acting()
    calling.ledger().effects.pause(chosen, at=acting.now, actor=acting.actor, reason=reason)
    _say(calling, chosen, f"paused: {reason}")


@click.command()
@options
@acts
@_TARGET
@_ALL
@click.option("--reason", default="", help="Why; for the audit log.")
@click.pass_context
def resume(ctx: click.Context, *, target: str | None, every: bool, reason: str) -> None:
    """Take a pause back. A pause of all and a pause of one target are two pauses."""
    calling = current(ctx)
    chosen = _chosen(ctx, calling, target, every=every)
    acting = calling.acting()
    calling.ledger().effects.resume(chosen, at=acting.now, actor=acting.actor, reason=reason)
    _say(calling, chosen, "resumed")


def _chosen(
    ctx: click.Context, calling: Invocation, target: str | None, *, every: bool
) -> str | None:
    """The target that is meant; None = all."""
    if every == (target is not None):
        msg = "say --target NAME or --all"
        raise click.UsageError(msg, ctx)
    if target is not None and target not in calling.equipment().targets:
        raise not_found("target", target, "`llmopt targets list` shows them")
    return target


def _say(calling: Invocation, target: str | None, what: str) -> None:
    paused = calling.ledger().effects.paused()
    calling.output.record({"paused": paused}, f"{target or 'all targets'}: {what}")
