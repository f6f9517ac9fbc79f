"""Tuning through the real flows: an application takes its temperature from what is published."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from experiment_scene import limits
from flow_scene import Installation, installed
from optimizer.allocation import SliceName
from optimizer.client import Allocations
from optimizer.cycle import Fate
from optimizer.decision import State
from optimizer.experiment.design import Rule
from optimizer.experiment.life import Experiment, ExperimentState
from optimizer.loop.keep import broken_experiments
from rollout_scene import HOUR, START, TARGET

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("prefect_harness", "closed_afterwards")]

LIMITS = limits(failure_margin=0.02)
BASE = 0.7
SHARE = 0.3
Rates = Mapping[float, float]
"""By temperature."""


def configured(place: Path, tuning: str = "", limits: str = LIMITS) -> Installation:
    section = (
        "parameters: [{name: temperature, low: 0.1, high: 0.9, step: 0.2}], "
        f"share: {SHARE}, min_duration: 2h, max_duration: 4h, {tuning}"
    )
    return installed(
        place,
        limits=limits,
        targets=f'[{{name: "{TARGET}", baseline: large, '
        f"arms: [{{name: large, model: large-1, temperature: {BASE}}}], tuning: {{{section}}}}}]",
        sources="[{kind: file, name: calls, paths: [calls.jsonl]}]",
    )


def serve_an_hour(
    given: Installation,
    hour: int,
    *,
    good: Rates,
    failing: Rates,
    cost_usd: Rates,
    calls: int = 1500,
) -> None:
    """The calls of one hour, each at the temperature that was published for it."""
    begin = START + hour * HOUR
    rng = np.random.default_rng(hour)
    reader = Allocations(
        given.directory / "allocations",
        baselines={TARGET: {"arm": "large", "model": "large-1", "temperature": BASE}},
        clock=begin.timestamp,
    )
    lines = []
    for n in range(calls):
        choice = reader.choose(TARGET, f"session-{hour}-{n}")
        temperature = choice.config["temperature"]
        assert isinstance(temperature, float)
        lines.append(
            {
                **choice.log_fields(),
                "request_id": f"r-{hour}-{n}",
                "ts": (begin + timedelta(seconds=3600 * n / calls)).isoformat(),
                "session_id": f"session-{hour}-{n}",
                "latency_ms": round(float(rng.lognormal(6.3, 0.3)), 3),
                "cost_usd": cost_usd.get(temperature, 0.002),
                "status": "ok" if rng.random() > failing.get(temperature, 0.01) else "error",
                "quality": 1.0 if rng.random() < good.get(temperature, 0.6) else 0.0,
            }
        )
    with (given.directory / "calls.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def lived(
    given: Installation,
    hours: int,
    *,
    good: Rates,
    failing: Rates | None = None,
    cost_usd: Rates | None = None,
    until: Callable[[Installation], bool],
) -> list[float]:
    """So many hours of traffic; the share of traffic that points held in each."""
    given.optimize(START)
    explored = []
    for hour in range(hours):
        held = given.held()
        explored.append(
            sum(
                part.share
                for part in held.slices
                if part.name is SliceName.EXPERIMENT and part.arm != held.baseline
            )
        )
        serve_an_hour(given, hour, good=good, failing=failing or {}, cost_usd=cost_usd or {})
        moment: datetime = START + (hour + 1) * HOUR + timedelta(minutes=6)
        given.guard(moment - timedelta(minutes=1))
        given.optimize(moment)
        if until(given):
            break
    return explored


def trials(given: Installation) -> list[Experiment]:
    found = given.equipment.ledger.experiments.find(target=TARGET)
    assert {each.design.rule for each in found} == {Rule.TUNING}
    return list(found)


def test_a_better_temperature_is_found_proposed_and_promoted_by_its_canary(tmp_path: Path) -> None:
    given = configured(tmp_path)

    explored = lived(
        given,
        40,
        good={BASE: 0.7, 0.3: 0.9},
        until=lambda seen: any(d.state.is_final for d in seen.equipment.ledger.decisions.find()),
    )

    (decision,) = given.equipment.ledger.decisions.find()
    assert (decision.strategy, decision.candidate) == ("tuning", "large@temperature:0.3")
    assert not decision.exploratory
    assert decision.state is State.COMPLETED, decision
    assert given.shares() == {"large@temperature:0.3": 1.0}
    assert given.equipment.baseline_arms() == {TARGET: "large@temperature:0.3"}
    (won,) = [each for each in trials(given) if each.winner == decision.candidate]
    assert won.state is ExperimentState.COMPLETED
    assert max(explored) <= SHARE + 1e-6
    assert broken_experiments(given.equipment) == []


def test_a_better_temperature_that_fails_too_often_is_no_winner_and_never_tried_again(
    tmp_path: Path,
) -> None:
    given = configured(tmp_path, "max_trials: 4")

    lived(
        given,
        24,
        good={BASE: 0.7, 0.3: 0.9},
        failing={0.3: 0.3},
        until=lambda seen: len([t for t in trials(seen) if t.state.is_final]) == 4,
    )

    tried = trials(given)
    arms = [each.design.arms[-1] for each in tried]
    assert sorted(arms) == [f"large@temperature:{value}" for value in (0.1, 0.3, 0.5, 0.9)]
    (harmful,) = [each for each in tried if each.design.arms[-1] == "large@temperature:0.3"]
    assert harmful.dropped == ("large@temperature:0.3",)
    assert harmful.winner == "large"
    assert given.equipment.ledger.decisions.find() == []
    assert given.shares() == {"large": 1.0}


def test_a_better_temperature_that_costs_too_much_is_refused_and_holds_the_next_trial(
    tmp_path: Path,
) -> None:
    given = configured(tmp_path, limits=f"{LIMITS}  budget: {{per_request_usd: 0.01}}\n")

    def refused(seen: Installation) -> list[tuple[str, str]]:
        stored = seen.equipment.ledger.decisions.proposals(since=START)
        return [(fate, reason) for each, fate, reason in stored if each.strategy == "tuning"]

    lived(
        given,
        20,
        good={BASE: 0.6, 0.3: 0.95},
        cost_usd={0.3: 0.02},
        until=lambda seen: len(refused(seen)) > 1,
    )

    assert {fate for fate, _ in refused(given)} == {Fate.BUDGET.value}
    assert all("cost_usd of large@temperature:0.3" in reason for _, reason in refused(given))
    assert given.equipment.ledger.decisions.find() == []
    assert all(each.state.is_final for each in trials(given))
    assert given.shares() == {"large": 1.0}
