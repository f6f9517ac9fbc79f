"""What a promotion really did, measured against its holdback."""

from datetime import timedelta

import numpy as np
import pytest

from optimizer.decision import State
from optimizer.evidence import Anchor, Impact
from optimizer.judge import Case, charges, realised
from optimizer.policy import Guardrail, Policy
from rollouts import HOUR, T0, World, case, decision, grains

POLICY = Policy(
    guardrails=(
        Guardrail(metric="quality", margin=0.05, anchored=True),
        Guardrail(metric="failure_rate", margin=0.01, anchored=True),
        Guardrail(metric="cost_usd", margin=0.2, relative=True, anchored=True),
        Guardrail(metric="latency_exceedance", margin=0.02),
    )
)
# A holdback of 5 % is the control of a canary of 95 %.
WORLD = World(
    requests=(50.0, 950.0), cost_usd=(0.01, 0.006), quality=(0.8, 0.77), latency_ms=(800.0, 600.0)
)
WINDOWS = 72
END = T0 + WINDOWS * timedelta(minutes=5)


def watched() -> Case:
    return case(policy=POLICY, state=State.MONITORING, stage=3, deployed_at=T0)


def measured(world: World, *, windows: int = WINDOWS, late: timedelta = HOUR) -> Impact:
    frame = grains(np.random.default_rng(11), world, windows=windows)
    return realised(watched(), frame, now=END + late, data_until=END)


def charged(world: World, given: Case, *, windows: int = WINDOWS) -> dict[str, Anchor | None]:
    frame = grains(np.random.default_rng(11), world, windows=windows)
    return dict(charges(given, frame, now=END + HOUR, data_until=END))


def test_the_measured_change_holds_the_truth_between_its_limits() -> None:
    impact = measured(WORLD)

    assert impact.cost_reduction_lower_pct is not None
    assert impact.cost_reduction_upper_pct is not None
    assert impact.cost_reduction_lower_pct < 40.0 < impact.cost_reduction_upper_pct
    assert impact.quality_delta_lower is not None
    assert impact.quality_delta_upper is not None
    assert impact.quality_delta_lower < -0.03 < impact.quality_delta_upper
    assert impact.latency_delta_pct == pytest.approx(-25.0, abs=4.0)
    # 1,000 requests in five minutes save 0.004 USD each.
    assert impact.daily_saving_usd == pytest.approx(288 * 1_000 * 0.004, rel=0.1)
    assert impact.confidence == pytest.approx(1.0)
    assert impact.method == "concurrent holdback"


def test_quality_waits_for_its_labels() -> None:
    impact = measured(WORLD, windows=12, late=-6 * HOUR + timedelta(minutes=30))

    assert impact.quality_delta is None
    assert impact.cost_reduction_pct is not None


def test_a_split_that_is_not_the_planned_one_estimates_nothing() -> None:
    impact = measured(World(requests=(400.0, 600.0)))

    assert impact.n > 0
    assert impact == Impact(n=impact.n, method=impact.method)
    assert "sample-ratio mismatch" in impact.method


def test_a_promotion_is_charged_what_its_anchored_metrics_lost() -> None:
    found = charged(WORLD, watched())

    quality, cost = found["quality"], found["cost_usd"]
    assert set(found) == {"quality", "failure_rate", "cost_usd"}
    assert quality is not None
    assert quality.harm == pytest.approx(0.03, abs=4 * quality.variance**0.5)
    assert quality.variance == pytest.approx(0.8 * 0.2 / 3_600, rel=0.5)
    assert (quality.reference_arm, quality.promotions) == ("large", 1)
    assert cost is not None
    assert cost.harm == pytest.approx(-0.4, abs=0.05)


def test_the_reference_arm_stays_that_of_the_first_promotion() -> None:
    first = Anchor(target="checkout", metric="quality", reference_arm="huge", harm=0.01)
    given = Case(
        decision=decision(state=State.MONITORING, deployed_at=T0),
        policy=POLICY,
        anchors={("checkout", "quality"): first},
    )

    found = charged(WORLD, given)["quality"]

    assert found is not None
    assert found.reference_arm == "huge"


def test_a_thin_holdback_charges_nothing_so_that_the_earlier_estimate_stays() -> None:
    thin = charged(World(requests=(5.0, 95.0)), watched(), windows=12)
    mismatch = charged(World(requests=(400.0, 600.0)), watched())

    assert set(thin.values()) == {None}
    assert set(mismatch.values()) == {None}
