"""What does not answer: a source, a gateway; and what Prefect tries again."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task

from flow_scene import installed
from optimizer.allocation import Allocation
from optimizer.decision import State
from optimizer.errors import ConfigError, ConflictError, DataError, UnavailableError
from optimizer.ports import Gateway
from rollout_scene import HOUR, START, TARGET, propose, put, traffic
from tasks import act, decide, experiment, maintain, observe, report
from tasks.options import EFFECT

pytestmark = pytest.mark.usefixtures("prefect_harness", "closed_afterwards")

GOOD = {"small": 0.8, "large": 0.8}
BAD = {"small": 0.5, "large": 0.8}
RETRIED = [
    observe.pull_metrics,
    observe.compute_aggregates,
    act.reconcile,
    act.judge_in_flight,
    act.take_step,
    act.roll_back,
    decide.decide,
    experiment.run_experiments,
    maintain.prune_aggregates,
    maintain.compact_spool,
]
PURE = [
    decide.run_analyzer,
    decide.run_strategy,
    maintain.verify_chain,
    report.publish_cycle,
    report.publish_decision,
]


class Stumbling:
    """A gateway that does not answer the first times it is asked to apply."""

    def __init__(self, inner: Gateway, times: int) -> None:
        self._inner = inner
        self.left = times
        self.applied = 0

    @property
    def name(self) -> str:
        return self._inner.name

    def apply(self, allocation: Allocation, *, arms: Mapping[str, Mapping[str, object]]) -> None:
        if self.left > 0:
            self.left -= 1
            raise UnavailableError("the gateway does not answer")
        self.applied += 1
        self._inner.apply(allocation, arms=arms)

    def read(self, target: str) -> Allocation | None:
        return self._inner.read(target)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once."""
    for each in RETRIED:
        monkeypatch.setattr(each, "retry_delay_seconds", 0)


@pytest.mark.parametrize("each", RETRIED, ids=lambda each: each.name)
def test_what_touches_the_outside_is_tried_four_times(each: Any) -> None:  # noqa: ANN401 - a task
    assert (each.retries, each.retry_delay_seconds) == (3, [1, 5, 15])
    assert each.retry_jitter_factor == pytest.approx(0.2)
    assert each.timeout_seconds > 0
    assert not each.persist_result


@pytest.mark.parametrize("each", PURE, ids=lambda each: each.name)
def test_what_only_thinks_is_tried_once(each: Any) -> None:  # noqa: ANN401 - a task
    assert each.retries == 0
    assert not each.persist_result


@pytest.mark.parametrize(
    ("error", "tries"),
    [
        (UnavailableError, 4),
        (ConflictError, 1),
        (DataError, 1),
        (ConfigError, 1),
        (KeyError, 1),
        (ValueError, 1),
    ],
)
def test_prefect_retries_what_does_not_answer_and_nothing_else(
    error: type[Exception], tries: int
) -> None:
    made = []

    @task(**{**EFFECT, "retry_delay_seconds": 0})
    def touch() -> None:
        made.append(1)
        raise error("no")

    @flow
    async def touching() -> None:
        touch()

    with pytest.raises(error):
        asyncio.run(touching())
    assert len(made) == tries


def log_of(hours: int) -> list[str]:
    return [
        json.dumps(
            {
                "request_id": f"r{n}",
                "ts": (START + timedelta(minutes=n)).isoformat(),
                "target": TARGET,
                "arm": "large",
                "quality": 0.8,
            }
        )
        for n in range(60 * hours)
    ]


@pytest.mark.usefixtures("hurried")
def test_a_source_that_stays_away_is_told_and_the_run_completes(
    tmp_path: Path,
) -> None:
    (tmp_path / "calls.jsonl").write_text("\n".join(log_of(1)) + "\n")
    given = installed(
        tmp_path,
        sources="""[
      {kind: file, name: calls, paths: [calls.jsonl]},
      {kind: file, name: elsewhere, root: away, paths: ["*.jsonl"]}]""",
    )

    result = given.optimize(START + HOUR)

    assert list(result["absent_sources"]) == ["elsewhere"]
    assert result["rows"] == 60
    assert given.last_run()["status"] == "completed"
    (tmp_path / "away").mkdir()
    (tmp_path / "away" / "more.jsonl").write_text(
        json.dumps({"request_id": "x", "ts": START.isoformat(), "target": TARGET, "arm": "large"})
    )
    again = given.optimize(START + 2 * HOUR)
    assert (again["absent_sources"], again["rows"]) == ({}, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_a_target_without_fresh_data_is_held(tmp_path: Path) -> None:
    given = installed(
        tmp_path, sources='[{kind: file, name: calls, root: away, paths: ["*.jsonl"]}]'
    )
    given.optimize(START)
    decision = propose(given.equipment, START).id
    given.optimize(START)
    put(given.equipment, traffic(START, START + HOUR, quality=GOOD))

    # The newest data are older than data_lag_max.
    result = given.optimize(START + 4 * HOUR)

    assert list(result["absent_sources"]) == ["calls"]
    assert (result["moves"], result["started"]) == ({"hold": 1}, {})
    assert given.decision(decision).stage == 0
    assert given.shares() == {"small": 0.1, "large": 0.9}


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_a_gateway_that_stumbles_is_asked_again_within_the_run(
    tmp_path: Path,
) -> None:
    given = installed(tmp_path)
    given.optimize(START)
    decision = propose(given.equipment, START).id
    stumbling = Stumbling(given.equipment.gateway(TARGET), times=2)

    with given.equipped_with(gateways={"files": stumbling}):
        result = given.rollout(decision, START)

    assert (result["state"], stumbling.applied) == ("deploying", 1)
    assert given.equipment.ledger.effects.open_intents() == []
    assert given.transitions(decision) == ["validating", "deploying"]
    assert "deploying (large -> small)" in given.messages()[-1]["title"]


@pytest.mark.usefixtures("hurried")
def test_a_gateway_that_stays_away_leaves_an_intent_that_the_next_run_finishes_and_tells(
    tmp_path: Path,
) -> None:
    given = installed(tmp_path)
    given.optimize(START)
    decision = propose(given.equipment, START).id
    given.optimize(START)
    put(given.equipment, traffic(START, START + HOUR, quality=BAD))
    stumbling = Stumbling(given.equipment.gateway(TARGET), times=99)

    with given.equipped_with(gateways={"files": stumbling}):
        failed = given.guard(START + HOUR)

    assert failed["started"][decision].startswith("not done: ")
    assert given.last_run("guard")["status"] == "completed"
    assert given.decision(decision).state is State.ROLLING_BACK
    assert given.shares() == {"small": 0.1, "large": 0.9}
    (intent,) = given.equipment.ledger.effects.open_intents()
    assert intent.decision_id == decision

    after = given.guard(START + 1.1 * HOUR)

    assert after["reconciled"] == {"resumed": 1}
    assert given.decision(decision).state is State.ROLLED_BACK
    assert given.shares() == {"large": 1.0}
    assert given.equipment.ledger.effects.open_intents() == []
    assert "rolled_back (large -> small)" in given.messages()[-1]["title"]
    assert given.transitions(decision)[-2:] == ["rolling_back", "rolled_back"]


@pytest.mark.slow
def test_a_damaged_allocation_holds_the_start_and_is_told(tmp_path: Path) -> None:
    given = installed(tmp_path)
    given.optimize(START)
    decision = propose(given.equipment, START).id
    (published,) = (tmp_path / "allocations").glob("*.json")
    published.write_text(published.read_text().replace("large-1", "large-2"))

    result = given.rollout(decision, START)

    assert (result["move"], result["state"]) == ("held", "validating")
    assert "not what was published" in result["reason"]
    (told,) = given.messages()
    assert (told["severity"], told["decision_id"]) == ("error", decision)
    assert f"{TARGET}: held as validating" in told["title"]
    assert given.optimize(START)["started"] == {decision: "deploying"}
