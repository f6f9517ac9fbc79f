"""How often the judge errs, on worlds of known truth: many rollouts, a look after every window."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pytest

from optimizer.evidence import Check, Outcome, Verdict
from optimizer.judge import judge
from optimizer.policy import Goal, Guardrail, Policy
from optimizer.statistics.evalues import exact_increments, log_evalue_path
from optimizer.statistics.planning import wilson_interval
from rollouts import T0, World, case, grains

AT_ONCE = 250
STEP_S = 3_600

SAME = World(requests=(150.0, 150.0), cost_usd=(0.01, 0.01))
CELLS = {
    "independent": SAME,
    "shared drift": replace(SAME, drift=0.5),
    "sessions of a minute": replace(SAME, session=10.0, icc=0.1),
    "sessions of hours": replace(SAME, session=10.0, icc=0.1, span=3),
    "tiny heavy-tailed costs": replace(SAME, cost_usd=(2e-6, 2e-6), sigma=1.2),
}
POLICY = Policy(
    guardrails=(
        Guardrail(metric="quality", margin=0.04, tolerance=0.0),
        Guardrail(metric="failure_rate", margin=0.01),
        Guardrail(metric="latency_exceedance", margin=0.02),
        Guardrail(metric="latency_ms", margin=0.1, relative=True),
    ),
    goal=Goal(metric="cost_usd"),
)

Claim = Callable[[Verdict], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """The look at which each of n rollouts first met a claim, -1 = never, shape (n,)."""

    first: np.ndarray

    @property
    def share_limits(self) -> tuple[float, float]:
        """95 % limits of the share that ever met it."""
        low, high = wilson_interval(int((self.first >= 0).sum()), self.first.size)
        return float(low), float(high)


def ever(
    claim: Claim,
    world: World,
    *,
    rollouts: int,
    looks: int,
    policy: Policy = POLICY,
    seed: int = 1,
    at: range | None = None,
) -> Tally:
    """Look after every hour, as the loop does, and note the first look at which the claim holds."""
    rng = np.random.default_rng(seed)
    first: list[np.ndarray] = []
    for start in range(0, rollouts, AT_ONCE):
        names = [f"t{start + each}" for each in range(min(AT_ONCE, rollouts - start))]
        frame = grains(rng, world, targets=names, windows=looks, step_s=STEP_S)
        cases = [case(name, policy) for name in names]
        met = np.full(len(names), -1)
        for done in at or range(looks):
            end = T0 + timedelta(seconds=done * STEP_S + 300)
            verdicts = judge(cases, frame, now=end + timedelta(hours=2), data_until=end)
            holds = np.array([claim(verdicts[each.decision.id]) for each in cases])
            met = np.where((met < 0) & holds, done, met)
        first.append(met)
    return Tally(first=np.concatenate(first))


def failed(verdict: Verdict) -> bool:
    return verdict.outcome is Outcome.FAIL


def passed(metric: str) -> Claim:
    def claim(verdict: Verdict) -> bool:
        check: Check = next(each for each in verdict.checks if each.metric == metric)
        return check.outcome is Outcome.PASS

    return claim


def test_few_of_a_few_harmless_rollouts_are_rolled_back() -> None:
    tally = ever(failed, SAME, rollouts=60, looks=6)

    assert tally.share_limits[0] <= 0.05


def test_threefold_failures_are_caught_soon() -> None:
    worse = replace(SAME, failure=(0.02, 0.06))

    tally = ever(failed, worse, rollouts=60, looks=16)

    assert tally.share_limits[0] >= 0.9
    assert np.median(tally.first[tally.first >= 0]) * 150 <= 1_500


def test_no_verdict_promotes_a_few_arms_that_are_worse_by_the_margin() -> None:
    world = replace(SAME, failure=(0.05, 0.07))
    policy = replace(POLICY, guardrails=(Guardrail(metric="failure_rate", margin=0.02),))

    tally = ever(passed("failure_rate"), world, rollouts=60, looks=8, policy=policy)

    assert tally.share_limits[0] <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_harmless_rollouts_are_rolled_back_in_at_most_five_percent(cell: str) -> None:
    tally = ever(failed, CELLS[cell], rollouts=2_000, looks=8)

    assert tally.share_limits[1] <= 0.065


@pytest.mark.slow
def test_requests_of_long_sessions_taken_as_independent_would_break_the_bound() -> None:
    # Guards the simulator: a world in which the wrong test is right would prove nothing.
    world = CELLS["sessions of hours"]
    frame = grains(
        np.random.default_rng(1),
        replace(world, icc=0.2, failure=(0.05, 0.05)),
        targets=[f"t{each}" for each in range(1_000)],
        windows=24,
        step_s=STEP_S,
    )
    failures, sizes = (frame[name].to_numpy().reshape(1_000, 2, 24) for name in ("n_failed", "n"))

    path = log_evalue_path(
        exact_increments(failures[:, 1], sizes[:, 1], failures[:, 0], sizes[:, 0])
    )

    assert (path.max(axis=1) >= np.log(1 / 0.05)).mean() > 0.08


@pytest.mark.slow
@pytest.mark.parametrize(
    ("metric", "world", "margin"),
    [
        ("failure_rate", replace(SAME, failure=(0.05, 0.07)), 0.02),
        ("failure_rate", replace(SAME, failure=(0.0, 0.01)), 0.01),
        ("failure_rate", replace(SAME, failure=(0.05, 0.08), session=10.0, icc=0.1, span=3), 0.03),
        ("quality", replace(SAME, quality=(0.8, 0.76)), 0.04),
        ("quality", replace(SAME, quality=(0.8, 0.74), session=10.0, icc=0.1, span=3), 0.06),
        ("latency_ms", replace(SAME, latency_ms=(800.0, 880.0), sigma=1.2), 0.1),
    ],
    ids=[
        "failures",
        "failures that control does not know",
        "failures of sessions",
        "quality",
        "quality of sessions",
        "heavy-tailed latency",
    ],
)
def test_an_arm_worse_by_the_margin_passes_in_at_most_five_percent(
    metric: str, world: World, margin: float
) -> None:
    rail = Guardrail(metric=metric, margin=margin, relative=metric == "latency_ms")
    policy = replace(POLICY, guardrails=(rail,))

    tally = ever(passed(metric), world, rollouts=1_000, looks=8, policy=policy)

    assert tally.share_limits[1] <= 0.06


@pytest.mark.slow
def test_threefold_failures_are_caught_in_nearly_every_rollout() -> None:
    worse = replace(SAME, failure=(0.02, 0.06))

    tally = ever(failed, worse, rollouts=250, looks=20, at=range(3, 20, 4))

    assert tally.share_limits[0] >= 0.98


@pytest.mark.slow
def test_harmless_arms_are_promoted_in_the_end() -> None:
    policy = replace(
        POLICY, guardrails=(Guardrail(metric="failure_rate", margin=0.02),), goal=Goal()
    )
    cheaper = replace(SAME, requests=(400.0, 400.0), cost_usd=(0.01, 0.006))

    tally = ever(
        lambda verdict: verdict.outcome is Outcome.PASS,
        cheaper,
        rollouts=250,
        looks=24,
        policy=policy,
        at=range(3, 24, 4),
    )

    assert tally.share_limits[0] >= 0.9
