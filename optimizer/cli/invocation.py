"""One invocation: which configuration, for whom, when, and how answers are written."""

import getpass
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from optimizer.cli.failures import Refused
from optimizer.cli.output import Output

if TYPE_CHECKING:
    from optimizer.loop.equipment import Acting, Equipment
    from optimizer.ports import Dispatcher, Ledger
    from optimizer.settings import Loaded

DEFAULT_CONFIG = Path("optimizer.yaml")

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class Invocation:
    """What the options say, and what is opened because of them."""

    config: Path = DEFAULT_CONFIG
    as_json: bool = False
    actor: str = ""
    _equipment: "Equipment | None" = None
    _ledger: "Ledger | None" = None
    run_id: str = field(default_factory=lambda: f"cli-{uuid.uuid4().hex[:12]}")

    @property
    def output(self) -> Output:
        """Where answers go."""
        return Output(as_json=self.as_json)

    def loaded(self) -> "Loaded":
        """The configuration, checked.

        Raises:
            ConfigError: it is missing or wrong.
        """
        from optimizer import settings

        return settings.load(self.config)

    def equipment(self) -> "Equipment":
        """Everything a run works with, opened once.

        Raises:
            ConfigError: the configuration cannot be used.
            UnavailableError: the database does not answer.
        """
        from optimizer import wiring
        from optimizer.loop.tuning import tuned

        if self._equipment is None:
            self._equipment = tuned(wiring.equip(self.loaded()))
        return self._equipment

    def ledger(self) -> "Ledger":
        """The ledger."""
        return self.equipment().ledger

    def dispatcher(self) -> "Dispatcher":
        """Who starts runs at the Prefect server that PREFECT_API_URL names.

        Raises:
            Refused: there is none.
        """
        from optimizer import settings, wiring

        server = settings.prefect_server()
        if server is None:
            msg = "--dispatch needs PREFECT_API_URL, for example http://127.0.0.1:4200/api"
            raise Refused(msg)
        return wiring.open_dispatcher(server.api_url, server.auth)

    def acting(self) -> "Acting":
        """Who acts, and when: now."""
        from optimizer.loop.equipment import Acting

        return Acting(actor=self.actor or _person(), run_id=self.run_id, now=now())

    def close(self) -> None:
        """Give connections back."""
        if self._equipment is not None:
            from optimizer import wiring

            wiring.close(self._equipment)


def now() -> datetime:
    """The real time, aware UTC."""
    return datetime.now(UTC)


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user without a name
        return "operator"


def current(ctx: click.Context) -> Invocation:
    """The invocation that the command belongs to."""
    found: Invocation = ctx.ensure_object(Invocation)
    return found


def options(command: Callable[P, R]) -> Callable[P, R]:
    """The options that every command takes, before its name or after it."""
    for option in (
        click.option(
            "--debug",
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_note_debug,
            help="Show tracebacks.",
        ),
        click.option(
            "--json",
            is_flag=True,
            expose_value=False,
            callback=_note_json,
            help="Answer in JSON, for programs.",
        ),
        click.option(
            "--config",
            type=click.Path(path_type=Path),
            envvar="LLMOPT_CONFIG",
            show_envvar=True,
            expose_value=False,
            callback=_note_config,
            help="Configuration file.  [default: optimizer.yaml]",
        ),
    ):
        command = option(command)
    return command


def acts(command: Callable[P, R]) -> Callable[P, R]:
    """The option of commands that change something: in whose name."""
    return click.option(
        "--as",
        "actor",
        expose_value=False,
        callback=_note_actor,
        help="Who acts, for the log.  [default: the user]",
    )(command)


def _note_config(ctx: click.Context, _option: click.Parameter, value: Path | None) -> None:
    from_variable = ctx.get_parameter_source("config") is click.core.ParameterSource.ENVIRONMENT
    # The variable is seen by every command of the line; what was typed before counts more.
    if value is not None and not (from_variable and ctx.meta.get("config_typed")):
        current(ctx).config = value
        ctx.meta["config_typed"] = not from_variable


def _note_json(ctx: click.Context, _option: click.Parameter, value: Any) -> None:  # noqa: ANN401 - click's own
    if value:
        current(ctx).as_json = True


def _note_debug(ctx: click.Context, _option: click.Parameter, value: Any) -> None:  # noqa: ANN401 - click's own
    if value:
        ctx.meta["debug"] = True


def _note_actor(ctx: click.Context, _option: click.Parameter, value: str | None) -> None:
    if value is not None:
        if not value.strip():
            msg = "--as needs a name"
            raise click.UsageError(msg, ctx)
        current(ctx).actor = value.strip()
