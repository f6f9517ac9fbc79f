import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.replay import QUICK, main, report
from bench.replay_harm import MEASURED, cases
from bench.replay_report import Report, gates, markdown, plot
from bench.replay_savings import best_per_target, best_swap, interval, volume
from bench.world.coderouter import BASELINE, MODELS, NO_RECORD, RESULTS, Benchmark, read
from datasets import datasets

MARGIN = 0.05
SIZE = replace(QUICK, hours=36, at_margin=4, beyond=4)

ARMS = {
    # name: (score lost against the baseline, cost in units of the baseline's, list price)
    BASELINE: (0.0, 1.0, 10.0),
    "as-good": (0.0, 0.5, 5.0),
    "too-bad": (0.2, 0.1, 1.0),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two targets of 40 tasks, an arm that is as good at half the price, and a cheap bad one."""
    folder = tmp_path_factory.mktemp("benchmark")
    chance = np.random.default_rng(7)
    rows = []
    for target in ("first", "second"):
        for task in range(40):
            level = 0.4 + 0.4 * task / 39
            for model, (lost, cost, _) in ARMS.items():
                tokens = int(chance.integers(100, 200))
                rows.append(
                    {
                        "task_id": f"{target}-{task}",
                        "dimension": target,
                        "model": model,
                        "score": round(level - lost, 6),
                        "cost_usd": 0.01 * cost * (0.5 + task / 39),
                        "input_tokens": tokens,
                        "output_tokens": 2 * tokens,
                        "latency_ms": int(chance.integers(1_000, 3_000)),
                        "cost_source": "token_log_pricing",
                    }
                )
    rows[0] |= {"latency_ms": 0}
    rows[1] |= {"cost_usd": 0.0, "input_tokens": 0, "output_tokens": 0, "cost_source": NO_RECORD}
    with gzip.open(folder / RESULTS, "wt", encoding="utf-8") as file:
        pd.DataFrame(rows).to_csv(file, index=False)
    models = [
        {"model": model, "provider": "maker", "input_per_1m": price, "output_per_1m": price}
        for model, (_, _, price) in ARMS.items()
    ]
    (folder / MODELS).write_text(json.dumps({"models": models}), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bench(data: Path) -> Benchmark:
    return read(data)


@pytest.fixture(scope="module")
def found(data: Path) -> Report:
    return report(data, margins=[MARGIN], size=SIZE, jobs=1, say=lambda _: None)


def test_what_the_table_marks_as_missing_stays_unknown(bench: Benchmark) -> None:
    cost_usd = bench.outcomes["first", "as-good"].cost_usd

    assert (bench.no_latency, bench.no_cost) == (1, 1)
    assert cost_usd == pytest.approx(0.005 * (0.5 + np.arange(1, 40) / 39).mean())


def test_a_prior_rests_on_the_other_targets_alone(bench: Benchmark) -> None:
    arm = next(arm for arm in bench.arms["first"] if arm.name == "too-bad")

    assert arm.prior is not None
    assert arm.prior.quality == pytest.approx(bench.outcomes["second", "too-bad"].quality)


def test_the_upper_limit_is_the_cheapest_arm_within_the_margin(bench: Benchmark) -> None:
    narrow, wide = best_per_target(bench, MARGIN), best_per_target(bench, 0.3)

    assert set(narrow.choice.values()) == {"as-good"}
    assert set(wide.choice.values()) == {"too-bad"}
    assert narrow.saving < wide.saving


def test_no_single_swap_saves_more_than_the_best_arm_of_each_target(bench: Benchmark) -> None:
    swap = best_swap(bench, MARGIN, everywhere=True)

    assert 0 < swap.saving <= best_per_target(bench, MARGIN).saving


def test_a_smaller_margin_never_needs_less_traffic(bench: Benchmark) -> None:
    narrow, wide = (volume(bench, margin).requests_per_hour for margin in (0.005, 0.05))

    assert narrow >= wide


def test_mixtures_have_the_harm_they_claim(bench: Benchmark) -> None:
    chosen = cases(bench, margin=MARGIN, mixed={1.0: 4, 1.5: 4}, real_each=1)

    claimed = {"harm = margin": 1.0, "harm = 1.5 margin": 1.5}
    for case in chosen:
        assert case.harm_in_margins == pytest.approx(claimed.get(case.cell, case.harm_in_margins))
    assert {case.cell for case in chosen} == {*claimed, MEASURED}


def test_the_good_arm_is_promoted_and_the_bad_one_never(found: Report) -> None:
    (saving,) = found.savings

    assert {arm for result in saving.results for arm in result.in_force.values()} == {"as-good"}
    assert all(cell.promoted == 0 for cell in found.cells)
    assert all(gate.holds for gate in gates(found))


def test_the_gate_on_wrong_promotions_can_fail(found: Report) -> None:
    wrong = tuple(replace(cell, promoted=cell.rollouts, rolled_back=0) for cell in found.cells)

    failing = [gate for gate in gates(replace(found, cells=wrong)) if not gate.holds]

    assert len(failing) == 2


def test_a_full_replay_needs_its_rollouts(found: Report) -> None:
    failing = [gate.text for gate in gates(replace(found, quick=False)) if not gate.holds]

    assert any("of at least 2000 rollouts" in text for text in failing)


def test_an_idle_loop_fails_its_gate(found: Report) -> None:
    (saving,) = found.savings
    idle = [replace(result, saving=0.0, settled_saving=0.0) for result in saving.results]

    checked = gates(replace(found, savings=(replace(saving, results=tuple(idle)),)))

    assert not checked[0].holds


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_the_same_data_give_the_same_tables(data: Path, found: Report, jobs: int) -> None:
    again = report(data, margins=[MARGIN], size=SIZE, jobs=jobs, say=lambda _: None)

    assert markdown(again) == markdown(found)


def test_the_picture_is_the_same_bytes(tmp_path: Path, found: Report) -> None:
    for name in ("one.svg", "two.svg"):
        plot(found, tmp_path / name)

    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_an_interval_of_one_seed_is_unknown() -> None:
    mean, low, high = interval([0.3])

    assert mean == 0.3
    assert np.isnan([low, high]).all()


@pytest.mark.slow
def test_the_measured_benchmark_passes_its_gates(capsys: pytest.CaptureFixture[str]) -> None:
    folder = datasets("coderouterbench") / "coderouterbench"

    status = main(["--data", str(folder), "--quick"])

    assert status == 0, capsys.readouterr().out
