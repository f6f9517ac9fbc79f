"""Errors as people see them: one message, an exit code, and no traceback unless they ask."""

from collections.abc import Iterator
from contextlib import contextmanager

import click

from optimizer.errors import ConfigError, OptimizerError

FOUND = 1
"""Exit code: problems were found, or something did not answer."""
USAGE = 2
"""Exit code: wrong usage or configuration."""


class Refused(click.ClickException):
    """A message and the exit code it ends with."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def not_found(kind: str, name: str, hint: str) -> Refused:
    """What a name that nothing bears is answered with."""
    return Refused(f"there is no {kind} {name!r}; {hint}", USAGE)


@contextmanager
def translated(ctx: click.Context) -> Iterator[None]:
    """Errors of the block become messages, unless ``--debug`` asks for tracebacks."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        if ctx.find_root().params.get("debug") or ctx.meta.get("debug"):
            raise
        if isinstance(error, BrokenPipeError):
            raise  # the reader of our output has gone; click ends quietly
        raise _refusal(error) from error


def _refusal(error: Exception) -> Refused:
    if isinstance(error, ConfigError):
        return Refused(str(error), USAGE)
    if isinstance(error, OptimizerError):
        return Refused(str(error), FOUND)
    return Refused(
        f"unexpected {type(error).__name__}: {error}; run again with --debug to see where", FOUND
    )
