"""An application that follows what is published: a saving is found in its log, tried and kept."""

import asyncio
import json
import re
import time
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter
from prefect.client.schemas.objects import TaskRun

from flow_scene import Installation, installed
from optimizer.client import Allocations
from optimizer.decision import State
from rollout_scene import HOUR, START, TARGET

pytestmark = pytest.mark.usefixtures("prefect_harness", "closed_afterwards")

CALLS_AN_HOUR = 3000
COST_USD = {"large": 0.004, "small": 0.002}
PATIENCE_S = 30
LIMITS = """
  guardrails:
    - {metric: quality, margin: 0.05, anchored: true}
    - {metric: failure_rate, margin: 0.05}
  stages:
    - {share: 0.2, bake_time: 1h, min_requests: 200}
    - {share: 0.5, bake_time: 1h, min_requests: 200}
  exploration_share: 0.2
  label_maturity: 0s
  settle_after: 2h
  holdback_share: 0.2
"""
TARGETS = f"""
  - name: "{TARGET}"
    baseline: large
    arms:
      - {{name: large, model: large-1}}
      - name: small
        model: small-1
        prior: {{quality: 0.8, n: 2000, cost_usd: 0.002, latency_ms: 600, failure_rate: 0.01,
                source: a published comparison}}
"""


def serve_an_hour(given: Installation, hour: int, *, quality: dict[str, float]) -> None:
    """The calls of one hour, each with the arm that was published, appended to the log."""
    begin = START + hour * HOUR
    rng = np.random.default_rng(hour)
    reader = Allocations(
        given.directory / "allocations",
        baselines={TARGET: {"arm": "large", "model": "large-1"}},
        clock=begin.timestamp,
    )
    lines = []
    for n in range(CALLS_AN_HOUR):
        choice = reader.choose(TARGET, f"session-{hour}-{n}")
        fields = choice.log_fields()
        arm = str(fields["arm"])
        lines.append(
            {
                **fields,
                "request_id": f"r-{hour}-{n}",
                "ts": (begin + timedelta(seconds=3600 * n / CALLS_AN_HOUR)).isoformat(),
                "session_id": f"session-{hour}-{n}",
                "latency_ms": round(float(rng.lognormal(6.3, 0.3)), 3),
                "cost_usd": round(COST_USD[arm] * float(rng.lognormal(0, 0.2)), 9),
                "status": "ok" if rng.random() > 0.01 else "error",
                "quality": round(min(1.0, max(0.0, quality[arm] + float(rng.normal(0, 0.1)))), 4),
            }
        )
    with (given.directory / "calls.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def lived(place: Path, hours: int, quality: dict[str, float]) -> Installation:
    """An installation after so many hours of traffic, with a guard at every half hour."""
    given = installed(
        place,
        limits=LIMITS,
        targets=TARGETS,
        sources="[{kind: file, name: calls, paths: [calls.jsonl]}]",
    )
    given.optimize(START)
    for hour in range(hours):
        serve_an_hour(given, hour, quality=quality)
        moment: datetime = START + (hour + 1) * HOUR + timedelta(minutes=6)
        given.guard(moment - timedelta(minutes=1))
        given.optimize(moment)
        if any(d.state.is_final for d in given.equipment.ledger.decisions.find()):
            break
    return given


@pytest.mark.slow
def test_a_saving_is_found_tried_promoted_and_settled(tmp_path: Path) -> None:
    given = lived(tmp_path, 14, {"large": 0.8, "small": 0.8})

    (decision,) = given.equipment.ledger.decisions.find()
    assert decision.state is State.COMPLETED, decision
    assert given.transitions(decision.id) == [
        "validating", "deploying", "deployed", "monitoring", "completed",
    ]  # fmt: skip
    assert given.shares() == {"small": 1.0}
    assert given.equipment.baseline_arms() == {TARGET: "small"}
    assert decision.actual is not None
    assert decision.actual.cost_reduction_pct == pytest.approx(50, abs=3)
    assert decision.actual.quality_delta == pytest.approx(0, abs=0.02)


@pytest.mark.slow
def test_harm_is_rolled_back_and_not_tried_again(tmp_path: Path) -> None:
    given = lived(tmp_path, 6, {"large": 0.8, "small": 0.6})

    (decision,) = given.equipment.ledger.decisions.find()
    assert decision.state is State.ROLLED_BACK, decision
    assert given.shares() == {"large": 1.0}
    again = given.optimize(START + 8 * HOUR)
    assert again["decisions"] == 0


def task_runs(run_id: str) -> list[TaskRun]:
    """Task runs of a flow run, once Prefect has written them all down."""

    async def read() -> list[TaskRun]:
        async with get_client() as client:
            return await client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[run_id])),
                task_run_filter=TaskRunFilter(),
            )

    deadline, found, before = time.monotonic() + PATIENCE_S, [], -1
    while time.monotonic() < deadline:
        found = asyncio.run(read())
        names = {run.name.partition("-")[0] for run in found}
        if "report" in names and len(found) == before:
            break
        before = len(found)
        time.sleep(1)
    return found


def test_the_number_of_task_runs_does_not_grow_with_targets(tmp_path: Path) -> None:
    counts = {}
    for n in (3, 30):
        place = tmp_path / str(n)
        place.mkdir()
        arms = "[{name: large, model: large-1}, {name: small, model: small-1}]"
        names = [f'{{name: "t{i}", baseline: large, arms: {arms}}}' for i in range(n)]
        (place / "calls.jsonl").write_text(
            "".join(
                json.dumps(
                    {
                        "request_id": f"r-{i}-{k}",
                        "ts": (START + timedelta(minutes=k)).isoformat(),
                        "target": f"t{i}",
                        "arm": "large",
                        "latency_ms": 500,
                    }
                )
                + "\n"
                for i in range(n)
                for k in range(60)
            )
        )
        given = installed(
            place,
            targets=f"[{', '.join(names)}]",
            sources="[{kind: file, name: calls, paths: [calls.jsonl]}]",
        )
        assert given.optimize(START + 2 * HOUR)["rows"] == 60 * n
        counts[n] = sorted(
            re.sub("-[0-9a-f]{3}$", "", run.name) for run in task_runs(str(given.last_run()["id"]))
        )

    assert counts[3] == counts[30]
    assert counts[3] == [
        "compute_aggregates",
        "decide",
        "judge_in_flight",
        "pull_metrics-calls",
        "reconcile",
        "report",
        "run_analyzer-anomaly",
        "run_analyzer-cost",
        "run_analyzer-drift",
        "run_analyzer-pattern",
        "run_analyzer-performance",
        "run_analyzer-quality",
        "run_strategy-cost_performance",
        "run_strategy-threshold",
    ]
