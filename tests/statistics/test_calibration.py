"""Promised against realised: deviates, misses and the evidence they add up to, against the normal.

Reference numbers: 1.959964, 2.241403 and 2.575829 are the two-sided 5 %, 2.5 % and 1 % points of
the standard normal (Abramowitz and Stegun 1972, table 26.5; R 4.3 ``qnorm(1 - p / 2)``).
"""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as few
from hypothesis import strategies as st
from scipy import integrate, stats

from optimizer.statistics.calibration import ALLOWED, NOMINAL, deviates, log_evidence, missed

NAN = math.nan


def one(*values: float, confidence: float = 0.95) -> float:
    return float(deviates(*values, confidence=confidence))


def test_a_gap_of_both_half_widths_together_is_the_two_sided_limit() -> None:
    # Halves of 3 and 4 add up like the sides of a right triangle, to 5.
    assert one(40.0, 3.0, 45.0, 4.0) == pytest.approx(1.959964, abs=1e-6)
    assert one(40.0, 3.0, 35.0, 4.0) == pytest.approx(-1.959964, abs=1e-6)
    assert one(40.0, 3.0, 45.0, 4.0, confidence=0.99) == pytest.approx(2.575829, abs=1e-6)


@pytest.mark.parametrize("unknown", range(4))
def test_without_a_promise_a_measurement_or_limits_nothing_is_known(unknown: int) -> None:
    values = [40.0, 3.0, 10.0, 4.0]
    values[unknown] = NAN

    assert math.isnan(one(*values))


def test_limits_without_any_width_are_kept_only_to_the_letter() -> None:
    assert one(40.0, 0.0, 40.0, 0.0) == 0.0
    assert one(40.0, 0.0, 39.0, 0.0) == -math.inf
    assert missed([[-math.inf]]).tolist() == [True]


@given(st.lists(st.floats(-50, 50), min_size=4, max_size=4), st.floats(0.01, 100))
@few(max_examples=30)
def test_no_scale_and_no_exchange_of_the_two_moves_a_deviate(v: list[float], scale: float) -> None:
    expected, half, actual, actual_half = v[0], abs(v[1]) + 0.1, v[2], abs(v[3]) + 0.1

    found = one(expected, half, actual, actual_half)

    assert one(*(scale * value for value in (expected, half, actual, actual_half))) == (
        pytest.approx(found, rel=1e-9, abs=1e-9)
    )
    assert one(actual, actual_half, expected, half) == pytest.approx(-found)


@pytest.mark.parametrize(
    ("row", "broken"),
    [
        ([1.9599, NAN], False),
        ([1.9600, NAN], True),
        # Two metrics share the error: each has 2.5 %.
        ([2.2414, 0.0], False),
        ([2.2415, 0.0], True),
        ([0.0, -2.2415], True),
        ([NAN, NAN], False),
    ],
)
def test_a_miss_lies_beyond_the_limit_that_its_metrics_share(
    row: list[float],
    broken: bool,  # noqa: FBT001 - what is expected
) -> None:
    assert missed([row]).tolist() == [broken]


def test_honest_promises_are_missed_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    size = 40_000
    expected = rng.normal(0.0, 2.0, (size, 2))
    actual = rng.normal(0.0, 0.5, (size, 2))
    found = missed(deviates(expected, 1.959964 * 2.0, actual, 1.959964 * 0.5))

    # Two independent metrics at half of the error each, within four standard errors.
    honest = 1.0 - (1.0 - NOMINAL / 2.0) ** 2
    assert abs(found.mean() - honest) < 4 * math.sqrt(honest / size)


@pytest.mark.parametrize(("misses", "kept"), [(0, 0), (0, 30), (3, 1), (6, 6), (10, 0)])
def test_the_evidence_is_the_mean_likelihood_ratio_over_worse_shares(
    misses: int, kept: int
) -> None:
    """By quadrature, over a beta prior of weight 16 cut to the shares above what is allowed."""
    prior = stats.beta(16 * ALLOWED, 16 * (1 - ALLOWED))

    def ratio(share: float) -> float:
        worse = (share / ALLOWED) ** misses * ((1 - share) / (1 - ALLOWED)) ** kept
        return float(worse * prior.pdf(share) / prior.sf(ALLOWED))

    by_quadrature, _ = integrate.quad(ratio, ALLOWED, 1.0, epsabs=1e-12)

    assert log_evidence(misses, kept) == pytest.approx(math.log(by_quadrature), abs=1e-6)


def test_half_missed_is_proven_after_eleven_promotions() -> None:
    """As the decision record on autonomy says, where every second one is missed."""
    limit = math.log(1 / 0.05)

    proven = next(n for n in range(1, 100) if log_evidence((n + 1) // 2, n // 2) >= limit)

    assert proven == 11
