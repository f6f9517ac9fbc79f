"""Crossing a boundary: the answer of the exact boundaries, for many rollouts at once.

Reference bounds: statistical specification 3.5, 3.6 and 5.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from optimizer.statistics.crossing import Spending, crosses, promotion_spending
from optimizer.statistics.planning import wilson_interval
from optimizer.statistics.sequential import (
    boundaries,
    obrien_fleming_spending,
    pocock_spending,
)

FloatArray = npt.NDArray[np.float64]

HALF_THOUSANDTH = 5e-4
EXTENSION = 1.5556
RAMP_A = (0.05, 0.10, 0.25, 0.50)
RAMP_B = (0.05, 0.06, 0.08, 0.10)
A_05 = """3.1599 3.1173 3.0695 3.0262 2.9878 2.9536 2.8234 2.7755 2.7379 2.7057 2.6774 2.6519
2.5145 2.4699 2.4368 2.4095 2.3859 2.3652 2.2723 2.2412 2.2186 2.2002 2.1845 2.1708"""
# Where a row is abridged, "-" stands for a bound that is not pinned.
A_025 = """3.3565 3.3224 3.2812 3.2433 3.2095 3.1793 3.0548 - - - - 2.9056 2.7743 - - - - 2.6499
2.5626 - - - - 2.4840"""
B_05 = """2.8189 2.7670 2.7139 2.6679 2.6285 2.5943 2.5424 - - - - 2.4207 2.3786 - - - - 2.2953
2.2674 - - - - 2.2093"""
MISSED = "3.1599 3.1173 2.8103 2.9104 2.8100"


def ramp(shares: Sequence[float]) -> list[float]:
    """Information fractions of hourly looks, six hours a stage."""
    hourly = np.repeat(shares, 6).cumsum()
    return [float(fraction) for fraction in hourly / hourly[-1]]


def rows(fractions: Sequence[float]) -> FloatArray:
    """A rollout at each of its looks, one a row: those taken so far, the newest last."""
    table = np.full((len(fractions), len(fractions)), np.nan)
    for look in range(len(fractions)):
        table[look, len(fractions) - look - 1 :] = fractions[: look + 1]
    return table


def exact(fractions: Sequence[float], spending: Spending, alpha: float) -> FloatArray:
    return boundaries(fractions, spending(fractions, alpha=alpha).tolist())


A, B = ramp(RAMP_A), ramp(RAMP_B)


@pytest.mark.parametrize(
    ("fractions", "alpha", "row"),
    [
        (A, 0.05, A_05),
        (A, 0.025, A_025),
        (B, 0.05, B_05),
        (A[:2] + A[4:7], 0.05, MISSED),
        (A[5::6], 0.05, "2.6076 2.3666 2.0803 1.8909"),
    ],
    ids=["ramp A", "ramp A, half the error", "ramp B", "looks 3 and 4 missed", "stage ends"],
)
def test_the_reference_bound_of_each_look_is_where_it_begins_to_cross(
    fractions: list[float], alpha: float, row: str
) -> None:
    table = rows(fractions)
    pinned = np.array([np.nan if each == "-" else float(each) for each in row.split()])
    known = np.isfinite(pinned)

    below = crosses(pinned - HALF_THOUSANDTH, table, alpha=alpha)
    above = crosses(pinned + HALF_THOUSANDTH, table, alpha=alpha)

    assert known.sum() >= 4
    assert not below.crossed.any()
    assert above.crossed.tolist() == known.tolist()
    assert above.spent[known].tolist() == pytest.approx(
        pocock_spending(fractions, alpha=alpha)[known].tolist()
    )


def test_the_reference_bounds_of_promotion_are_where_it_begins_to_cross() -> None:
    fractions = [*A[5::6], EXTENSION]
    pinned = np.array([8.0, 4.7059, 2.7912, 1.7614, 1.9849])
    spending = promotion_spending(EXTENSION)
    table = rows(fractions)

    below = crosses(pinned - HALF_THOUSANDTH, table, alpha=0.05, spending=spending)
    above = crosses(pinned + HALF_THOUSANDTH, table, alpha=0.05, spending=spending)

    assert not below.crossed.any()
    assert above.crossed.all()
    assert above.spent[-2:].tolist() == pytest.approx([0.04, 0.05])


def test_promotion_spends_four_fifths_by_the_planned_end_and_the_rest_in_proportion() -> None:
    times = np.array([0.0, 0.3, 1.0, 1.25, 1.5, 2.0])

    spent = promotion_spending(1.5)(times, alpha=0.05)

    early = 0.8 * float(obrien_fleming_spending(0.3, alpha=0.05))
    assert spent.tolist() == pytest.approx([0.0, early, 0.04, 0.045, 0.05, 0.05])


@pytest.mark.parametrize("spending", [pocock_spending, obrien_fleming_spending])
def test_never_more_than_all_is_spent_not_even_by_rounding(spending: Spending) -> None:
    for alpha in np.geomspace(1e-6, 0.5, 400):
        assert spending([0.999999999, 1.0, 1.03], alpha=alpha).max() <= alpha


fractions_ = st.lists(st.floats(0.002, 0.3), min_size=1, max_size=6).map(
    lambda steps: np.cumsum(steps).tolist()
)


@settings(max_examples=40, deadline=None)
@given(
    plans=st.lists(fractions_, min_size=1, max_size=4),
    alpha=st.sampled_from([0.05, 0.02, 0.003, 1e-5]),
    near=st.floats(-3.0, 3.0),
    close=st.sampled_from([1e-6, 1e-3, 1.0]),
    closing=st.booleans(),
    planned=st.sampled_from([pocock_spending, obrien_fleming_spending, promotion_spending(1.3)]),
)
def test_every_row_is_answered_as_its_exact_boundary_answers(
    plans: list[list[float]],
    alpha: float,
    near: float,
    close: float,
    planned: Spending,
    *,
    closing: bool,
) -> None:
    table = np.full((len(plans), max(map(len, plans)) + 1), np.nan)
    bounds = np.empty(len(plans))
    for row, plan in enumerate(plans):
        table[row, -len(plan) :] = plan
        spend = planned(plan, alpha=alpha)
        spend[-1] = alpha if closing else spend[-1]
        bounds[row] = boundaries(plan, spend.tolist())[-1]
    z = bounds + (near or 1.0) * close
    z = np.where(np.abs(z - bounds) < 1e-9, bounds + 1e-9, z)

    found = crosses(z, table, alpha=alpha, spending=planned, closing=closing)

    assert found.crossed.tolist() == (z >= bounds).tolist()
    assert (found.bound >= bounds - 1e-9).all()
    assert (~found.crossed | (z >= found.bound)).all()


def test_no_deviate_and_no_fraction_are_no_look() -> None:
    found = crosses([np.nan, 9.0, 9.0], [[0.2, 0.4], [0.2, np.nan], [0.2, 0.4]], alpha=0.05)

    assert found.crossed.tolist() == [False, False, True]
    assert np.isnan(found.bound[:2]).all()
    assert found.spent[:2].tolist() == [0.0, 0.0]


def test_the_last_look_spends_all_that_is_left() -> None:
    table, past = [[0.2, 0.5]], pocock_spending([0.2, 0.5], alpha=0.05).tolist()
    all_left = float(boundaries([0.2, 0.5], [past[0], 0.05])[-1])

    closed = [crosses([all_left + e], table, alpha=0.05, closing=True) for e in (-1e-6, 1e-6)]
    open_ = crosses([all_left + 1e-6], table, alpha=0.05)

    assert [bool(each.crossed[0]) for each in closed] == [False, True]
    assert not open_.crossed[0]
    assert float(closed[0].spent[0]) == 0.05
    assert float(open_.spent[0]) == pytest.approx(past[1])


def test_what_a_look_could_not_spend_the_next_one_spends() -> None:
    # O'Brien-Fleming spends less than 1e-16 at the first two looks: the third has their shares too.
    fractions = [0.01, 0.02, 0.9]
    bound = float(exact(fractions, obrien_fleming_spending, 0.05)[-1])
    alone = float(stats.norm.isf(obrien_fleming_spending([0.9], alpha=0.05)[0]))

    found = [
        crosses([bound + e], [fractions], alpha=0.05, spending=obrien_fleming_spending)
        for e in (-1e-6, 1e-6)
    ]

    assert bound == pytest.approx(alone, abs=1e-6)
    assert [bool(each.crossed[0]) for each in found] == [False, True]


def test_beyond_the_plan_nothing_is_left_to_spend() -> None:
    found = crosses([7.9, 8.0], [[1.0, 1.2], [1.0, 1.2]], alpha=0.05)

    assert found.crossed.tolist() == [False, True]


def test_each_rollout_has_a_budget_of_its_own() -> None:
    alphas = [0.05, 0.01]
    bounds = [float(exact(A[:3], pocock_spending, alpha)[-1]) for alpha in alphas]

    found = crosses([bounds[0] + 0.01] * 2, [A[:3]] * 2, alpha=alphas)

    assert found.crossed.tolist() == [True, False]


@pytest.mark.parametrize("fractions", [[0.2, 0.4], [[0.2, 0.4]]])
def test_a_deviate_without_its_row_is_refused(fractions: list[float]) -> None:
    with pytest.raises(ValueError, match="one row of fractions a deviate"):
        crosses([2.0, 3.0], fractions, alpha=0.05)


def test_fractions_that_do_not_increase_are_refused() -> None:
    with pytest.raises(ValueError, match="must increase"):
        crosses([2.9], [[0.4, 0.2]], alpha=0.05)


@pytest.mark.parametrize("lost", [0.0, 0.3])
def test_harmless_ramps_cross_with_chance_alpha_whatever_looks_were_missed(lost: float) -> None:
    rng = np.random.default_rng(11)
    fractions = np.array(ramp(RAMP_A)[1::2])
    steps = np.diff(fractions, prepend=0.0)
    z = (rng.normal(size=(5_000, steps.size)) * np.sqrt(steps)).cumsum(axis=1) / np.sqrt(fractions)
    # Which looks are missed is drawn once for ten patterns; the planned end is always looked at.
    patterns = rng.random((10, steps.size)) >= lost
    patterns[:, -1] = True
    seen = patterns[np.arange(len(z)) % len(patterns)]

    crossed = np.zeros(len(z), dtype=bool)
    for look in range(steps.size):
        taken = np.where(seen, fractions, np.nan)[:, : look + 1]
        crossed |= crosses(np.where(seen[:, look], z[:, look], np.nan), taken, alpha=0.05).crossed

    lower, upper = wilson_interval(int(crossed.sum()), len(z), z=3.3)
    assert float(lower) <= 0.05 <= float(upper)
