"""Logs of a candidate that has served: they may refuse it, never hold it back for being few."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest

from optimizer.cycle import Fate, Plan, decide, events_for
from optimizer.decision import State
from optimizer.evidence import Estimate, Impact, Proposal, Scene, proposal_id
from optimizer.metrics import HOUR_S
from optimizer.observations import EXPLORED
from optimizer.policy import Guardrail, Policy
from scenes import LARGE, NOW, SMALL, WEAK, Traffic, World

TARGET = "support"
CALLS = 2000
"""An hour, of all arms."""

GUARDED = (Guardrail(metric="quality", margin=0.02), Guardrail(metric="failure_rate", margin=0.01))


def cells(
    shares: Mapping[str, float],
    quality: Mapping[str, float],
    *,
    hours: Sequence[int] = range(8),
    stated: Mapping[str, float] | None = None,
    seed: int = 1,
) -> pd.DataFrame:
    """What the engine makes of hours (counted back from now) in which arms had those chances."""
    rng = np.random.default_rng(seed)
    names = list(shares)
    frames = []
    for hour in hours:
        arm = rng.choice(len(names), size=CALLS, p=list(shares.values()))
        hit = rng.random(CALLS) < np.array([quality[name] for name in names])[arm]
        frames.append(
            pd.DataFrame(
                {
                    "hour_start_s": int(NOW.timestamp()) - (hour + 1) * HOUR_S,
                    "arm": np.array(names)[arm],
                    "propensity": np.array([(stated or shares)[name] for name in names])[arm],
                    "cluster": rng.integers(0, 128, CALLS),
                    "n": 1,
                    "quality_e6": hit.astype(np.int64) * 10**6,
                    "quality_sq_e9": hit.astype(np.int64) * 10**9,
                }
            )
        )
    keys = list(EXPLORED[:4])
    return pd.concat(frames).groupby(keys, as_index=False, dropna=False).sum()[list(EXPLORED)]


TWO = {"large": 0.75, "small": 0.25}
ALIKE = {"large": 0.9, "small": 0.9, "weak": 0.9}
WORSE = {"large": 0.9, "small": 0.8, "weak": 0.8}


def scene(explored: pd.DataFrame | None, policy: Policy | None = None) -> Scene:
    world = World(
        arms={TARGET: (LARGE, SMALL, WEAK)},
        traffic={(TARGET, "large"): Traffic()},
        policy=policy or Policy(guardrails=GUARDED),
        span=24,
    )
    found = world.scene()
    return found if explored is None else dataclasses.replace(found, explored={TARGET: explored})


def proposal(candidate: str = "small", *, exploratory: bool = True, priority: int = 0) -> Proposal:
    cost = Estimate(metric="cost_usd", unit="USD", canary=0.001, control=0.004)
    return Proposal(
        id=proposal_id("pareto", TARGET, candidate, NOW),
        strategy="pareto",
        target=TARGET,
        candidate=candidate,
        rationale="cheaper",
        expected=Impact(daily_saving_usd=10.0),
        estimates=(cost,),
        exploratory=exploratory,
        priority=priority,
    )


def run(one: Scene, *proposals: Proposal) -> Plan:
    return decide(one, proposals or [proposal()], config_hash="c0ffee", actor="optimize")


def outcome(one: Scene) -> tuple[str, str]:
    ((_, fate, reason),) = run(one).outcomes
    return fate, reason


def test_a_candidate_that_never_served_is_judged_as_before() -> None:
    assert outcome(scene(None)) == (Fate.ACCEPTED.value, "")


@pytest.mark.parametrize("exploratory", [True, False])
def test_a_candidate_that_logs_show_to_be_worse_is_refused_with_the_numbers(
    exploratory: bool,  # noqa: FBT001 - both kinds
) -> None:
    plan = run(scene(cells(TWO, WORSE)), proposal(exploratory=exploratory))

    ((_, fate, reason),) = plan.outcomes
    assert (fate, plan.decisions) == (Fate.SAFETY.value, ())
    assert reason.startswith("in logs the quality of small is worse than that of large: gain -0.")
    assert "allowed -0.02, from 16,000 requests worth" in reason


def test_when_the_best_is_worse_in_logs_the_next_is_taken() -> None:
    plan = run(scene(cells(TWO, WORSE)), proposal(priority=1), proposal("weak"))

    assert [fate for _, fate, _ in plan.outcomes] == ["safety", "accepted"]
    assert [decision.candidate for decision in plan.decisions] == ["weak"]


def test_a_candidate_as_good_in_logs_opens_a_canary_and_no_more() -> None:
    plan = run(scene(cells(TWO, ALIKE)))

    ((_, fate, reason),) = plan.outcomes
    (decision,) = plan.decisions
    assert fate == Fate.ACCEPTED.value
    assert reason.startswith("in logs the quality of small holds against large: gain")
    assert decision.state is State.VALIDATING
    assert decision.baseline == "large"
    assert decision.reason == reason
    assert [event.to_state for event in events_for(decision)] == [State.VALIDATING]


FEW = cells({"large": 0.8, "small": 0.2}, WORSE, hours=[0])
UNKNOWN = cells(TWO, WORSE).assign(propensity=np.nan)
RARE = cells({"large": 0.997, "small": 0.003}, WORSE)
MISSTATED = cells(TWO, WORSE, stated={"large": 0.5, "small": 0.5})


@pytest.mark.parametrize(
    ("explored", "lack"),
    [
        (FEW, "of 2,000 requests (at least 500)"),
        (UNKNOWN, "propensity unknown in 16,000 of 16,000 requests"),
        (RARE, "unsupported mass 1.00 (at most 0.05)"),
        (MISSTATED, "mean weight 0.503 (between 0.8 and 1.25)"),
    ],
    ids=["few", "unknown", "rare", "misstated"],
)
@pytest.mark.parametrize("exploratory", [True, False])
def test_logs_that_do_not_tell_refuse_nobody_and_are_named(
    explored: pd.DataFrame,
    lack: str,
    exploratory: bool,  # noqa: FBT001 - both kinds
) -> None:
    plan = run(scene(explored), proposal(exploratory=exploratory))

    ((_, fate, reason),) = plan.outcomes
    assert fate == Fate.ACCEPTED.value
    assert len(plan.decisions) == 1
    assert reason.startswith("logs do not tell the quality of small from large: ")
    assert lack in reason
    assert "more explored requests would do" in reason


def test_only_hours_that_explored_the_candidate_speak() -> None:
    """Hours of another rollout hold nothing of the candidate: they neither dilute nor bias it."""
    others = cells({"large": 0.9, "weak": 0.1}, WORSE, hours=range(8, 60))
    known = cells(TWO, WORSE)

    assert outcome(scene(pd.concat([known, others]))) == outcome(scene(known))


def test_a_split_of_three_arms_supports_each_of_them() -> None:
    shares = {"large": 0.5, "small": 0.25, "weak": 0.25}

    good, bad = (scene(cells(shares, quality)) for quality in (ALIKE, WORSE))

    assert outcome(good)[0] == Fate.ACCEPTED.value
    assert "holds against large" in outcome(good)[1]
    assert outcome(bad)[0] == Fate.SAFETY.value


def test_half_an_hour_without_a_split_is_without_support() -> None:
    mixed = pd.concat([cells(TWO, ALIKE), cells({"large": 1.0}, ALIKE, seed=2)], ignore_index=True)

    assert "unsupported mass 0.50" in outcome(scene(mixed))[1]


def test_the_baseline_of_today_is_what_a_candidate_is_held_against() -> None:
    """After a promotion the arm that was in force is a candidate, explored by the holdback."""
    explored = cells({"large": 0.25, "small": 0.75}, {"large": 0.8, "small": 0.9})
    promoted = dataclasses.replace(scene(explored), baselines={TARGET: "small"})

    ((_, fate, reason),) = run(promoted, proposal("large")).outcomes

    assert fate == Fate.SAFETY.value
    assert "quality of large is worse than that of small" in reason


def test_a_margin_relative_to_the_baseline_is_read_as_such() -> None:
    explored = cells(TWO, {"large": 0.5, "small": 0.46}, hours=range(24))
    absolute, relative = (
        Policy(guardrails=(Guardrail(metric="quality", margin=0.06, relative=kind),))
        for kind in (False, True)
    )

    assert outcome(scene(explored, absolute))[0] == Fate.ACCEPTED.value
    # 6 % of what the baseline is worth are 3 points.
    assert outcome(scene(explored, relative))[0] == Fate.SAFETY.value


def test_a_policy_that_does_not_guard_quality_asks_no_logs() -> None:
    unguarded = Policy(guardrails=(Guardrail(metric="failure_rate", margin=0.01),))

    assert outcome(scene(cells(TWO, WORSE), unguarded)) == (Fate.ACCEPTED.value, "")
