"""The replay on the data sets themselves; their figures are those of the sets' own descriptions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.rollouts.running import OURS
from bench.traced.arrivals import DAY_S, azure
from bench.traced.clients import servegen
from bench.traced.measured import endpoints, first_tokens, tasks
from bench.traced.running import HARMLESS, PEEKING, QUICK, run
from bench.traced.worlds import FAILURE_RATE, SMALL_KEPT, worlds
from datasets import datasets

NAMES = ("azure_llm_trace", "servegen", "llmperf_leaderboard", "coderouterbench", "thefastest_ai")


@pytest.fixture(scope="module")
def data() -> Path:
    return datasets(*NAMES)


def test_azures_requests_are_all_replayed(data: Path) -> None:
    sizes = {
        name: azure(data, name, at_once=50).days[0].window.size
        for name in ("2023_conv", "2023_code")
    }

    assert sizes == {"2023_conv": 19_366, "2023_code": 8_819}
    assert azure(data, "2024_sample", at_once=5, span_s=DAY_S).days[0].window.size < 5_880


def test_servegens_days_have_the_volume_asked_for(data: Path) -> None:
    days = servegen(data, "m-small", volume=200.0).days

    assert len(days) == 14
    assert np.mean([day.volume for day in days]) == pytest.approx(200.0, rel=0.1)


def test_measured_sets_leave_out_what_is_missing(data: Path) -> None:
    failing = endpoints(data, failure_rate=FAILURE_RATE)

    assert (len(failing.chance), failing.latency_ms.size) == (19, 2_845 - 393)
    assert failing.failure_rate == pytest.approx(FAILURE_RATE)
    assert tasks(data).latency_ms.size == 685
    assert first_tokens(data).latency_ms.min() > 0


def test_sessions_that_keep_their_endpoint_break_a_rule_that_takes_requests_as_units(
    data: Path,
) -> None:
    world = next(each for each in worlds(data) if each.name == SMALL_KEPT)

    tallies = {t.rule: t for t in run(world, replace(QUICK, harmful=0)) if t.harm == HARMLESS}

    assert tallies[OURS].limits[0] <= 0.05
    assert tallies[PEEKING].limits[0] > 0.3
