"""An hour may run twice, or after three that never ran: the ledger ends in the same bytes."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flows.equipped import close_all
from flows.optimize import optimize
from flows.parameters import OptimizeParameters
from optimizer.metrics import GRAIN_S, HOUR_S
from optimizer.storage import SqlLedger

pytestmark = pytest.mark.usefixtures("prefect_harness")

START = datetime(2026, 3, 2, 6, tzinfo=UTC)
HOURS = 5
EVER_S = 1 << 40


def write_hour(place: Path, hour: int) -> None:
    """Append what reaches the logs in one hour: calls, some late or repeated, and scores."""
    calls, scores = arriving(hour)
    earlier = arriving(hour - 1)[1] if hour else []
    begin, end = ((START + timedelta(hours=hour + x)).isoformat() for x in (0, 1))
    due = [row for row in scores if row["ts"] < end]
    due += [row for row in earlier if row["ts"] >= begin]
    for name, rows in (("calls", calls), ("scores", due)):
        with (place / f"{name}.jsonl").open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)


def arriving(hour: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The hour's calls, and their scores, which come up to 50 minutes later."""
    rng = np.random.default_rng(hour)
    calls, scores = [], []
    for row in range(200):
        late = row % 20 == 0 and hour > 0
        ts = START + timedelta(hours=hour - late, seconds=float(rng.uniform(0, 3600)))
        call = {
            "request_id": f"r-{hour}-{row}",
            "ts": ts.isoformat(),
            "target": "chat",
            "arm": "large",
            "session_id": f"s-{row % 50}",
            "latency_ms": round(float(rng.lognormal(6, 1)), 3),
            "cost_usd": round(float(rng.lognormal(-6, 1)), 9),
            "status": "ok" if rng.random() > 0.03 else "error",
        }
        calls += [call] * (2 if row % 37 == 0 else 1)
        judged = ts + timedelta(minutes=float(rng.uniform(1, 50)))
        score = {"request_id": call["request_id"], "ts": judged.isoformat()}
        scores.append({**score, "score": round(float(rng.random()), 4)})
    return calls, scores


def configured(place: Path, url: str) -> Path:
    place.mkdir()
    config = place / "optimizer.yaml"
    config.write_text(
        f"""
database: {{connection_string: "{url}", spool_directory: "{place}/spool"}}
integrations:
  sources:
    - {{kind: file, name: calls, root: "{place}", paths: [calls.jsonl]}}
    - {{kind: file, name: scores, delivers: feedback, root: "{place}", paths: [scores.jsonl]}}
  gateways: [{{kind: file, name: published, directory: "{place}/allocations"}}]
targets:
  - name: chat
    baseline: large
    arms: [{{name: large, model: m-large}}, {{name: small, model: m-small}}]
"""
    )
    return config


def run(config: Path, hour: int) -> None:
    """The run scheduled at the end of the hour, a little late."""
    as_of = START + timedelta(hours=hour + 1)
    parameters = OptimizeParameters(
        config_file=config, as_of=as_of, clock=as_of + timedelta(minutes=7)
    )
    asyncio.run(optimize(parameters))


def stored(url: str) -> dict[int, pd.DataFrame]:
    ledger = SqlLedger.open(url)
    try:
        return {
            width: ledger.aggregates.load(width, start_s=0, end_s=EVER_S)
            for width in (GRAIN_S, HOUR_S)
        }
    finally:
        ledger.close()
        close_all()


@pytest.mark.slow
def test_hours_run_twice_or_skipped_end_in_the_bytes_of_a_single_pass(
    tmp_path: Path, database_url: str
) -> None:
    single = configured(tmp_path / "single", f"sqlite:///{tmp_path}/single.db")
    for hour in range(HOURS):
        write_hour(single.parent, hour)
    run(single, HOURS - 1)
    wanted = stored(f"sqlite:///{tmp_path}/single.db")
    assert wanted[GRAIN_S]["n"].sum() > 150 * HOURS
    assert wanted[GRAIN_S]["n_quality"].sum() > 0

    place = configured(tmp_path / "hourly", database_url)
    for hour in range(HOURS):
        write_hour(place.parent, hour)
        if hour not in {1, 2, 3}:
            run(place, hour)
            run(place, hour)

    found = stored(database_url)
    for width, frame in wanted.items():
        pd.testing.assert_frame_equal(found[width], frame)
