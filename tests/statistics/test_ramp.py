"""The plan of a ramp: what its looks are spread over."""

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.statistics.ramp import ramp_plan

SHARES = (0.05, 0.10, 0.25, 0.50)
two_stages = partial(
    ramp_plan,
    requests_per_hour=1_000.0,
    shares=(0.1, 0.5),
    bake_hours=(2.0, 2.0),
    min_requests=(1, 1),
    planned_hours=6.0,
    longest_stage_hours=10.0,
    measured={},
)
rates = st.floats(20.0, 1e6)
bakes = st.lists(st.floats(0.0, 12.0), min_size=4, max_size=4)
floors = st.lists(st.integers(0, 5_000), min_size=4, max_size=4)
spans = st.floats(0.1, 100.0)


def test_the_reference_ramp_has_the_extension_of_the_specification() -> None:
    # Four stages of six hours and six more: the bounds of promotion are pinned at 1.5556.
    plan = ramp_plan(
        requests_per_hour=2_000.0,
        shares=SHARES,
        bake_hours=(6.0, 6.0, 6.0, 6.0),
        min_requests=(0, 0, 0, 0),
        planned_hours=24.0,
        longest_stage_hours=12.0,
        measured={},
    )

    assert (plan.hours, plan.requests) == (24.0, 10_800.0)
    assert plan.extended / plan.requests == pytest.approx(1.5556, abs=1e-4)


def test_the_last_stage_lasts_until_the_planned_end() -> None:
    plan = two_stages(planned_hours=9.0)

    assert (plan.hours, plan.requests) == (9.0, 2 * 100.0 + 7 * 500.0)


def test_no_stage_is_shorter_than_its_bake_time_or_its_floor() -> None:
    assert two_stages(planned_hours=1.0).hours == 4.0
    # 400 requests at 100 an hour take four hours.
    assert two_stages(planned_hours=1.0, min_requests=(400, 1)).hours == 6.0


def test_a_stage_never_outlasts_its_hold() -> None:
    plan = two_stages(planned_hours=float("inf"), min_requests=(10_000, 1))

    assert (plan.hours, plan.requests) == (20.0, 1_000.0 + 5_000.0)
    assert plan.extended == plan.requests


def test_a_plan_keeps_what_is_measured() -> None:
    assert two_stages(measured={"quality": 0.25}).measured == {"quality": 0.25}


@given(rate=rates, bake=bakes, floor=floors, planned=spans, hold=st.floats(0.5, 48.0))
def test_a_plan_has_an_end_and_its_extension_is_one_last_stage_more_at_most(
    rate: float, bake: list[float], floor: list[int], planned: float, hold: float
) -> None:
    plan = ramp_plan(
        requests_per_hour=rate,
        shares=SHARES,
        bake_hours=bake,
        min_requests=floor,
        planned_hours=planned,
        longest_stage_hours=hold,
        measured={},
    )

    assert 0 < plan.hours <= 4 * hold * (1 + 1e-9)
    assert plan.requests <= rate * SHARES[-1] * plan.hours * (1 + 1e-9)
    assert 0 <= plan.extended - plan.requests <= rate * SHARES[-1] * hold * (1 + 1e-9)


@given(rate=rates, more=st.floats(1.0, 10.0), bake=bakes, floor=floors, planned=spans)
def test_more_traffic_never_takes_longer_and_more_hours_never_plan_fewer_requests(
    rate: float, more: float, bake: list[float], floor: list[int], planned: float
) -> None:
    plan = partial(
        ramp_plan,
        shares=SHARES,
        bake_hours=bake,
        min_requests=floor,
        longest_stage_hours=24.0,
        measured={},
    )

    base = plan(requests_per_hour=rate, planned_hours=planned)
    busy = plan(requests_per_hour=rate * more, planned_hours=planned)
    long = plan(requests_per_hour=rate, planned_hours=planned * more)

    # Where the base's last stage expires before the planned hours are over, it ends sooner.
    assert busy.hours <= max(base.hours, planned) * (1 + 1e-9)
    assert long.hours >= base.hours * (1 - 1e-9)
    assert long.requests >= base.requests * (1 - 1e-9)
