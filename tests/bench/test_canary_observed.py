"""Worlds of real traffic's kind: scores that come late or never, clients that come in bursts."""

import numpy as np
import pytest

from bench.canary import main
from bench.rollouts.bursts import (
    FOLD,
    HIGH_VARIATION,
    MEDIAN_VARIATION,
    SESSION_REQUESTS,
    arrived,
    dispersions,
    profile,
    weights,
)
from bench.rollouts.cells import Group, cells, quick
from bench.rollouts.gates import Results, checked
from bench.rollouts.plan import CANARY, CONTROL, Plan
from bench.rollouts.report import markdown
from bench.rollouts.requests import summed
from bench.rollouts.running import chance, run
from bench.rollouts.world import FAILURE, LABELS, REQUESTS, Sums, Units, World

EVEN = Plan(volume=2_000.0, shares=(0.5,), stage_hours=24, hold_hours=0)
BURSTS = World(units=Units.BURST)


def _labels(world: World, name: str = "labels") -> Sums:
    return summed(world, EVEN, 4, chance(name, 0))


def test_a_few_clients_carry_the_published_part_of_the_traffic() -> None:
    for clients, top_ten in ((162, 0.63), (43, 0.93)):
        share = np.array(weights(clients, top_ten))

        assert share.size == clients
        assert share[:10].sum() == pytest.approx(top_ten)
        assert (np.diff(share) < 0).all()


def test_hourly_rates_and_variations_are_the_published_ones() -> None:
    rates = profile(24, 200, chance("profile", 0))
    variation = np.sqrt(dispersions(100, 162, chance("variation", 0)))

    assert (rates.max(axis=1) / rates.min(axis=1)).mean() == pytest.approx(FOLD, rel=0.02)
    assert rates.mean() == pytest.approx(1.0, rel=0.001)
    assert np.median(variation) == pytest.approx(MEDIAN_VARIATION, rel=0.02)
    assert np.quantile(variation, 0.9) == pytest.approx(HIGH_VARIATION, rel=0.05)


def test_bursts_have_the_planned_volume_and_vary_far_more_than_poisson_counts() -> None:
    sums = summed(BURSTS, EVEN, 20, chance("bursts", 0))

    hours = sums.n.sum(axis=-1).reshape(20, 24, 12)
    spread = hours.var(axis=-1, ddof=1) / hours.mean(axis=-1)
    assert sums.n.sum(axis=(1, 2)).mean() == pytest.approx(24 * 2_000, rel=0.03)
    assert spread.mean() > 5.0


def test_ten_consecutive_requests_of_a_client_are_a_unit_that_keeps_its_rate() -> None:
    came = arrived(BURSTS, EVEN, 2, chance("units", 0))

    size = np.bincount(came.unit)
    assert size.max() == SESSION_REQUESTS
    assert (size[:-1] > 0).all()
    assert len(np.unique(came.rate)) == 2 * BURSTS.clients
    inside = came.unit[1:] == came.unit[:-1]
    assert (np.diff(came.window)[inside] >= 0).all()
    assert came.rate[came.unit].mean() == pytest.approx(1.0, rel=0.1)


def test_failures_of_bursts_have_the_rate_and_the_effect() -> None:
    sums = summed(World(units=Units.BURST, effect=2.0), EVEN, 20, chance("rates", 0))

    n, k = (table.sum(axis=(0, 1)) for table in (sums.n, sums.events[FAILURE]))
    assert k[CONTROL] / n[CONTROL] == pytest.approx(0.02, rel=0.06)
    assert k[CANARY] / n[CANARY] == pytest.approx(0.04, rel=0.05)


def test_scores_count_once_their_window_is_mature() -> None:
    at_once, mature = (_labels(World(means=True, maturity_hours=hours)) for hours in (0, 3))

    early, late = (each.buckets[LABELS] for each in (at_once, mature))
    assert (late[:, 3:] == early[:, :-3]).all()
    assert (late[:, :3] == 0).all()
    assert (at_once.n == mature.n).all()


def test_late_scores_come_after_a_geometric_delay_and_some_never() -> None:
    late = _labels(World(means=True, label_delay_hours=1.0))

    there = late.buckets[LABELS].sum(axis=(0, 2, 3)).cumsum()
    asked = late.buckets[REQUESTS].sum(axis=(0, 2, 3)).cumsum()
    # Steady traffic and a mean delay of an hour: the scores of about the last hour are missing.
    missing = 0.7 * asked[-1] - there[-1]
    assert missing == pytest.approx(0.7 * asked[-1] / 24, rel=0.1)
    first = there[0] / (0.7 * asked[0])
    # The mean over a request's moment in the hour of the chance to be scored by its end.
    waits = np.arange(12)
    assert first == pytest.approx(float((1.0 - (11 / 12) ** waits).mean()), abs=0.03)


def test_worlds_are_chosen_by_kind_and_leave_the_other_gates_out() -> None:
    chosen = [cell for cell in quick(cells()) if cell.world.kind == "bursty"]
    small = next(cell for cell in chosen if cell.group is Group.HARMLESS)

    found = Results(tallies=tuple(run(small)), coverage=(), worlds=("bursty",))

    assert {gate.id for gate in checked(found)} == {"G1", "G3"}
    text = markdown(found)
    assert "--worlds bursty" in text
    assert small.name in text
    assert "this project" not in text


def test_every_new_world_has_harmless_and_harmful_cells_at_two_volumes() -> None:
    for kind, harmless in (("bursty", 4), ("label_delay", 2)):
        of_kind = [cell for cell in cells() if cell.world.kind == kind]
        quiet = [cell for cell in of_kind if cell.group is Group.HARMLESS]

        assert len(quiet) == harmless
        assert {cell.plan.volume for cell in quiet} == {200.0, 2_000.0}
        assert min(cell.rollouts for cell in quiet) >= 2_000
        assert {cell.world.effect for cell in of_kind} >= {1.0, 2.0}
        assert {cell.group for cell in quick(of_kind)} == {Group.HARMLESS, Group.TROUBLE}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--worlds", "nowhere"], "no world nowhere; there are "),
        (["--worlds", "bursty", "--write", "performance.md"], "needs all worlds"),
    ],
)
def test_what_cannot_be_run_alone_is_refused(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments)

    assert says in capsys.readouterr().err


def test_a_kind_that_is_chosen_runs_alone(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--worlds", "no_canary", "--quick"])

    printed = capsys.readouterr()
    assert status == 0
    assert "no canary traffic" in printed.out
    assert "Limits that hold the truth" not in printed.out
