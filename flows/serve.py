"""Server and deployments on one machine, in one command.

The deployments are read from ``prefect.yaml``, so that names and schedules are written once.
"""

import asyncio
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from flows.equipped import CONFIG_VARIABLE

STARTUP_S = 120
STOP_S = 15


def serve(*, config_file: Path, host: str, port: int, definitions: Path) -> None:
    """Start a Prefect server on ``host:port`` if none answers there, register and serve all flows.

    Returns when interrupted; a server that was started here is stopped again.
    """
    api = f"http://{host}:{port}/api"
    os.environ["PREFECT_API_URL"] = api
    os.environ[CONFIG_VARIABLE] = str(config_file.resolve())
    with _server(host, port, api):
        asyncio.run(_serve_all(definitions))


@contextmanager
def _server(host: str, port: int, api: str) -> Iterator[None]:
    if _answers(api):
        yield
        return
    process = subprocess.Popen(  # noqa: S603 - our own interpreter and constant arguments
        [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)],
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait(api, process)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _answers(api: str) -> bool:
    try:
        return httpx.get(f"{api}/health", timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _wait(api: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTUP_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            msg = f"the Prefect server ended with code {process.returncode} before it answered"
            raise RuntimeError(msg)
        if _answers(api):
            return
        time.sleep(0.3)
    msg = f"no answer from {api}/health within {STARTUP_S} s"
    raise RuntimeError(msg)


async def _serve_all(definitions: Path) -> None:
    from prefect import aserve

    deployments = [
        await _deployment(entry) for entry in yaml.safe_load(definitions.read_text())["deployments"]
    ]
    await aserve(*deployments, limit=4)


async def _deployment(entry: dict[str, Any]) -> RunnerDeployment:
    """One entry of prefect.yaml as a served deployment."""
    from prefect.client.schemas.objects import ConcurrencyLimitConfig
    from prefect.client.schemas.schedules import CronSchedule
    from prefect.deployments.runner import EntrypointType

    module, _, name = entry["entrypoint"].rpartition(".")
    flow = getattr(importlib.import_module(module), name)
    limit = entry.get("concurrency_limit")
    return await flow.ato_deployment(
        name=entry["name"],
        description=entry["description"],
        tags=entry.get("tags", []),
        schedules=[
            CronSchedule(cron=item["cron"], timezone=item["timezone"])
            for item in entry["schedules"]
        ],
        concurrency_limit=ConcurrencyLimitConfig(**limit) if limit else None,
        enforce_parameter_schema=entry.get("enforce_parameter_schema", True),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
