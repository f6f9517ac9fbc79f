"""Reference bounds: statistical specification 3.6 and 5.

The five-look rows agree with published tables; all were made by recursive integration and checked
by Monte Carlo over a million paths (type I error .05003).
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from optimizer.statistics.planning import wilson_interval
from optimizer.statistics.sequential import (
    boundaries,
    mid_p_z,
    obrien_fleming_spending,
    pocock_spending,
)


class SpendingFunction(Protocol):
    def __call__(self, fraction: npt.ArrayLike, *, alpha: float) -> npt.NDArray[np.float64]: ...


HALF_THOUSANDTH = 5e-4
RAMP_A = (0.05, 0.10, 0.25, 0.50)
RAMP_B = (0.05, 0.06, 0.08, 0.10)
A_05 = """3.1599 3.1173 3.0695 3.0262 2.9878 2.9536 2.8234 2.7755 2.7379 2.7057 2.6774 2.6519
2.5145 2.4699 2.4368 2.4095 2.3859 2.3652 2.2723 2.2412 2.2186 2.2002 2.1845 2.1708"""
# Where a row is abridged, "-" stands for a bound that is not pinned.
A_025 = "3.3565 3.3224 3.2812 3.2433 3.2095 3.1793 3.0548 - - - - 2.9056 2.7743 - - - - 2.6499"
A_02 = "3.4178 3.3859 3.3466 3.3102 3.2777 3.2485 3.1257 - - - - 2.9826 2.8529 - - - - 2.7351"
B_05 = "2.8189 2.7670 2.7139 2.6679 2.6285 2.5943 2.5424 - - - - 2.4207 2.3786 - - - - 2.2953"
B_025 = "3.0344 2.9946 2.9506 2.9119 2.8785 2.8495 2.8028 - - - - 2.7006 2.6619 - - - - 2.5938"
B_02 = "3.1011 3.0646 3.0231 2.9863 2.9545 2.9269 2.8816 - - - - 2.7845 2.7468 - - - - 2.6825"
EVEN_24 = "2.7009 2.6474 2.5943 2.5492 2.5111 2.4785" + " -" * 16 + " 2.2360 2.2291"
EVEN_5 = "2.4380 2.4268 2.4102 2.3966 2.3860"


def ramp(shares: Sequence[float]) -> list[float]:
    """Information fractions of hourly looks, six hours a stage."""
    hourly = np.repeat(shares, 6).cumsum()
    return [float(fraction) for fraction in hourly / hourly[-1]]


def even(looks: int) -> list[float]:
    return [look / looks for look in range(1, looks + 1)]


def pocock(fractions: Sequence[float], alpha: float) -> list[float]:
    spending = pocock_spending(fractions, alpha=alpha)
    return [float(bound) for bound in boundaries(fractions, [float(spent) for spent in spending])]


def assert_pinned(bounds: Sequence[float], row: str) -> None:
    expected = row.split()
    assert len(bounds) == len(expected)
    for bound, pinned in zip(bounds, expected, strict=True):
        assert pinned == "-" or bound == pytest.approx(float(pinned), abs=HALF_THOUSANDTH)


@pytest.mark.parametrize(
    ("fractions", "alpha", "row"),
    [
        (even(5), 0.025, EVEN_5),
        (even(24), 0.05, EVEN_24),
        (ramp(RAMP_A), 0.05, A_05),
        (ramp(RAMP_A), 0.025, A_025 + " 2.5626 - - - - 2.4840"),
        (ramp(RAMP_A), 0.02, A_02 + " 2.6492 - - - - 2.5764"),
        (ramp(RAMP_B), 0.05, B_05 + " 2.2674 - - - - 2.2093"),
        (ramp(RAMP_B), 0.025, B_025 + " 2.5687 - - - - 2.5229"),
        (ramp(RAMP_B), 0.02, B_02 + " 2.6581 - - - - 2.6154"),
        (ramp(RAMP_A)[5::6], 0.05, "2.6076 2.3666 2.0803 1.8909"),
    ],
)
def test_pocock_bounds_agree_with_reference(fractions: list[float], alpha: float, row: str) -> None:
    assert_pinned(pocock(fractions, alpha), row)


def test_obrien_fleming_bounds_agree_with_reference() -> None:
    spending = obrien_fleming_spending(even(5), alpha=0.025)

    bounds = boundaries(even(5), [float(spent) for spent in spending])

    assert_pinned([float(bound) for bound in bounds], "4.8769 3.3570 2.6803 2.2898 2.0310")


def test_missed_looks_are_spent_by_the_next_one() -> None:
    fractions = ramp(RAMP_A)

    bounds = pocock(fractions[:2] + fractions[4:], 0.05)

    assert_pinned(bounds[:5], "3.1599 3.1173 2.8103 2.9104 2.8100")


def test_promotion_bounds_agree_with_reference() -> None:
    fractions = ramp(RAMP_A)[5::6]
    extension = 1.5556
    spending = [float(spent) for spent in 0.8 * obrien_fleming_spending(fractions, alpha=0.05)]

    bounds = boundaries([t / extension for t in [*fractions, extension]], [*spending, 0.05])

    assert_pinned([float(bound) for bound in bounds], "8.0000 4.7059 2.7912 1.7614 1.9849")


def test_close_looks_keep_their_power() -> None:
    assert pocock(even(288), 0.05)[-1] == pytest.approx(2.31743, abs=HALF_THOUSANDTH)


@given(last=st.integers(1, 23), alpha=st.sampled_from([0.05, 0.025, 0.006]))
def test_a_bound_never_depends_on_later_looks(last: int, alpha: float) -> None:
    fractions = ramp(RAMP_A)

    assert pocock(fractions[:last], alpha) == pocock(fractions, alpha)[:last]


def test_crossing_any_of_five_bounds_has_the_chance_alpha() -> None:
    fractions = np.array(even(5))
    covariance = np.minimum.outer(fractions, fractions) / np.sqrt(
        np.multiply.outer(fractions, fractions)
    )

    below = stats.multivariate_normal(np.zeros(5), covariance).cdf(
        pocock(even(5), 0.025), rng=np.random.default_rng(1)
    )

    assert 1 - float(below) == pytest.approx(0.025, abs=2e-5)


def test_harmless_ramps_cross_with_chance_alpha() -> None:
    fractions = np.array(ramp(RAMP_A))
    rng = np.random.default_rng(3)
    steps = rng.normal(size=(40_000, fractions.size)) * np.sqrt(np.diff(fractions, prepend=0.0))
    z = steps.cumsum(axis=1) / np.sqrt(fractions)

    crossed = int((z >= pocock(ramp(RAMP_A), 0.05)).any(axis=1).sum())

    lower, upper = wilson_interval(crossed, len(z), z=3.3)
    assert float(lower) <= 0.05 <= float(upper)


def test_a_look_that_cannot_afford_a_bound_spends_nothing() -> None:
    clipped = boundaries([0.25, 0.5, 1.0], [0.0, 0.0, 0.05])

    assert clipped.tolist()[:2] == [8.0, 8.0]
    assert float(clipped[2]) == pytest.approx(float(stats.norm.isf(0.05)), abs=1e-5)


def test_the_share_of_a_clipped_look_carries_over() -> None:
    # No look can spend 7e-16 alone; the third one has what three together may spend.
    bounds = boundaries([0.1, 0.2, 1.0], [7e-16, 1e-15, 2.1e-15])

    assert bounds.tolist()[:2] == [8.0, 8.0]
    assert float(bounds[2]) == pytest.approx(float(stats.norm.isf(2.1e-15)), abs=1e-3)


@pytest.mark.parametrize(
    ("fractions", "spending"),
    [
        ([0.5, 0.5], [0.01, 0.02]),
        ([0.0, 0.5], [0.01, 0.02]),
        ([0.5, 1.0], [0.02, 0.01]),
        ([0.5, 1.0], [0.02]),
        ([0.5, float("nan")], [0.01, 0.02]),
        ([0.5, 1.0], [0.5, 1.0]),
    ],
)
def test_an_impossible_plan_is_refused(fractions: list[float], spending: list[float]) -> None:
    with pytest.raises(ValueError, match="must increase"):
        boundaries(fractions, spending)


@pytest.mark.parametrize("spend", [pocock_spending, obrien_fleming_spending])
def test_spending_starts_at_nothing_never_falls_and_ends_at_alpha(
    spend: SpendingFunction,
) -> None:
    spent = spend([0.0, 0.1, 0.4, 0.9, 1.0, 1.7], alpha=0.05)

    assert float(spent[0]) == 0.0
    assert all(earlier <= later for earlier, later in pairwise(spent))
    assert spent[-2:].tolist() == pytest.approx([0.05, 0.05])


@given(
    k_e=st.integers(0, 60),
    k_c=st.integers(0, 60),
    n_e=st.integers(60, 900),
    n_c=st.integers(60, 900),
)
def test_mid_p_flips_its_sign_when_arms_swap(k_e: int, k_c: int, n_e: int, n_c: int) -> None:
    forth, back = float(mid_p_z(k_e, n_e, k_c, n_c)), float(mid_p_z(k_c, n_c, k_e, n_e))

    # Tail probabilities near 1 lose digits to rounding.
    assert forth == pytest.approx(-back, abs=1e-6 if abs(forth) < 5 else 1.0)


def test_mid_p_counts_half_of_the_observed_table() -> None:
    tables = np.arange(31)
    chance = stats.hypergeom.pmf(tables, 2000, 30, 1000)
    by_hand = [float(chance[k + 1 :].sum() + chance[k] / 2) for k in (10, 15, 20)]

    z = mid_p_z([10, 15, 20], 1000, [20, 15, 10], 1000)

    assert stats.norm.sf(z).tolist() == pytest.approx(by_hand, rel=1e-9)
    assert float(z[1]) == pytest.approx(0.0, abs=1e-9)


def test_mid_p_of_no_failure_is_zero_and_of_no_request_is_unknown() -> None:
    z = mid_p_z([0, 0, 3], [50, 0, 9], [0, 4, 0], [50, 90, 0])

    assert z[0] == 0.0
    assert np.isnan(z[1:]).all()


def test_mid_p_keeps_its_level_at_unequal_arms() -> None:
    rng = np.random.default_rng(5)
    n_e, n_c = 1500, 6000
    k_e, k_c = rng.binomial(n_e, 0.02, 20_000), rng.binomial(n_c, 0.02, 20_000)

    rejected = int((mid_p_z(k_e, n_e, k_c, n_c) >= stats.norm.isf(0.05)).sum())

    lower, upper = wilson_interval(rejected, 20_000)
    assert float(lower) <= 0.05
    assert float(upper) >= 0.045
