"""The arm an experiment declared the best is proposed: once it is idle, fresh and untried."""

from dataclasses import replace
from typing import Any

import pytest

from experiment_scene import ARMS, served
from optimizer.aggregates import rollup
from optimizer.evidence import DecisionId, Estimate, Past, Proposal, Scene, Winner
from optimizer.metrics import HOUR_S
from optimizer.strategies.winners import Winners
from optimizer.targets import Arm, ModelConfig, Target
from rollout_scene import HOUR, POLICY, START, TARGET

NOW = START + 5 * HOUR
ARM = tuple(Arm(name=name, config=ModelConfig(model=f"{name}-1")) for name in ARMS)
STRATEGY = Winners(name="ab_test", rule="uniform")


def winner(**changes: Any) -> Winner:  # noqa: ANN401 - fields of Winner
    first = Winner(
        experiment="x-1",
        rule="uniform",
        target=TARGET,
        arm="small",
        baseline="large",
        since=START,
        ended_at=START + 4 * HOUR,
        reason="small is proven the best",
        estimates=(
            Estimate(
                metric="quality", unit="score", effect=0.15, lower=0.1, canary=0.85, control=0.7
            ),
        ),
    )
    return replace(first, **changes)


def scene(*winners: Winner, **changes: Any) -> Scene:  # noqa: ANN401 - fields of Scene
    quality = {"large": 0.7, "small": 0.85, "mini": 0.7}
    first = Scene(
        now=NOW,
        targets={TARGET: Target(name=TARGET, baseline="large", arms=ARM)},
        policies={TARGET: POLICY},
        baselines={TARGET: "large"},
        hours=rollup(served(4, quality, rows=30), HOUR_S),
        in_flight={},
        winners=winners or (winner(),),
    )
    return replace(first, **changes)


def proposed(seen: Scene, strategy: Winners = STRATEGY) -> list[Proposal]:
    return list(strategy(seen, ()))


def test_the_winner_is_proposed_with_what_the_experiment_measured() -> None:
    (found,) = proposed(scene())

    assert (found.candidate, found.strategy, found.exploratory) == ("small", "ab_test", False)
    assert found.expected.quality_delta == 0.15
    assert found.expected.cost_reduction_pct == pytest.approx(0, abs=3)
    measured = {each.metric: each for each in found.estimates}
    assert measured["quality"].lower == 0.1
    assert measured["cost_usd"].canary == pytest.approx(0.002, rel=0.1)
    assert "x-1" in found.rationale


def test_a_strategy_speaks_for_experiments_of_its_own_rule() -> None:
    bandit = Winners(name="bandit", rule="top_two")

    assert proposed(scene(), bandit) == []
    assert [each.strategy for each in proposed(scene(winner(rule="top_two")), bandit)] == ["bandit"]


@pytest.mark.parametrize(
    "busy",
    [
        {"in_flight": {TARGET: DecisionId("d-1")}},
        {"experiments": {TARGET: "x-2"}},
        {"paused": frozenset({TARGET})},
        {"targets": {}},
        {"baselines": {TARGET: "mini"}},
        {"targets": {TARGET: Target(name=TARGET, baseline="large", arms=(ARM[0], ARM[2]))}},
    ],
)
def test_nothing_is_proposed_for_a_busy_target_or_against_another_baseline(
    busy: dict[str, Any],
) -> None:
    assert proposed(scene(**busy)) == []


@pytest.mark.parametrize(("hours", "count"), [(3, 1), (4.5, 0)])
def test_a_winner_that_was_tried_since_is_not_tried_again(hours: float, count: int) -> None:
    past = Past(
        target=TARGET,
        arm="small",
        state="rolled_back",
        ended_at=START + hours * HOUR,
        reason="harm",
    )

    assert len(proposed(scene(past=(past,)))) == count


def test_a_newer_experiments_winner_takes_the_place_of_an_older_one() -> None:
    newer = winner(arm="mini", ended_at=START + 4.5 * HOUR)

    assert [each.candidate for each in proposed(scene(winner(), newer))] == ["mini"]


def test_why_a_winner_is_left_is_told() -> None:
    (considered,) = STRATEGY.consider(scene(baselines={TARGET: "mini"}), ())

    assert "mini is in force now" in considered.rejected[0].detail


@pytest.mark.parametrize(
    ("lower", "upper", "proposed_at_all"), [(0.03, 0.05, False), (0.01, 0.05, True)]
)
def test_what_the_experiment_proved_to_break_a_guardrail_is_not_proposed(
    *, lower: float, upper: float, proposed_at_all: bool
) -> None:
    failing = Estimate(
        metric="failure_rate", unit="share", effect=0.04, lower=lower, upper=upper, control=0.01
    )
    found = winner(estimates=(*winner().estimates, failing))

    (considered,) = STRATEGY.consider(scene(found), ())

    assert (considered.proposal is not None) is proposed_at_all
    if not proposed_at_all:
        assert "failure_rate is beyond its margin 0.02" in considered.rejected[0].detail
