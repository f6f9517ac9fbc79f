"""What is measured of an arm is what its requests say one by one."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from optimizer.statistics.arms import measured, pooled
from scenes import Traffic, hours

SPAN = 2


def row(traffic: Traffic) -> dict[str, Any]:
    """What is measured of an arm after two such hours."""
    frame = measured(pooled(hours({("a", "x"): traffic}, span=SPAN), ("target",)))
    return dict(frame.iloc[0])


@pytest.mark.parametrize("quality", [0.0, 0.5, 0.9, 1.0])
def test_a_mean_score_has_the_variance_of_its_rows_and_one_of_a_prior(quality: float) -> None:
    found = row(Traffic(quality=quality, labels=200))

    n = SPAN * 200
    scores = np.repeat([1.0, 0.0], [round(quality * n), n - round(quality * n)])
    centre = np.append(scores, 0.5).mean()
    variance = (0.25 + ((scores - centre) ** 2).sum()) / (n + 1) / n
    assert found["quality"] == pytest.approx(quality)
    assert found["quality_variance"] == pytest.approx(variance)


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.2])
def test_the_log_of_a_mean_cost_varies_as_one_of_log_normal_rows(sigma: float) -> None:
    found = row(Traffic(n=1010, failed=10, cost_sigma=sigma))

    n = SPAN * 1000
    smoothed = (sigma**2 * n + 1.0) / (n + 1.0)
    assert found["log_cost_variance"] == pytest.approx(np.expm1(smoothed) / n, rel=1e-4)


def test_a_success_costs_the_whole_spend_over_the_successes() -> None:
    found = row(Traffic(n=1000, failed=250, cost_usd=0.004, failed_priced=True))

    assert found["spend_usd"] == pytest.approx(SPAN * 4.0)
    assert found["success_cost_usd"] == pytest.approx(SPAN * 4.0 / (SPAN * 750))


def test_the_share_of_unknown_costs_is_that_of_requests_without_one() -> None:
    found = row(Traffic(n=1000, failed=250, cost_usd=0.004))

    assert found["unknown_cost_share"] == pytest.approx(0.25)


def test_the_limits_of_a_failure_rate_are_wilsons() -> None:
    found = row(Traffic(n=1000, failed=20))

    limits = stats.binomtest(SPAN * 20, SPAN * 1000).proportion_ci(method="wilson")
    assert found["failure_rate"] == pytest.approx(0.02)
    assert (found["failure_low"], found["failure_high"]) == pytest.approx(tuple(limits))
