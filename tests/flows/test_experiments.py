"""Experiments through the real flows, with an application that follows what is published."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from experiment_scene import limits
from flow_scene import Installation, installed
from optimizer.client import Allocations
from optimizer.decision import State
from optimizer.experiment.life import Experiment, ExperimentState
from optimizer.loop.keep import broken_experiments
from rollout_scene import HOUR, START, TARGET

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_harness", "closed_afterwards")]

LIMITS = limits(failure_margin=0.05)
ARMS = ("large", "small", "mini")
Rates = Mapping[str, float]


def configured(place: Path, experiment: str, arms: tuple[str, ...] = ARMS) -> Installation:
    models = ", ".join(f"{{name: {arm}, model: {arm}-1}}" for arm in arms)
    return installed(
        place,
        limits=LIMITS,
        targets=f'[{{name: "{TARGET}", baseline: large, arms: [{models}], experiments: '
        f"[{{name: which, arms: [{', '.join(arms)}], start: auto, {experiment}}}]}}]",
        sources="[{kind: file, name: calls, paths: [calls.jsonl]}]",
    )


def serve_an_hour(
    given: Installation, hour: int, *, good: Rates, failing: Rates, calls: int, minutes: int = 60
) -> None:
    """The calls of one hour, each with the arm that was published, appended to the log."""
    begin = START + hour * HOUR
    rng = np.random.default_rng(hour)
    reader = Allocations(
        given.directory / "allocations",
        baselines={TARGET: {"arm": "large", "model": "large-1"}},
        clock=begin.timestamp,
    )
    lines = []
    for n in range(calls):
        fields = reader.choose(TARGET, f"session-{hour}-{n}").log_fields()
        arm = str(fields["arm"])
        lines.append(
            {
                **fields,
                "request_id": f"r-{hour}-{n}",
                "ts": (begin + timedelta(seconds=60 * minutes * n / calls)).isoformat(),
                "session_id": f"session-{hour}-{n}",
                "latency_ms": round(float(rng.lognormal(6.3, 0.3)), 3),
                "cost_usd": 0.002,
                "status": "ok" if rng.random() > failing.get(arm, 0.01) else "error",
                "quality": 1.0 if rng.random() < good.get(arm, 0.8) else 0.0,
            }
        )
    with (given.directory / "calls.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def the_experiment(given: Installation) -> Experiment:
    (found,) = given.equipment.ledger.experiments.find(target=TARGET)
    return found


def lived(
    given: Installation,
    hours: int,
    *,
    good: Rates | None = None,
    failing: Rates | None = None,
    calls: int = 1500,
    until: Callable[[Installation], bool] = lambda _given: False,
) -> int:
    """So many hours of traffic with a guard and an hourly run each; the hours that were lived."""
    given.optimize(START)
    for hour in range(hours):
        serve_an_hour(given, hour, good=good or {}, failing=failing or {}, calls=calls)
        moment: datetime = START + (hour + 1) * HOUR + timedelta(minutes=6)
        given.guard(moment - timedelta(minutes=1))
        given.optimize(moment)
        if until(given):
            return hour + 1
    return hours


def test_the_better_arm_is_found_then_proposed_and_promoted_by_its_canary(tmp_path: Path) -> None:
    given = configured(tmp_path, "share: 0.6, min_duration: 2h, max_duration: 2d")

    def decided(given: Installation) -> bool:
        return any(d.state.is_final for d in given.equipment.ledger.decisions.find())

    lived(given, 20, good={"large": 0.7, "small": 0.85, "mini": 0.7}, until=decided)

    experiment = the_experiment(given)
    assert experiment.state is ExperimentState.COMPLETED
    assert experiment.winner == "small"
    assert experiment.estimates[0].lower is not None
    (decision,) = given.equipment.ledger.decisions.find()
    assert (decision.strategy, decision.candidate) == ("ab_test", "small")
    assert not decision.exploratory
    assert decision.state is State.COMPLETED, decision
    assert given.shares() == {"small": 1.0}
    assert broken_experiments(given.equipment) == []


def test_a_tie_ends_without_a_winner_and_the_baseline_restored(tmp_path: Path) -> None:
    given = configured(tmp_path, "share: 0.6, min_duration: 1h, max_duration: 5h")

    lived(given, 8)

    experiment = the_experiment(given)
    assert experiment.state is ExperimentState.COMPLETED
    assert experiment.winner is None
    assert "no winner" in experiment.reason
    assert given.shares() == {"large": 1.0}
    assert given.equipment.ledger.decisions.find() == []


def test_a_harmful_arm_is_taken_out_by_the_guard_and_the_rest_goes_on(tmp_path: Path) -> None:
    given = configured(tmp_path, "share: 0.6, min_duration: 1d, max_duration: 2d")
    lived(given, 1)
    held = given.shares()

    serve_an_hour(given, 1, good={}, failing={"mini": 0.5}, calls=1500, minutes=30)
    given.guard(START + HOUR + timedelta(minutes=40))

    experiment = the_experiment(given)
    assert experiment.state is ExperimentState.RUNNING
    assert experiment.dropped == ("mini",)
    assert given.shares() == pytest.approx(
        {"large": held["large"] + held["mini"], "small": held["small"]}
    )
    assert given.messages()[-1]["severity"] == "critical"


def test_a_bandit_shifts_traffic_to_the_arms_that_may_be_best(tmp_path: Path) -> None:
    given = configured(
        tmp_path, "rule: top_two, share: 0.6, min_duration: 1d, max_duration: 2d", ARMS
    )

    lived(given, 4, good={"large": 0.8, "small": 0.85, "mini": 0.5})

    experiment = the_experiment(given)
    assert experiment.state is ExperimentState.RUNNING
    shares = given.shares()
    assert shares["mini"] < 0.05
    assert shares["small"] > 0.2
    assert given.equipment.baseline_arms() == {TARGET: "large"}


def test_a_bandit_that_keeps_running_leans_on_its_leader_and_proposes_it_at_the_end(
    tmp_path: Path,
) -> None:
    given = configured(
        tmp_path,
        "rule: top_two, keep_running: true, share: 0.6, min_duration: 1h, max_duration: 6h",
    )

    def leading(given: Installation) -> bool:
        return the_experiment(given).leader is not None

    hours = lived(given, 5, good={"large": 0.7, "small": 0.9, "mini": 0.6}, until=leading)
    assert the_experiment(given).state is ExperimentState.RUNNING
    assert given.shares()["small"] > 0.5
    for hour in range(hours, 7):
        serve_an_hour(given, hour, good={"small": 0.9}, failing={}, calls=1500)
        given.optimize(START + (hour + 1) * HOUR + timedelta(minutes=6))

    assert the_experiment(given).winner == "small"
    (decision,) = given.equipment.ledger.decisions.find()
    assert (decision.strategy, decision.candidate) == ("bandit", "small")
