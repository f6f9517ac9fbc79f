from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from bench.rollouts.independent import BLIP_HOUR, counted, hourly_rates
from bench.rollouts.plan import CANARY, CONTROL, Plan, ramp_a, ramp_b
from bench.rollouts.requests import SLOW_SHARE, summed
from bench.rollouts.running import chance
from bench.rollouts.world import (
    COST,
    FAILURE,
    LABELS,
    LATENCY,
    QUALITY,
    REQUESTS,
    SLOW,
    Blip,
    Sums,
    Units,
    World,
)

LONG = Plan(volume=400.0, shares=(0.5,), stage_hours=72, hold_hours=0)


def _rate(sums: Sums, arm: int, name: str = FAILURE) -> float:
    return float(sums.events[name][..., arm].sum() / sums.n[..., arm].sum())


def test_arms_get_their_shares_of_the_traffic() -> None:
    plan = ramp_b(2_000.0, hold_hours=0)

    sums = counted(World(), plan, 200, chance("shares", 0))

    mean = sums.by_hour(sums.n)[:, -1].mean(axis=0)
    assert mean[CANARY] == pytest.approx(plan.planned_canary, rel=0.01)
    assert mean[CONTROL] == pytest.approx(9 * plan.planned_canary, rel=0.01)


def test_a_broken_split_tilts_both_arms() -> None:
    sums = counted(World(), ramp_a(2_000.0, split=0.48), 200, chance("split", 0))

    assert sums.n[..., CANARY].sum() / sums.n.sum() == pytest.approx(0.48, abs=0.001)


def test_failures_follow_the_effect_from_its_hour_on() -> None:
    world = World(effect=3.0, harm_from_hour=10)

    sums = counted(world, ramp_a(2_000.0), 300, chance("delayed", 0))

    hourly = np.diff(sums.by_hour(np.stack([sums.n, sums.events[FAILURE]], axis=-1)), axis=1)
    n, k = np.moveaxis(hourly.sum(axis=0), -1, 0)
    assert k[:9, CANARY].sum() / n[:9, CANARY].sum() == pytest.approx(0.02, rel=0.05)
    assert k[9:, CANARY].sum() / n[9:, CANARY].sum() == pytest.approx(0.06, rel=0.02)
    assert k[:, CONTROL].sum() / n[:, CONTROL].sum() == pytest.approx(0.02, rel=0.02)


def test_drift_is_shared_and_has_its_spread_and_correlation() -> None:
    rates = hourly_rates(World(drift_sd=0.5), LONG, 400, chance("drift", 0))

    level = np.log(rates[..., CONTROL])
    assert (rates[..., CONTROL] == rates[..., CANARY]).all()
    assert level.std() == pytest.approx(0.5, rel=0.03)
    assert np.corrcoef(level[:, 1:].ravel(), level[:, :-1].ravel())[0, 1] == pytest.approx(
        0.7, abs=0.02
    )
    assert rates.mean() == pytest.approx(0.02, rel=0.03)


@pytest.mark.parametrize(("blip", "control"), [(Blip.CANARY, 0.02), (Blip.BOTH, 0.1)])
def test_a_blip_lasts_one_hour(blip: Blip, control: float) -> None:
    rates = hourly_rates(World(blip=blip), ramp_a(200.0), 1, chance("blip", 0))[0]

    assert rates[BLIP_HOUR].tolist() == pytest.approx([control, 0.1])
    assert np.delete(rates, BLIP_HOUR, axis=0).ravel() == pytest.approx(0.02)


@pytest.mark.parametrize("units", list(Units))
def test_lost_hours_leave_nothing(units: Units) -> None:
    world = World(missing=0.2, units=units)
    make = summed if world.by_rows else counted

    sums = make(world, ramp_a(2_000.0), 40, chance("lost", 0))

    empty = sums.n.reshape(40, -1, 12, 2).sum(axis=(2, 3)) == 0
    assert empty.mean() == pytest.approx(0.2, abs=0.05)


@pytest.mark.parametrize("units", [Units.MINUTE, Units.SPAN])
def test_sessions_have_the_rate_and_the_effect(units: Units) -> None:
    sums = summed(World(units=units, effect=2.0), LONG, 20, chance("rates", 0))

    assert _rate(sums, CONTROL) == pytest.approx(0.02, rel=0.06)
    assert _rate(sums, CANARY) == pytest.approx(0.04, rel=0.05)


def test_sessions_within_a_minute_have_their_correlation() -> None:
    world = World(units=Units.MINUTE, rate=0.2)

    sums = summed(world, replace(LONG, volume=100.0), 20, chance("minute", 0))

    n, k = (sums.fine[name].ravel() for name in (REQUESTS, FAILURE))
    lone = k[n == 10]
    spread = lone.var() / (10 * 0.2 * 0.8)
    assert (spread - 1.0) / 9.0 == pytest.approx(world.icc, abs=0.015)


def test_sessions_over_hours_have_their_correlation() -> None:
    world = World(units=Units.SPAN, rate=0.2)

    sums = summed(world, LONG, 20, chance("span", 0))

    n, k = (sums.fine[name].sum(axis=1, dtype=float) for name in (REQUESTS, FAILURE))
    effect = ((k - 0.2 * n) ** 2).sum() / (0.2 * 0.8 * n.sum())
    # Requests of a session are geometric with mean 10: E[m^2] / E[m] = 19.
    assert (effect - 1.0) / 18.0 == pytest.approx(world.icc, abs=0.015)


def test_a_session_over_hours_stays_in_one_bucket_of_one_arm() -> None:
    sparse = Plan(volume=2.0, shares=(0.5,), stage_hours=12, hold_hours=0)

    sums = summed(World(units=Units.SPAN), sparse, 60, chance("sparse", 0))

    windows = np.count_nonzero(sums.fine[REQUESTS], axis=1)
    assert windows.max() >= 5
    # About two sessions a rollout: buckets by bucket, one arm alone, but for chance meetings.
    both = (sums.fine[REQUESTS].sum(axis=1) > 0).all(axis=1)
    assert both.mean() < 0.001
    assert sums.units.sum() == pytest.approx(
        np.count_nonzero(sums.fine[REQUESTS].sum(axis=1)), rel=0.03
    )


@pytest.mark.parametrize("units", list(Units))
def test_bucket_sums_add_up_to_the_windows(units: Units) -> None:
    sums = summed(World(units=units, means=True), ramp_a(500.0), 5, chance("sums", 0))

    by_hour = np.cumsum(sums.buckets[REQUESTS].sum(axis=-1), axis=1)
    slow = np.cumsum(sums.buckets[SLOW].sum(axis=-1), axis=1)
    assert (by_hour == sums.by_hour(sums.n)).all()
    assert (slow == sums.by_hour(sums.events[SLOW])).all()
    for name, fine in sums.fine.items():
        coarse = sums.n if name == REQUESTS else sums.events[name]
        assert (fine.sum(axis=-1) == coarse).all()


@pytest.mark.parametrize("units", [Units.SINGLE, Units.SPAN])
def test_means_have_their_levels_and_effects(units: Units) -> None:
    world = World(
        units=units, means=True, cost_effect=1.5, slow_effect=2.0, quality_loss=0.1, rate=0.0001
    )

    sums = summed(world, replace(LONG, volume=2_000.0), 5, chance("levels", 0))

    total = {name: table.sum(axis=(0, 1, 3)) for name, table in sums.buckets.items()}
    assert total[COST] / total[REQUESTS] == pytest.approx([0.01, 0.015], rel=0.02)
    assert total[LATENCY] / total[REQUESTS] == pytest.approx([1_000.0, 1_000.0], rel=0.02)
    assert total[LABELS] / total[REQUESTS] == pytest.approx([0.7, 0.7], rel=0.01)
    control, canary = total[QUALITY] / total[LABELS]
    assert control - canary == pytest.approx(0.1, abs=0.004)
    assert total[SLOW] / total[REQUESTS] == pytest.approx([SLOW_SHARE, 2 * SLOW_SHARE], rel=0.06)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_cost_scales_and_nothing_else_moves(scale: float) -> None:
    world = World(means=True)

    one, other = (
        summed(replace(world, cost_usd=0.01 * by), ramp_a(200.0), 3, chance("scale", 0))
        for by in (1.0, scale)
    )

    assert other.buckets[COST] == pytest.approx(scale * one.buckets[COST])
    assert _same(one.n, other.n)
    assert _same(one.events[FAILURE], other.events[FAILURE])


def test_the_same_seed_gives_the_same_sums() -> None:
    first, again, other = (
        summed(World(units=Units.SPAN), ramp_a(200.0), 3, chance("seed", part))
        for part in (0, 0, 1)
    )

    assert _same(first.fine[FAILURE], again.fine[FAILURE])
    assert not _same(first.n, other.n)


def test_a_window_that_comes_late_is_acted_on_late() -> None:
    prompt, late = (
        counted(World(lag_hours=lag), ramp_a(2_000.0), 5, chance("late", 0)) for lag in (0, 2)
    )
    window = np.full(5, 11)

    assert (late.served(window) == prompt.served(window + 24)).all()
    assert (prompt.served(np.full(5, -1)) == prompt.n[..., CANARY].sum(axis=1)).all()


def test_sessions_refuse_what_they_do_not_model() -> None:
    with pytest.raises(ValueError, match="no drift, delay or blip"):
        World(units=Units.SPAN, drift_sd=0.5)


def test_arms_never_exceed_the_traffic() -> None:
    with pytest.raises(ValueError, match="exceed the traffic"):
        Plan(volume=100.0, shares=(0.2,), control_ratio=9.0)


def _same(one: npt.NDArray[np.integer], other: npt.NDArray[np.integer]) -> bool:
    return bool(np.array_equal(one, other))
