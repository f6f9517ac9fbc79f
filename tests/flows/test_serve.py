"""``llmopt serve`` as an operator uses it: real processes, and the REST calls that the UI makes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from click.testing import CliRunner

from flows.cli import ENTRIES
from house import ROOT
from optimizer import settings, wiring
from optimizer.cli import group

pytestmark = pytest.mark.slow

STARTUP_S = 240
BUSY_S = 60
RUN_S = 180
CONFIG = """
database: {connection_string: "sqlite:///ledger.db", spool_directory: spool}
integrations:
  sources: [{kind: file, name: calls, paths: ["logs/*.jsonl"]}]
  gateways: [{kind: file, name: files, directory: allocations}]
targets:
  - name: support
    baseline: large
    arms:
      - {name: large, model: m-large}
      - {name: small, model: m-small}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_log(folder: Path) -> None:
    now = datetime.now(UTC)  # noqa: TID251 - a real server runs by the real clock
    start = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    lines = [
        json.dumps(
            {
                "request_id": f"r{n}",
                "ts": (start + timedelta(seconds=20 * n)).isoformat(),
                "target": "support",
                "arm": "large",
                "latency_ms": 900 + n % 7,
                "cost_usd": 0.01,
                "quality": 0.9,
            }
        )
        for n in range(500)
    ]
    folder.mkdir()
    (folder / "calls.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


class Patient(httpx.HTTPTransport):
    """Asks again while the server says that its SQLite is busy, as Prefect's own client does."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        deadline = time.monotonic() + BUSY_S
        while True:
            response = super().handle_request(request)
            if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return response
            if time.monotonic() > deadline:
                return response
            response.close()
            time.sleep(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running ``llmopt serve``."""

    process: subprocess.Popen[str]
    folder: Path
    client: httpx.Client
    log: Path

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = (
            self.client.get(f"/deployments/name/{name}").raise_for_status().json()
        )
        return found

    def start(
        self, name: str, parameters: dict[str, Any], key: str | None = None
    ) -> httpx.Response:
        """What the UI's run form posts."""
        return self.client.post(
            f"/deployments/{self.deployment(name)['id']}/create_flow_run",
            json={"parameters": {"parameters": parameters}, "idempotency_key": key},
        )

    def finished(self, run: dict[str, Any]) -> dict[str, Any]:
        """The run once it is final."""
        found: dict[str, Any] = {}

        def done() -> bool:
            found.update(self.client.get(f"/flow_runs/{run['id']}").raise_for_status().json())
            return found["state_type"] in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

        wait_for(done, RUN_S, lambda: f"run {run['name']} is {found.get('state_name')}")
        return found


def wait_for(done: Callable[[], bool], limit_s: float, told: Callable[[], str]) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > deadline:
            pytest.fail(f"after {limit_s} s: {told()}")
        time.sleep(0.5)


def answers(client: httpx.Client) -> bool:
    try:
        return all(client.get(f"/deployments/name/{name_of(e)}").is_success for e in entries())
    except httpx.HTTPError:
        return False


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that this folder's configuration belongs to."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            belongs = str(folder).encode() in (entry / "environ").read_bytes()
            state = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
            if belongs and state != "Z" and int(entry.name) != os.getpid():
                found.append((entry / "cmdline").read_text(encoding="utf-8").replace("\0", " "))
        except OSError:
            continue
    return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    config = folder / "optimizer.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    write_log(folder / "logs")
    port = free_port()
    inherited = os.environ  # noqa: TID251 - less the server of whoever runs the tests
    environment = {k: v for k, v in inherited.items() if not k.startswith("PREFECT_")}
    log = folder / "serve.log"
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.cli", "serve", f"--config={config}", f"--port={port}"],
            cwd=folder,  # any directory: prefect.yaml is found from the package
            env={**environment, "PYTHONPATH": str(ROOT) + ":" + environment.get("PYTHONPATH", "")},
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
        )
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}/api", timeout=30, transport=Patient()
    ) as client:
        running = Served(process=process, folder=folder, client=client, log=log)
        try:
            wait_for(
                lambda: answers(client) or process.poll() is not None, STARTUP_S, log.read_text
            )
            assert process.poll() is None, log.read_text(encoding="utf-8")
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(90)
            except subprocess.TimeoutExpired:
                process.kill()


def entries() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    return found


def name_of(entry: dict[str, Any]) -> str:
    return f"{entry['entrypoint'].rpartition('.')[2]}/{entry['name']}"


@pytest.mark.parametrize("name", [name_of(entry) for entry in entries()])
def test_the_form_of_every_deployment_has_titles_meanings_and_bounds(
    served: Served, name: str
) -> None:
    deployment = served.deployment(name)

    inner = deployment["parameter_openapi_schema"]["definitions"]
    assert deployment["enforce_parameter_schema"] is True
    assert deployment["description"]
    assert inner
    for model in inner.values():
        assert model["title"]
        for field, described in model.get("properties", {}).items():
            assert described.get("title"), (name, field)
            assert described.get("description"), (name, field)
            assert is_bounded(described), (name, field, described)


def is_bounded(described: dict[str, Any]) -> bool:
    """Whether the form knows what may be written: a bound, a choice, or a kind that needs none."""
    parts = described.get("anyOf", described.get("allOf", [described]))
    return all(
        part.get("type") in {"boolean", "null"}
        or part.get("format") in {"date-time", "path"}
        or {"enum", "const", "$ref", "maximum", "maxLength", "maxItems"} & set(part)
        for part in parts
    )


def test_schedules_and_limits_are_those_of_the_definitions(served: Served) -> None:
    for entry in entries():
        found = served.deployment(name_of(entry))

        crons = [item["schedule"]["cron"] for item in found["schedules"]]
        limit = (found["global_concurrency_limit"] or {}).get("limit")
        assert crons == [item["cron"] for item in entry["schedules"]]
        assert limit == entry.get("concurrency_limit", {}).get("limit")
        assert found["paused"] is False


def test_a_run_started_by_hand_moves_the_world(served: Served) -> None:
    run = served.start("optimize/manual", {"targets": ["support"]}).raise_for_status().json()

    finished = served.finished(run)

    assert finished["state_type"] == "COMPLETED", served.log.read_text(encoding="utf-8")
    equipment = wiring.equip(settings.load(served.folder / "optimizer.yaml", {}))
    try:
        runs = {row["id"]: row for row in equipment.ledger.runs.runs(limit=50)}
        published = equipment.gateway("support").read("support")
        stored = equipment.ledger.intake.cursor("calls")
    finally:
        wiring.close(equipment)
    assert runs[run["id"]]["status"] == "completed"
    assert published is not None
    assert [(part.arm, part.share) for part in published.slices] == [("large", 1.0)]
    assert stored.newest_s is not None


def test_the_same_key_is_the_same_run(served: Served) -> None:
    first = served.start("guard/guard", {}, key="twice").raise_for_status().json()
    second = served.start("guard/guard", {}, key="twice").raise_for_status().json()

    assert first["id"] == second["id"]
    assert served.finished(first)["state_type"] in {"COMPLETED", "CANCELLED"}


def test_a_command_starts_a_run_at_the_server(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", str(served.client.base_url))
    arguments = ["--config", str(served.folder / "optimizer.yaml"), "guard", "--dispatch", "--json"]

    result = CliRunner().invoke(group(ENTRIES), arguments)

    assert result.exit_code == 0, result.output
    run = served.client.get(f"/flow_runs/{json.loads(result.stdout)['run']}").json()
    assert run["deployment_id"] == served.deployment("guard/guard")["id"]


@pytest.mark.parametrize(
    ("name", "parameters", "field"),
    [
        ("optimize/manual", {"dry_run": "perhaps"}, "dry_run"),
        ("optimize/manual", {"dryrun": True}, "dryrun"),
        ("maintain/maintain", {"grains_days": 0}, "grains_days"),
        ("rollback/rollback", {"target": "support"}, "reason"),
        ("approve/approve", {"decision_id": "d-123", "answer": "maybe"}, "answer"),
    ],
)
def test_wrong_parameters_are_refused_by_the_field_s_name(
    served: Served, name: str, parameters: dict[str, Any], field: str
) -> None:
    answer = served.start(name, parameters)

    assert answer.status_code in {409, 422}
    assert field in answer.text


def test_the_schedule_makes_runs(served: Served) -> None:
    reap = served.deployment("reap/reap")["id"]
    scheduled: list[Any] = []

    def made() -> bool:
        query = {"deployments": {"id": {"any_": [reap]}}}
        scheduled[:] = served.client.post("/flow_runs/filter", json=query).raise_for_status().json()
        return bool(scheduled)

    wait_for(made, 120, lambda: "the scheduler made no run of reap")
    assert all(run["auto_scheduled"] for run in scheduled)


def test_sigterm_ends_everything(served: Served) -> None:
    assert len(processes_of(served.folder)) >= 2

    served.process.send_signal(signal.SIGTERM)
    code = served.process.wait(90)

    assert code == 0, served.log.read_text(encoding="utf-8")
    wait_for(lambda: not processes_of(served.folder), 15, lambda: str(processes_of(served.folder)))
    assert not answers(served.client)
