"""The command line: what a person at a terminal, or a program, may ask of an installation.

Exit codes: 0 as asked, 1 problems were found or something did not answer, 2 wrong usage or
configuration. Errors are one message on standard error; ``--debug`` shows where they came from.
"""

from optimizer.cli.lazy import Entry, LazyGroup
from optimizer.cli.main import group

__all__ = ["Entry", "LazyGroup", "group"]
