"""Figures that the documentation quotes of always-valid monitors, measured anew with fixed seeds.

Reference values of single functions stand with the functions' own tests; here are the properties
over whole rollouts: how often harmless canaries alarm, how wide intervals are.
"""

from math import log

import numpy as np
import numpy.typing as npt
import pytest

from optimizer.statistics.anytime import bounded_mean_sequence, half_width_multiplier
from optimizer.statistics.evalues import (
    binomial_increments,
    closed_form_log_evalue,
    log_evalue_path,
    srm_log_evalue,
)
from optimizer.statistics.planning import wilson_interval

ALPHA = 0.05
FloatArray = npt.NDArray[np.float64]
Beside = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]

SIZES = (100, 500, 2_000, 10_000)
BETA_SD = (4 / 150) ** 0.5


def alarms(path: FloatArray) -> int:
    """Rollouts whose log e-value ever reaches the alarm."""
    return int((path >= log(1 / ALPHA)).any(axis=-1).sum())


def assert_near(alarmed: int, rollouts: int, share: float) -> None:
    """The quoted share lies within the limits of what was counted, widened to 99.9 %."""
    low, high = wilson_interval(alarmed, rollouts, z=3.29)
    assert float(low) <= share <= float(high)


def test_bounded_scores_have_the_quoted_width() -> None:
    # Beta(4, 1) scores in windows of 50, median half-width after 100, 500, 2,000 and 10,000.
    scores = np.random.default_rng(1).beta(4, 1, (60, 200, 50))

    lower, upper = bounded_mean_sequence(
        np.full((60, 200), 50), scores.sum(axis=2), (scores**2).sum(axis=2), alpha=ALPHA
    )

    half = np.median((upper - lower) / 2, axis=0)
    found = [float(half[size // 50 - 1]) for size in SIZES]
    assert found == pytest.approx([0.103, 0.029, 0.014, 0.0066], rel=0.1)


def test_the_asymptotic_sequence_of_the_same_scores_has_the_quoted_width() -> None:
    error = BETA_SD / np.sqrt(SIZES)

    half = error * half_width_multiplier(SIZES, alpha=ALPHA, tightest_at=1_000, two_sided=True)

    assert half.tolist() == pytest.approx([0.063, 0.023, 0.011, 0.0053], rel=0.03)


@pytest.mark.parametrize(("ratio", "share"), [(1, 0.018), (9, 0.016)])
def test_the_count_e_process_alarms_on_harmless_canaries_as_quoted(
    ratio: int, share: float
) -> None:
    # 24 hourly looks along 5, 10, 25 and 50 % of 2,000 requests an hour, failing 2 %.
    rng, rollouts = np.random.default_rng(2), 6_000
    sizes = np.repeat([100, 200, 500, 1000] if ratio == 1 else [100, 120, 160, 200], 6)
    k_e = rng.binomial(sizes, 0.02, (rollouts, 24)).cumsum(axis=1)
    k_c = rng.binomial(ratio * sizes, 0.02, (rollouts, 24)).cumsum(axis=1)

    path = closed_form_log_evalue(k_e, k_c, 1 / (1 + ratio))

    assert_near(alarms(path), rollouts, share)


@pytest.mark.slow
def test_a_look_after_each_of_many_failures_alarms_as_quoted() -> None:
    rng, rollouts = np.random.default_rng(3), 1_000
    ever = np.zeros(rollouts, dtype=bool)
    canary = np.zeros(rollouts, dtype=np.int64)
    for first in range(0, 20_000, 2_000):
        steps = rng.integers(0, 2, (rollouts, 2_000)).cumsum(axis=1) + canary[:, None]
        total = np.arange(first + 1, first + 2_001)
        path = closed_form_log_evalue(steps, total - steps)
        ever |= (path >= log(1 / ALPHA)).any(axis=1)
        canary = steps[:, -1]

    assert_near(int(ever.sum()), rollouts, 0.039)


def test_a_split_of_48_to_52_is_found_after_the_quoted_number_of_units() -> None:
    rng = np.random.default_rng(4)
    canary = rng.binomial(100, 0.48, (1_500, 300)).cumsum(axis=1)
    units = np.arange(1, 301) * 100

    alarm = srm_log_evalue(canary, units - canary) >= log(1000)

    found_at = np.where(alarm.any(axis=1), alarm.argmax(axis=1) + 1, 300) * 100
    assert float(np.median(found_at)) == pytest.approx(10_400, rel=0.06)


def spanning_sessions(rng: np.random.Generator) -> tuple[list[Beside], list[Beside]]:
    """24 hours of two equal arms: (failures, at risk) of sessions, (failures, requests) of all.

    Sessions last a geometric number of hours, 3 on average, with about 10 requests in all; their
    failure rates are beta with mean .02 and intraclass correlation .1.
    """
    first, every = [], []
    for _ in range(2):
        begin = rng.integers(-8, 24, 32 * 100)
        last = begin + rng.geometric(1 / 3, begin.size) - 1
        rate = rng.beta(0.02 * 9, 0.98 * 9, begin.size)
        hours = np.arange(24)
        active = (begin[:, None] <= hours) & (hours <= last[:, None]) & (begin >= 0)[:, None]
        requests = np.where(active, 1 + rng.poisson(2.3, active.shape), 0)
        failures = rng.binomial(requests, rate[:, None])
        failed_before = (failures.cumsum(axis=1) - failures) > 0
        at_risk = active & ~failed_before
        first.append(((at_risk & (failures > 0)).sum(axis=0), at_risk.sum(axis=0)))
        every.append((failures.sum(axis=0), requests.sum(axis=0)))
    return first, every


@pytest.mark.slow
def test_first_failures_keep_their_level_where_requests_do_not() -> None:
    rng, rollouts = np.random.default_rng(5), 800
    found = {"sessions": 0, "requests": 0}
    for _ in range(rollouts):
        for name, arms in zip(found, spanning_sessions(rng), strict=True):
            (k_e, n_e), (k_c, n_c) = arms
            path = log_evalue_path(binomial_increments(k_e, n_e, k_c, n_c))
            found[name] += alarms(path)

    # Quoted of a heavier world: 1.7 % [1.2, 2.5] against 17.2 %.
    assert float(wilson_interval(found["sessions"], rollouts)[1]) <= ALPHA
    assert float(wilson_interval(found["requests"], rollouts)[0]) > ALPHA
