"""On real outcome tables: what each rule may save, what it breaks, and what the loop must reach."""

import gzip
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.races.promises import of_tables
from bench.races.replays import CODE, READ, ROUTE, Replayed, Tabled, Volume, limits
from bench.races.tables import (
    BEST,
    CAPPED,
    STATUS_QUO,
    SWAPPED,
    TESTED,
    CheapestTest,
    Outcome,
    peers,
)
from bench.races.worlds import counted
from bench.replay_savings import Result
from bench.world.coderouter import Benchmark
from bench.world.outcomes import Outcomes, measured
from bench.world.routellm import COLUMNS, RESULTS, STRONG, WEAK, read
from datasets import datasets
from optimizer.targets import Arm, ModelConfig

MARGIN = 0.05
QUALITY = {"strong": 0.8, "as-good": 0.8, "poor": 0.6}
COST_USD = {"strong": 0.010, "as-good": 0.005, "poor": 0.001}


def outcomes(quality: float, cost_usd: float) -> Outcomes:
    n, right = 100, round(100 * quality)
    unknown = np.full(n, np.nan)
    return measured(
        score=np.arange(n) < right,
        cost_usd=np.full(n, cost_usd),
        latency_ms=unknown,
        input_tokens=unknown,
        output_tokens=unknown,
    )


@pytest.fixture(scope="module")
def bench() -> Benchmark:
    """Two targets: on the second one the arm at half the price is too bad as well."""
    arms = tuple(Arm(name=name, config=ModelConfig(model=name)) for name in QUALITY)
    lost = {("second", "as-good"): 0.2}
    return Benchmark(
        outcomes={
            (target, name): outcomes(QUALITY[name] - lost.get((target, name), 0.0), COST_USD[name])
            for target in ("first", "second")
            for name in QUALITY
        },
        arms={"first": arms, "second": arms},
        no_latency=0,
        no_cost=0,
        baseline="strong",
    )


@pytest.fixture(scope="module")
def by_rule(bench: Benchmark) -> dict[str, Outcome]:
    return {each.rule: each for each in peers(bench, MARGIN, 20)}


def test_staying_saves_nothing_and_hindsight_most_of_what_keeps_the_margin(
    by_rule: dict[str, Outcome],
) -> None:
    assert by_rule[STATUS_QUO].saving == 0.0
    assert by_rule[BEST].saving == pytest.approx(0.25)
    assert by_rule[SWAPPED].saving == 0.0
    assert by_rule[BEST].beyond == by_rule[STATUS_QUO].beyond == 0


def test_a_weighted_score_buys_its_saving_with_quality(by_rule: dict[str, Outcome]) -> None:
    found = by_rule[CAPPED]

    assert found.saving > by_rule[BEST].saving
    assert found.beyond > 0.5 * found.ends


def test_a_test_of_the_margin_mostly_keeps_it(by_rule: dict[str, Outcome]) -> None:
    found = by_rule[TESTED]

    assert 0 <= found.saving <= by_rule[BEST].saving
    assert found.beyond <= 0.2 * found.ends


def test_the_cheapest_arm_that_passes_is_taken_and_else_the_first() -> None:
    rule = CheapestTest(np.array([3.0, 2.0, 1.0]), MARGIN)
    units = np.full((2, 3), 1_000)
    good = np.array([[800, 800, 600], [800, 750, 600]])

    state = rule.observe(rule.start(np.full((2, 3), 0.5)), counted(units, good))

    assert rule.winner(state).tolist() == [1, 0]


def result(seed: int, saving: float, in_force: dict[str, str]) -> Result:
    return Result(
        seed=seed,
        saving=saving,
        lost=0.0,
        settled_saving=saving,
        canary_requests=0,
        hours_to_reach=20.0 + seed,
        outcomes=Counter(promoted=1),
        in_force=in_force,
        since={"first": 20.0 + seed},
    )


def tabled(bench: Benchmark, saving: float, second: str) -> Tabled:
    results = tuple(
        result(seed, saving, {"first": "as-good", "second": second}) for seed in range(1_000)
    )
    volume = Volume(
        table=CODE, margin=MARGIN, requests_per_hour=1_000, seeds=len(results), stated=True
    )
    return Tabled(
        replayed=(Replayed(volume=volume, bench=bench, results=results),),
        others={},
    )


def test_the_gates_of_the_tables_hold_and_can_fail(bench: Benchmark) -> None:
    kept = of_tables(tabled(bench, 0.25, "strong"), quick=False)
    broken = of_tables(tabled(bench, 0.0, "poor"), quick=False)

    assert [gate.holds for gate in kept] == [True, True, True]
    assert [gate.holds for gate in broken] == [False, False, False]


def test_a_full_run_needs_its_target_runs(bench: Benchmark) -> None:
    found = tabled(bench, 0.25, "strong")
    (each,) = found.replayed
    few = replace(found, replayed=(replace(each, results=each.results[:10]),))

    assert not of_tables(few, quick=False)[-1].holds
    assert of_tables(few, quick=True)[-1].holds


def test_the_hours_are_those_of_nine_seeds_in_ten(bench: Benchmark) -> None:
    (each,) = tabled(bench, 0.25, "strong").replayed

    assert replace(each, results=each.results[:10]).hours == 29.0


def test_the_replays_ask_nobody_for_approval() -> None:
    assert not limits(0.03).approval.when_missed


def test_a_request_of_routellm_costs_its_prompt_at_the_models_price(tmp_path: Path) -> None:
    rows = pd.DataFrame(
        {
            "benchmark": ["mmlu", "mmlu", "mmlu", "gsm8k", "gsm8k"],
            "subject": ["anatomy", "anatomy", "virology", None, None],
            "prompt_chars": [400, 800, 100, 40, 41],
            COLUMNS[WEAK]: [0, 1, 1, 0, 1],
            COLUMNS[STRONG]: [1, 1, 0, 1, 1],
        }
    )
    with gzip.open(tmp_path / RESULTS, "wt", encoding="utf-8") as file:
        rows.to_csv(file, index=False)

    found = read(tmp_path)

    assert found.targets == ("anatomy", "gsm8k", "virology")
    assert found.lost("anatomy", WEAK) == 0.5
    assert found.outcomes["anatomy", STRONG].cost_usd == pytest.approx(150 * 24.7e-6)
    assert found.saved("gsm8k", WEAK) == pytest.approx(1 - 0.24 / 24.7)
    assert found.target("virology", known_as="v").baseline == STRONG


def test_the_tables_are_those_their_sources_tell() -> None:
    folder = datasets(CODE, ROUTE)
    route = READ[ROUTE](folder / ROUTE)
    gsm8k = [route.outcomes["gsm8k", arm].quality for arm in (WEAK, STRONG)]

    assert len(route.targets) == 58
    assert gsm8k == pytest.approx([0.638, 0.857], abs=5e-4)
    assert len(READ[CODE](folder / CODE).models) == 8
