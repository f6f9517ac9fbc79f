"""The right to act alone: lost by promises that are provably missed, never by chance or by one."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.cycle import Fate, decide
from optimizer.cycle.autonomy import REMEMBERED, track_records
from optimizer.evidence import Estimate, Impact, Proposal, Scene, Settled, proposal_id
from optimizer.policy import Approval, Policy
from scenes import LARGE, NOW, SMALL, Traffic, World

COST = Estimate(metric="cost_usd", unit="", canary=0.001, control=0.004)
FAILURES = Estimate(metric="failure_rate", unit="", canary=0.01, control=0.01)


def impact(saving: float | None, half: float = 3.0, quality: float | None = None) -> Impact:
    limits = {} if saving is None else {"low": saving - half, "high": saving + half}
    return Impact(
        cost_reduction_pct=saving,
        cost_reduction_lower_pct=limits.get("low"),
        cost_reduction_upper_pct=limits.get("high"),
        quality_delta=quality,
        quality_delta_lower=None if quality is None else quality - 0.01,
        quality_delta_upper=None if quality is None else quality + 0.01,
    )


def settled(expected: Impact, actual: Impact, *, strategy: str = "pareto", day: int = 0) -> Settled:
    return Settled(
        strategy=strategy,
        target="support",
        expected=expected,
        actual=actual,
        ended_at=NOW - timedelta(days=100 - day),
    )


KEPT = settled(impact(40.0), impact(38.0))
MISSED = settled(impact(40.0), impact(10.0))


def scene(*history: Settled, policy: Policy | None = None) -> Scene:
    world = World(
        arms={"support": (LARGE, SMALL)},
        traffic={("support", "large"): Traffic(failed=10, failed_priced=True)},
        policy=policy or Policy(),
        span=24,
        extra={"settled": tuple(history)},
    )
    return world.scene()


def fate(one: Scene, **parts: Any) -> tuple[str, str]:  # noqa: ANN401 - fields of a proposal
    proposal = Proposal(
        **{
            "id": proposal_id("pareto", "support", "small", NOW),
            "strategy": "pareto",
            "target": "support",
            "candidate": "small",
            "rationale": "cheaper",
            "expected": Impact(daily_saving_usd=10.0),
            "estimates": (COST, FAILURES),
            **parts,
        }
    )
    ((_, outcome, reason),) = decide(one, [proposal], config_hash="c", actor="a").outcomes
    return outcome, reason


def test_a_strategy_that_misses_again_and_again_needs_a_person_and_says_why() -> None:
    outcome, reason = fate(scene(*[MISSED] * 6, *[KEPT] * 2))

    assert outcome == Fate.AWAITING_APPROVAL.value
    assert "6 of 8 measured promotions of pareto missed" in reason
    assert "savings off by -23.0 points" in reason


def test_one_miss_or_none_takes_nothing_away() -> None:
    assert fate(scene())[0] == Fate.ACCEPTED.value
    assert fate(scene(MISSED))[0] == Fate.ACCEPTED.value
    assert fate(scene(MISSED, *[KEPT] * 20))[0] == Fate.ACCEPTED.value


def test_what_other_strategies_missed_counts_for_them_alone() -> None:
    others = [settled(impact(40.0), impact(10.0), strategy="bandit")] * 10
    assert fate(scene(*others))[0] == Fate.ACCEPTED.value


def test_the_way_out_of_an_unsafe_arm_waits_for_nobody() -> None:
    assert fate(scene(*[MISSED] * 10), urgent=True)[0] == Fate.ACCEPTED.value


def test_an_operator_may_let_it_act_all_the_same() -> None:
    lenient = Policy(approval=Approval(when_missed=False))
    assert fate(scene(*[MISSED] * 10, policy=lenient))[0] == Fate.ACCEPTED.value


def test_the_right_comes_back_with_promises_kept() -> None:
    later = [settled(impact(40.0), impact(39.0), day=n) for n in range(REMEMBERED)]
    assert fate(scene(*[MISSED] * 10, *later))[0] == Fate.ACCEPTED.value


def test_unknown_is_neither_kept_nor_missed() -> None:
    blank = settled(impact(40.0), Impact())
    (record,) = track_records([blank] * 10).values()
    assert (record.settled, record.missed, record.bias_pct) == (0, 0, None)
    assert record.is_trusted
    unlimited = settled(impact(40.0), Impact(cost_reduction_pct=10.0))
    (record,) = track_records([unlimited] * 10).values()
    assert (record.settled, record.missed, record.bias_pct) == (0, 0, -30.0)
    quality_alone = settled(impact(None, quality=0.0), impact(None, quality=-0.2))
    (record,) = track_records([quality_alone] * 6).values()
    assert (record.settled, record.missed) == (6, 6)


@given(
    st.floats(-50, 50), st.floats(0.1, 20), st.floats(-50, 50), st.floats(0.1, 20),
    st.floats(0.001, 1000),
)  # fmt: skip
def test_no_scale_decides_a_miss(
    expected: float, half: float, actual: float, actual_half: float, scale: float
) -> None:
    def one(factor: float) -> int:
        pair = (
            impact(expected * factor, half * factor),
            impact(actual * factor, actual_half * factor),
        )
        (record,) = track_records([settled(*pair)]).values()
        return record.missed

    gap = abs(actual - expected) / np.hypot(half, actual_half)
    if abs(gap - 1.0) > 1e-6:
        assert one(scale) == one(1.0)


@pytest.mark.parametrize(("noise", "allowed"), [(1.0, 0.05), (3.0, 1.0)])
def test_an_honest_strategy_hardly_ever_loses_the_right(noise: float, allowed: float) -> None:
    """60 promotions with honest limits, looked at after each; and with limits far too narrow."""
    rng = np.random.default_rng(7)
    lost = 0
    for _ in range(60):
        history = [
            settled(impact(float(40 + noise * rng.normal(0, 2)), 3.92), impact(40.0, 0.01))
            for _ in range(40)
        ]
        looks = (track_records(history[: n + 1])["pareto"].is_trusted for n in range(40))
        lost += not all(looks)
    assert lost / 60 <= allowed
    assert (lost / 60 >= 0.95) == (noise > 1)
