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
    """Wrong usage or configuration, in words."""

    exit_code = USAGE


class Failed(click.ClickException):
    """Something was found, or did not answer, in words."""

    exit_code = FOUND


def not_found(kind: str, name: str, hint: str) -> Refused:
    """What a name that nothing bears is answered with."""
    return Refused(f"there is no {kind} {name!r}; {hint}")


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


def _refusal(error: Exception) -> click.ClickException:
    if isinstance(error, ConfigError):
        return Refused(str(error))
    if isinstance(error, OptimizerError):
        return Failed(str(error))
    return Failed(
        f"unexpected {type(error).__name__}: {error}; run again with --debug to see where"
    )
