"""Groups that import a command only when it is run, so that ``--help`` and completion are quick."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from optimizer.cli.failures import translated


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A command by its name: ``where`` is ``module:attribute``, ``help`` its line in the list."""

    name: str
    where: str
    help: str


class LazyGroup(click.Group):
    """A group of entries; its own errors and those of its commands are one message each."""

    def __init__(self, *args: Any, entries: Sequence[Entry] = (), **kwargs: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(*args, **kwargs)
        self._entries = {entry.name: entry for entry in entries}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order they were given, then those of eager commands."""
        return [*self._entries, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        entry = self._entries.get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = entry.where.partition(":")
        with translated(ctx):
            found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, click.Command):
            msg = f"{entry.where} is no command"
            raise TypeError(msg)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        rows = [(entry.name, entry.help) for entry in self._entries.values()]
        rows += [
            (name, command.get_short_help_str())
            for name, command in self.commands.items()
            if name not in self._entries
        ]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - click's own
        """Run the command; what it refuses becomes a message and an exit code."""
        with translated(ctx):
            return super().invoke(ctx)
