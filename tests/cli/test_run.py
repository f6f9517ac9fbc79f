"""Flows run by a command, in its own process, without a server."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from house import ROOT
from optimizer import settings, wiring
from terminal import Terminal

pytestmark = pytest.mark.slow


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = os.environ  # noqa: TID251 - less the Prefect of whoever runs the tests
    environment = {k: v for k, v in inherited.items() if not k.startswith("PREFECT_")}
    return subprocess.run(
        [sys.executable, "-m", "flows.cli", "--config", str(folder / "optimizer.yaml"), *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": f"{ROOT}:{environment.get('PYTHONPATH', '')}"},
        capture_output=True,
        text=True,
        check=False,
    )


def numbers(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_cycle_a_guard_and_the_housekeeping_run_without_a_server(terminal: Terminal) -> None:
    folder = terminal.folder
    now = datetime.now(UTC)  # noqa: TID251 - commands act now
    rows = [
        {
            "request_id": f"r{n}",
            "ts": (now - timedelta(minutes=90) + timedelta(seconds=n)).isoformat(),
            "target": "support",
            "arm": "large",
        }
        for n in range(100)
    ]
    (folder / "logs" / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    dry = command(folder, "run", "--dry-run", "--json")
    published_dry = list((folder / "allocations").glob("*"))
    cycle = command(folder, "run", "--json", "--target", "support")
    guard = command(folder, "guard", "--json")
    maintain = command(folder, "maintain")

    for done in (dry, cycle, guard, maintain):
        assert done.returncode == 0, done.stderr
    assert numbers(dry)["rows"] == 100
    assert published_dry == []
    assert numbers(cycle)["reconciled"] == {"published": 1}
    assert numbers(guard)["flow"] == "guard"
    assert maintain.stdout.startswith("maintain: ")
    assert (folder / ".llmopt" / "prefect").is_dir()
    equipment = wiring.equip(settings.load(folder / "optimizer.yaml", {}))
    try:
        statuses = [row["status"] for row in equipment.ledger.runs.runs(limit=10)]
    finally:
        wiring.close(equipment)
    assert set(statuses) == {"completed"}


def test_a_source_that_stays_away_is_told_and_is_exit_code_1(terminal: Terminal) -> None:
    config = terminal.folder / "optimizer.yaml"
    config.write_text(config.read_text().replace('paths: ["logs', 'root: none, paths: ["logs'))

    done = command(terminal.folder, "run")

    assert done.returncode == 1
    assert "source calls stayed away" in done.stdout
    assert "Traceback" not in done.stdout


def test_a_wrong_configuration_stops_before_prefect_starts(terminal: Terminal) -> None:
    (terminal.folder / "optimizer.yaml").write_text("servce: {}\n")

    done = command(terminal.folder, "run")

    assert done.returncode == 2
    assert "did you mean 'service'?" in done.stderr
    assert not (terminal.folder / ".llmopt").exists()
