"""The command group: every command by name, imported when it is run."""

from collections.abc import Sequence
from importlib.metadata import version as installed_version

import click

from optimizer.cli.invocation import current, options
from optimizer.cli.lazy import Entry, LazyGroup

OWN = (
    Entry(
        name="config", where="optimizer.cli.config:config", help="Write, check and show settings."
    ),
    Entry(
        name="decisions",
        where="optimizer.cli.decisions:decisions",
        help="List, show, approve, reject and cancel decisions.",
    ),
    Entry(
        name="experiments",
        where="optimizer.cli.experiments:experiments",
        help="List, show, start, pause, resume and stop experiments.",
    ),
    Entry(
        name="rollback",
        where="optimizer.cli.decisions:rollback",
        help="Return a target's traffic to its snapshot, now.",
    ),
    Entry(
        name="pause", where="optimizer.cli.pauses:pause", help="Stop promotions and new rollouts."
    ),
    Entry(name="resume", where="optimizer.cli.pauses:resume", help="Take a pause back."),
    Entry(
        name="targets",
        where="optimizer.cli.targets:targets",
        help="List targets, and move the reference that losses are counted against.",
    ),
    Entry(
        name="strategies",
        where="optimizer.cli.strategies:strategies",
        help="Show what each strategy's promises were worth.",
    ),
    Entry(
        name="quarantine",
        where="optimizer.cli.quarantine:quarantine",
        help="List rows that were set aside, and try them again.",
    ),
    Entry(
        name="backtest",
        where="optimizer.cli.backtest:backtest",
        help="What would have been decided on past logs, and saved; acts on nothing.",
    ),
    Entry(name="evidence", where="optimizer.cli.evidence:evidence", help="Show what was judged."),
    Entry(name="audit", where="optimizer.cli.audit:audit", help="Check and show the record."),
    Entry(
        name="doctor",
        where="optimizer.cli.doctor:doctor",
        help="Look at everything a run needs, and say what to do.",
    ),
)


def group(more: Sequence[Entry] = ()) -> LazyGroup:
    """The ``llmopt`` group; ``more`` are commands of the layers above."""

    @click.group(
        name="llmopt",
        cls=LazyGroup,
        entries=(*more, *OWN),
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    @click.version_option(installed_version("llm-auto-optimizer"), prog_name="llmopt")
    @options
    @click.pass_context
    def llmopt(ctx: click.Context) -> None:
        """Watch LLM traffic, find better configurations, and roll them out in safe steps."""
        ctx.call_on_close(current(ctx).close)

    return llmopt
