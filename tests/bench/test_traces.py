from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from bench.rollouts.coverage import Coverage
from bench.rollouts.ours import verdicts
from bench.rollouts.plan import CANARY, CONTROL, ramp_a
from bench.rollouts.running import OURS
from bench.rollouts.world import COST, FAILURE, REQUESTS, SLOW
from bench.traced.arrivals import LOOKS, WINDOWS, azure
from bench.traced.clients import Gaps, servegen
from bench.traced.covering import law, of_measured
from bench.traced.measured import Measured, endpoints, tasks
from bench.traced.promises import Results, checked
from bench.traced.report import markdown
from bench.traced.running import (
    COSTLY,
    HARMLESS,
    HARMS,
    PEEKING,
    SCALED,
    THRICE,
    TWICE,
    Judge,
    Size,
    World,
    draw,
    run,
    watched,
)
from bench.traced.splitting import Harm, Serving, Splits, split, threshold
from bench.traced.worlds import LARGE_CLIENTS, SMALL, SMALL_KEPT, worlds
from bench.traces import finish, replayed
from trace_tables import DAYS, write

SIZE = Size(harmless=10, harmful=10, points=0, covered=50, quick=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traces")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def failing(data: Path) -> Measured:
    return endpoints(data, failure_rate=0.02)


@pytest.fixture(scope="module")
def found(data: Path) -> Results:
    return replayed(data, size=SIZE, say=lambda _: None)


@pytest.fixture(scope="module")
def world(data: Path, failing: Measured) -> World:
    return World(
        name="small",
        traffic=servegen(data, "m-small", volume=1_000.0),
        serving=Serving(failures=failing, latencies=failing, kept=False),
    )


@pytest.fixture(scope="module")
def drawn(world: World) -> Splits:
    return draw(world, 0, 20)


def test_what_failed_has_no_latency_and_what_was_short_has(data: Path, failing: Measured) -> None:
    assert failing.latency_ms.min() > 0
    assert failing.size.tolist() == [100, 20, 100]
    assert failing.failure_rate == pytest.approx(0.02)
    assert tasks(data).size.tolist() == [60, 60]


def test_a_failure_rate_that_the_endpoints_cannot_make_is_refused(data: Path) -> None:
    with pytest.raises(ValueError, match="do not make"):
        endpoints(data, failure_rate=0.9)


@pytest.mark.parametrize("weibull", [True, False])
@pytest.mark.parametrize("variation", [0.7, 1.0, 3.0])
def test_gaps_have_mean_one_and_the_variation_asked_for(weibull: bool, variation: float) -> None:  # noqa: FBT001 - a case
    gaps = Gaps(variation=variation, weibull=weibull)
    numbers = np.random.default_rng(5)

    drawn = gaps.drawn(200_000, numbers)

    assert drawn.mean() == pytest.approx(1.0, rel=0.04)
    assert drawn.std() == pytest.approx(variation, rel=0.1)


@pytest.mark.parametrize("weibull", [True, False])
def test_a_process_has_as_many_requests_as_its_clock_says(weibull: bool) -> None:  # noqa: FBT001 - a case
    gaps = Gaps(variation=3.0, weibull=weibull)
    numbers = np.random.default_rng(6)

    counts = [gaps.until(5.0, numbers).size for _ in range(4_000)]

    # A process that began with a request, or with a whole gap, would be off by (9 - 1) / 2.
    assert np.mean(counts) == pytest.approx(5.0, abs=4.0 * np.std(counts) / np.sqrt(len(counts)))


def test_rates_are_scaled_to_the_volume_and_nothing_comes_while_the_service_rests(
    data: Path,
) -> None:
    days = servegen(data, "m-large", volume=1_000.0).days

    assert len(days) == DAYS
    assert np.mean([day.volume for day in days]) == pytest.approx(1_000.0, rel=0.05)
    assert all(day.window.min() >= WINDOWS for day in days)
    assert all(day.window.max() < LOOKS * WINDOWS for day in days)
    assert all(np.bincount(day.unit).max() == 10 for day in days)


def test_whole_clients_are_units_where_asked(data: Path) -> None:
    day = servegen(data, "m-large", volume=1_000.0, whole_clients=True).days[0]

    assert day.units == 30


def test_sessions_of_a_trace_without_any_interleave(data: Path) -> None:
    day = azure(data, "2023_conv", at_once=50).days[0]

    sizes = np.bincount(day.unit)
    assert (sizes.max(), sizes.sum()) == (10, 8_000)
    assert len(set(day.unit[:50].tolist())) == 50
    assert day.unit[0] == day.unit[50] != day.unit[500]
    assert np.all(np.diff(day.window) >= 0)


def test_a_day_is_cut_where_asked(data: Path) -> None:
    day = azure(data, "2024_sample", at_once=5, span_s=86_400.0).days[0]

    assert day.window.size == pytest.approx(3_000 * 24 / 26, rel=0.05)


def test_the_threshold_is_the_p95_of_what_was_answered(world: World) -> None:
    served = world.serving.served(world.traffic.days[0], np.random.default_rng(1))

    above = (served.latency_ms[~served.failed] > threshold(served)).mean()

    assert above == pytest.approx(0.05, abs=0.006)
    assert above <= 0.05


def test_a_unit_keeps_its_arm_and_the_arms_are_alike_in_size(world: World) -> None:
    day = world.traffic.days[0]
    served = world.serving.served(day, np.random.default_rng(1))
    own = replace(served, luck=day.unit.astype(np.float64))
    splits = split(
        day,
        own,
        ramp_a(day.volume, hold_hours=0),
        rollouts=5,
        slow_ms=1.0,
        failure_rate=0.02,
        numbers=np.random.default_rng(2),
    )

    rollout = splits.cell // (2 * LOOKS * WINDOWS)
    arms = pd.DataFrame({"r": rollout, "unit": splits.served.luck, "arm": splits.cell % 2})
    extremes = arms.groupby(["r", "unit"])["arm"].agg(["min", "max"])
    assert (extremes["min"] == extremes["max"]).all()
    assert splits.canary.mean() == pytest.approx(0.5, abs=0.02)
    assert np.array_equal(splits.canary, splits.cell % 2 == CANARY)


def test_sums_say_the_same_by_window_by_bucket_and_by_hour(drawn: Splits) -> None:
    (sums,) = drawn.sums([Harm(failures=2.0, latency=1.2)])

    for name, table in ((REQUESTS, sums.n), (FAILURE, sums.events[FAILURE])):
        assert np.array_equal(sums.fine[name].sum(axis=-1), table)
        assert np.array_equal(sums.buckets[name].sum(axis=-1), _hourly(table))
    assert np.array_equal(sums.buckets[SLOW].sum(axis=-1), _hourly(sums.events[SLOW]))
    assert np.all(sums.events[SLOW] >= sums.events[FAILURE])


def _hourly(table: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.asarray(table.reshape(len(table), LOOKS, WINDOWS, 2).sum(axis=2))


def test_harm_is_the_canarys_alone_and_as_large_as_stated(drawn: Splits) -> None:
    plain, twice, slower, dear = drawn.sums(
        [Harm(), Harm(failures=2.0), Harm(latency=1.5), Harm(cost=1.5)]
    )

    for sums in (twice, slower, dear):
        for name, table in sums.events.items():
            assert np.array_equal(table[..., CONTROL], plain.events[name][..., CONTROL])
    base, harmed = (s.events[FAILURE][..., CANARY].sum() for s in (plain, twice))
    assert harmed / base == pytest.approx(2.0, rel=0.1)
    assert slower.events[SLOW][..., CANARY].sum() > 1.5 * plain.events[SLOW][..., CANARY].sum()
    assert dear.buckets[COST].sum(axis=(0, 1, 3)) == pytest.approx(
        plain.buckets[COST].sum(axis=(0, 1, 3)) * [1.0, 1.5]
    )


def test_what_is_kept_between_harms_is_what_asking_anew_gives(drawn: Splits) -> None:
    judge = Judge()
    for harm, sums in zip(HARMS.values(), drawn.sums(list(HARMS.values())), strict=True):
        kept = judge.windows(harm, sums)[OURS]

        anew = verdicts(sums, watched())
        last = sums.n.shape[1] - 1
        assert np.array_equal(np.minimum(kept, last), np.minimum(anew.window, last))


def test_the_same_world_gives_the_same_tallies(world: World) -> None:
    size = replace(SIZE, harmful=0)

    assert repr(run(world, size)) == repr(run(world, size))


def test_the_p95_of_a_set_is_the_value_that_95_in_100_do_not_exceed() -> None:
    measured = Measured(
        name="hundred",
        chance=np.array([1.0]),
        fails=np.array([0.0]),
        latency_ms=np.arange(100.0, 0.0, -1.0),
        first=np.array([0]),
        size=np.array([100]),
    )

    truth, buckets, weights = law(measured)

    assert truth == 95.0
    assert len(buckets) == len(weights)
    assert weights.sum() == pytest.approx(1.0)


def test_limits_for_all_looks_hold_more_often_than_limits_for_one(failing: Measured) -> None:
    always, once = of_measured(failing, 200.0, 200)

    assert always.limits[1] >= 0.95
    assert once.held < always.held


def test_every_world_is_replayed_under_every_harm(data: Path, found: Results) -> None:
    names = [world.name for world in worlds(data)]

    for harm in HARMS:
        assert [t.world for t in found.of(OURS, harm)] == names
    assert [t.gated for t in found.of(OURS, HARMLESS)] == [n != LARGE_CLIENTS for n in names]


def test_more_harm_is_caught_more_often(found: Results) -> None:
    for none, twice, thrice in zip(
        found.of(OURS, HARMLESS), found.of(OURS, TWICE), found.of(OURS, THRICE), strict=True
    ):
        assert none.rolled_back <= twice.rolled_back <= thrice.rolled_back


def _changed(found: Results, rule: str, harm: str, **changes: float) -> Results:
    return replace(
        found,
        tallies=tuple(
            replace(t, **changes) if (t.rule, t.harm) == (rule, harm) else t  # type: ignore[arg-type]
            for t in found.tallies
        ),
    )


def _broken(found: Results) -> set[str]:
    return {gate.id for gate in checked(found) if not gate.holds}


@pytest.mark.parametrize(
    ("gate", "rule", "harm", "changes"),
    [
        ("T1", OURS, HARMLESS, {"rolled_back": 8}),
        ("T2", OURS, COSTLY, {"rolled_back": 3}),
        ("T3", OURS, TWICE, {"requests": 2_000.0}),
        ("T4", SCALED, COSTLY, {"requests": 1.0}),
        ("T6", PEEKING, HARMLESS, {"splits": 2_000, "rolled_back": 100}),
    ],
)
def test_a_promise_that_is_broken_is_said_to_be(
    found: Results, gate: str, rule: str, harm: str, changes: dict[str, float]
) -> None:
    assert gate in _broken(_changed(found, rule, harm, **changes))


def test_limits_that_miss_too_often_break_the_run(
    found: Results, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missed = Coverage(name="limits", always=True, rollouts=100, held=80)
    bad = replace(found, covered=replace(found.covered, promised=(missed,)))
    target = tmp_path / "performance.md"

    assert finish(bad, write=target) == 1
    assert "broken: T5 limits" in capsys.readouterr().out
    assert "broken: T5 limits" in target.read_text(encoding="utf-8")


def test_the_section_names_its_sources_and_every_world(found: Results) -> None:
    text = markdown(found)

    assert "Azure Public Dataset, Microsoft, [CC BY 4.0]" in text
    for name in (SMALL, SMALL_KEPT, LARGE_CLIENTS):
        assert text.count(f"| {name} |") >= 2
