"""Commands about the configuration: init, validate, show, diff, schema."""

from importlib.resources import files
from pathlib import Path

import click

from optimizer import settings
from optimizer.cli.failures import FOUND, Refused
from optimizer.cli.invocation import current, options
from optimizer.cli.lazy import LazyGroup
from optimizer.cli.output import Output
from optimizer.settings import explain, reference

_START = "start.yaml"


@click.group(cls=LazyGroup)
def config() -> None:
    """Write, check and show settings."""


@config.command()
@options
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.pass_context
def init(ctx: click.Context, file: Path | None) -> None:
    """Write a commented file to start from; never over another one."""
    path = file or current(ctx).config
    text = files(settings).joinpath(_START).read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        msg = f"{path} exists and is left as it is; name another file"
        raise Refused(msg) from None
    except OSError as error:
        msg = f"{path} cannot be written: {error.strerror}"
        raise Refused(msg) from None
    current(ctx).output.record(
        {"written": path},
        f"wrote {path}\nnext: name your targets and sources in it, then `llmopt doctor`",
    )


@config.command()
@options
@click.pass_context
def validate(ctx: click.Context) -> None:
    """Check the file and the environment; exit code 2 and every problem if they are wrong."""
    loaded = current(ctx).loaded()
    counts = {
        "targets": len(loaded.settings.targets),
        "sources": len(loaded.settings.integrations.sources),
        "gateways": len(loaded.settings.integrations.gateways),
        "notifiers": len(loaded.settings.integrations.notifiers),
    }
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    current(ctx).output.record(
        {"path": loaded.path, "valid": True, "fingerprint": loaded.fingerprint, **counts},
        f"{loaded.path}: valid; {told}",
    )


@config.command()
@options
@click.argument("prefix", required=False, default="")
@click.pass_context
def show(ctx: click.Context, prefix: str) -> None:
    """Every setting in force with its origin; PREFIX limits it to a section. Secrets are masked."""
    found = [
        item
        for item in explain.effective(current(ctx).loaded())
        if item.path.startswith(prefix) or item.label.startswith(prefix)
    ]
    if prefix and not found:
        msg = f"no setting begins with {prefix!r}; `llmopt config show` lists all"
        raise Refused(msg)
    rows = [{"setting": i.path, "value": i.value, "origin": i.origin} for i in found]
    current(ctx).output.table("settings in force", rows)


@config.command()
@options
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.pass_context
def diff(ctx: click.Context, file: Path | None) -> None:
    """What the configuration changes against the defaults, or FILE against the configuration.

    The exit code is 1 if anything differs.
    """
    loaded = current(ctx).loaded()
    if file is None:
        before, after = settings.load_text("", loaded.path, {}), loaded
    else:
        before, after = loaded, settings.load(file)
    changes = explain.difference(before, after)
    rows = [{"setting": label, "before": old, "after": new} for label, old, new in changes]
    title = "against the defaults" if file is None else f"{file} against {loaded.path}"
    current(ctx).output.table(title, rows, empty="nothing differs")
    if rows:
        ctx.exit(FOUND)


@config.command()
@options
@click.option(
    "--format",
    "form",
    type=click.Choice(["json", "markdown"]),
    default="json",
    show_default=True,
    help="JSON schema, or the reference page.",
)
def schema(form: str) -> None:
    """The file's JSON schema, for editors; or its reference page."""
    if form == "markdown":
        click.echo(reference.page(), nl=False)
        return
    Output(as_json=True).record(reference.schema(), "")
