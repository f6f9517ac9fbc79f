"""Server and deployments on one machine, in one command.

::

    llmopt serve -+- prefect server start      (its own process group)
                  +- python -m flows.serve     (the runner, with every flow run in its group)

The deployments are read from ``prefect.yaml``, so that names, schedules and limits are written
once. Whichever of the two ends, the other is ended too; a signal ends both, the runner first, so
that the server still hears how its runs ended.
"""

import asyncio
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import httpx
import yaml

from flows import prefect_settings
from optimizer.errors import ConfigError, UnavailableError
from optimizer.settings import Loaded

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

DEFINITIONS = Path(__file__).resolve().parents[1] / "prefect.yaml"
CONFIG_VARIABLE = "LLMOPT_CONFIG"
STARTUP_S = 180
STOP_S = 20
_TICK_S = 0.3
_RUNS_AT_ONCE = 4
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}  # noqa: S104 - looked up, not bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The server's address as a client on this machine writes it."""
        return f"http://{_ANYWHERE.get(self.host, self.host)}:{self.port}"

    @property
    def api(self) -> str:
        """The address of its API."""
        return f"{self.url}/api"


class Stopped(Exception):  # noqa: N818 - nothing is wrong: somebody asked
    """A signal asked for the end."""


def serve(loaded: Loaded, place: Place, definitions: Path = DEFINITIONS) -> int:
    """Start a server, unless one answers there, and serve every deployment until a signal.

    Returns the exit code: 0 when asked to stop, 1 when a process ended by itself.

    Raises:
        ConfigError: there are no definitions, or the port is taken by something else.
        UnavailableError: the server did not come up.
    """
    if not definitions.is_file():
        msg = f"{definitions}: no such file; install from a checkout, or name it by --definitions"
        raise ConfigError(msg)
    prefect_settings.prepare(
        prefect_settings.home_of(loaded.folder), observability=loaded.settings.observability
    )
    os.environ["PREFECT_API_URL"] = place.api
    os.environ[CONFIG_VARIABLE] = str(loaded.path)
    with _stoppable():
        try:
            return _supervise(place, definitions)
        except Stopped:
            return 0


def _supervise(place: Place, definitions: Path) -> int:
    children: list[Child] = []
    try:
        if not _answers(place.api):
            children.append(Child.start("the Prefect server", _server_command(place), quiet=True))
            _wait(place, children[0])
        runner = [sys.executable, "-m", "flows.serve", str(definitions)]
        children.append(Child.start("the runner", runner))
        while True:
            for child in children:
                code = child.process.poll()
                if code is not None:
                    print(f"{child.name} ended with code {code}", file=sys.stderr)  # noqa: T201 - a command's output
                    return 1
            time.sleep(_TICK_S)
    finally:
        for child in reversed(children):
            child.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process of ours that leads a group of its own, so that nothing of it is left behind."""

    name: str
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, name: str, command: Sequence[str], *, quiet: bool = False) -> "Child":
        """Start the process; its standard output is dropped where ``quiet``."""
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and checked arguments
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else None,
            start_new_session=True,
        )
        return cls(name=name, process=process)

    def stop(self) -> None:
        """Ask the process to end, then its whole group; what does not listen is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_S)
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
            if self._is_gone(STOP_S if number is signal.SIGTERM else 1):
                return

    def _is_gone(self, patience_s: float) -> bool:
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            self.process.poll()
            try:
                os.killpg(self.process.pid, 0)
            except (ProcessLookupError, PermissionError):
                return True
            time.sleep(0.05)
        return False


def _server_command(place: Place) -> list[str]:
    command = [sys.executable, "-m", "prefect", "server", "start"]
    return [*command, "--host", place.host, "--port", str(place.port)]


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM and SIGINT raise Stopped; a second one while things are ended is ignored."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        raise Stopped

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _answers(api: str) -> bool:
    try:
        return httpx.get(f"{api}/health", timeout=2, trust_env=False).json() is True
    except (httpx.HTTPError, ValueError):
        return False


def _wait(place: Place, server: Child) -> None:
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            msg = (
                f"the Prefect server ended with code {server.process.returncode} before it "
                f"answered; is {place.host}:{place.port} taken?"
            )
            raise ConfigError(msg)
        if _answers(place.api):
            return
        time.sleep(_TICK_S)
    msg = f"no answer from {place.api}/health within {STARTUP_S} s"
    raise UnavailableError(msg)


def read_entries(definitions: Path) -> list[dict[str, Any]]:
    """The deployments that the definitions list."""
    entries: list[dict[str, Any]] = yaml.safe_load(definitions.read_text(encoding="utf-8"))[
        "deployments"
    ]
    return entries


async def run_all(entries: Sequence[dict[str, Any]]) -> None:
    """Register every deployment with the server and run what is due, until cancelled."""
    from prefect.runner import Runner

    runner = Runner(limit=_RUNS_AT_ONCE)
    for entry in entries:
        await runner.aadd_deployment(await deployment_of(entry))
    _announce(entries)
    await runner.start()


async def deployment_of(entry: dict[str, Any]) -> "RunnerDeployment":
    """One entry of prefect.yaml as a served deployment; it is not paused, whatever it was."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.types.entrypoint import EntrypointType

    module, _, name = entry["entrypoint"].rpartition(".")
    flow = getattr(importlib.import_module(module), name)
    limit = entry.get("concurrency_limit")
    return await flow.ato_deployment(  # type: ignore[no-any-return]
        name=entry["name"],
        description=entry["description"],
        tags=entry.get("tags", []),
        schedules=[
            CronSchedule(cron=item["cron"], timezone=item["timezone"])
            for item in entry["schedules"]
        ],
        paused=False,
        concurrency_limit=ConcurrencyLimitConfig(**limit) if limit else None,
        enforce_parameter_schema=entry.get("enforce_parameter_schema", True),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )


def _announce(entries: Sequence[dict[str, Any]]) -> None:
    """What now runs where, once it does."""
    lines = [
        f"ui        {os.environ['PREFECT_API_URL'].removesuffix('/api')}",
        f"config    {os.environ[CONFIG_VARIABLE]}",
    ]
    for entry in entries:
        flow = entry["entrypoint"].rpartition(".")[2]
        crons = ", ".join(f"{item['cron']} {item['timezone']}" for item in entry["schedules"])
        lines.append(f"schedule  {flow}/{entry['name']}: {crons or 'by hand'}")
    print("\n".join([*lines, "stop with Ctrl-C"]), flush=True)  # noqa: T201 - a command's output


if __name__ == "__main__":
    prefect_settings.prepare()
    with suppress(KeyboardInterrupt):
        asyncio.run(run_all(read_entries(Path(sys.argv[1]))))
