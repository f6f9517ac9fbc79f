"""Tuning on a real ledger and gateway: the study is the ledger's rows, and nothing else."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from experiment_scene import served, shares, store
from optimizer.aggregates import empty
from optimizer.evidence import Scene
from optimizer.experiment.grid import Axis
from optimizer.experiment.life import Experiment, ExperimentState
from optimizer.integrations.optuna_study import suggest
from optimizer.loop.decide import gather, settle_proposals
from optimizer.loop.equipment import Equipment
from optimizer.loop.experiments import run_all, with_experiments
from optimizer.loop.keep import broken_experiments
from optimizer.loop.reconcile import reconcile
from optimizer.loop.tuning import ask, tuned
from optimizer.policy import Goal
from optimizer.strategies.pareto import Pareto
from optimizer.strategies.threshold import Threshold
from optimizer.strategies.winners import Winners
from optimizer.targets import Price, Target
from rollout_scene import HOUR, POLICY, START, TARGET, acting, equipment
from tuning_scene import BASE, TEMPERATURE, tuning

LASTS = 4
ASKED = tuning(share=0.3, min_duration=HOUR, max_duration=LASTS * HOUR)


def installation(directory: Path, **changes: Any) -> Equipment:  # noqa: ANN401 - its fields
    """One target with one arm, whose temperature is searched; nothing has run."""
    given = replace(
        equipment(directory),
        targets={TARGET: Target(name=TARGET, baseline="large", arms=(BASE,))},
        policies={TARGET: replace(POLICY, goal=Goal(metric="quality"))},
        tunings=(ASKED,),
        suggest=suggest,
    )
    return replace(given, **changes)


def hour(given: Equipment, moment: datetime) -> Equipment:
    """What an hourly run does about trials; the equipment as that run saw it."""
    who, seen = acting(moment, f"run-{moment:%d%H%M}"), tuned(given)
    reconcile(seen, acting=who)
    run_all(seen, acting=who, as_of=moment)
    ask(seen, who)
    return seen


def trials(given: Equipment) -> list[Experiment]:
    return list(given.ledger.experiments.find(target=TARGET))


def tried(given: Equipment) -> list[str]:
    return [row.design.arms[-1] for row in trials(given)]


def lived(
    given: Equipment,
    first: datetime,
    hours: int,
    quality: Mapping[str, float] | None = None,
    failures: Mapping[str, float] | None = None,
) -> datetime:
    """So many hours in which whatever trial runs is served; the moment of the last run."""
    for number in range(hours):
        moment = first + number * HOUR
        hour(given, moment)
        running = [row for row in trials(given) if row.state is ExperimentState.RUNNING]
        for row in running:
            level = {arm: (quality or {}).get(arm, 0.8) for arm in row.design.arms}
            store(given, served(1, level, failures=failures, rows=20, start=moment))
    return first + (hours - 1) * HOUR


def test_a_point_is_asked_for_then_an_arm_and_then_beside_the_arm_in_force(tmp_path: Path) -> None:
    given = installation(tmp_path)

    hour(given, START)
    (drafted,) = trials(given)
    assert drafted.state is ExperimentState.DRAFT
    assert drafted.design.arms[0] == "large"
    assert shares(given) == {"large": 1.0}
    seen = hour(given, START + HOUR)

    (arm,) = tried(given)
    assert [each.name for each in seen.targets[TARGET].arms] == ["large", arm]
    assert shares(given) == pytest.approx({"large": 1 - ASKED.share, arm: ASKED.share}, abs=1e-5)
    assert broken_experiments(given) == []


def test_a_repeated_run_asks_for_nothing_more(tmp_path: Path) -> None:
    given = installation(tmp_path)

    for _ in range(2):
        hour(given, START)
    assert len(trials(given)) == 1
    for _ in range(2):
        hour(given, START + HOUR)

    assert len(trials(given)) == 1


def test_another_process_with_the_same_ledger_asks_for_the_same(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("one", "other")]
    for place in places:
        place.mkdir()
    kept = installation(places[0])
    lived(kept, START, 12)

    for number in range(12):
        lived(installation(places[1]), START + number * HOUR, 1)

    assert len(tried(kept)) > 2
    assert tried(installation(places[1])) == tried(kept)


def test_no_trial_is_longer_than_it_may_be_nor_more_of_them_than_may_be(tmp_path: Path) -> None:
    given = installation(tmp_path, tunings=(replace(ASKED, max_trials=2),))

    lived(given, START, 2 * (LASTS + 2) + 3)

    assert len(set(tried(given))) == len(trials(given)) == 2
    for row in trials(given):
        assert row.started_at is not None
        assert row.ended_at is not None
        assert row.ended_at - row.started_at <= LASTS * HOUR
    assert shares(given) == {"large": 1.0}


def test_every_trial_ends_with_what_it_knows_of_its_point(tmp_path: Path) -> None:
    given = installation(tmp_path)

    lived(given, START, LASTS + 2)

    first = trials(given)[0]
    assert first.winner is None
    quality, failures = first.estimates
    assert (quality.metric, failures.metric) == ("quality", "failure_rate")
    for each in (quality, failures):
        assert each.effect is not None
        assert each.effect == pytest.approx(0, abs=0.05)
        assert each.lower is not None
        assert each.upper is not None
        assert each.lower < each.effect < each.upper


def test_a_drift_that_both_arms_share_is_no_effect(tmp_path: Path) -> None:
    given = installation(tmp_path)
    hour(given, START)
    hour(given, START + HOUR)
    (arm,) = tried(given)

    for number, level in enumerate((0.9, 0.6, 0.3, 0.3), start=1):
        moment = START + number * HOUR
        store(given, served(1, {"large": level, arm: level}, rows=40, start=moment))
    hour(given, START + (LASTS + 1) * HOUR)

    assert trials(given)[0].estimates[0].effect == pytest.approx(0, abs=0.04)


def test_a_trial_nobody_scored_ends_as_unknown_and_is_not_repeated(tmp_path: Path) -> None:
    given = installation(tmp_path)

    for number in range(LASTS + 2):
        hour(given, START + number * HOUR)

    assert trials(given)[0].state is ExperimentState.COMPLETED
    assert trials(given)[0].estimates == ()
    assert len(set(tried(given))) == len(trials(given)) == 2


def test_a_point_that_does_harm_gives_its_share_back_and_is_never_asked_for_again(
    tmp_path: Path,
) -> None:
    given = installation(tmp_path)
    hour(given, START)
    hour(given, START + HOUR)
    (arm,) = tried(given)
    better = {arm: 1.0}
    store(given, served(1, {"large": 0.7, arm: 1.0}, failures={arm: 0.4}, start=START + HOUR))

    last = lived(given, START + 2 * HOUR, 4 * (LASTS + 2), better, {arm: 0.4})

    assert trials(given)[0].dropped == (arm,)
    assert tried(given).count(arm) == 1
    scene = with_experiments(tuned(given), gather(tuned(given), as_of=last))
    assert arm not in {winner.arm for winner in scene.winners}


def won(tmp_path: Path) -> tuple[Equipment, str, datetime]:
    """The first point is far better; it has just been declared."""
    given = installation(tmp_path, strategies={"tuning": Winners(name="tuning", rule="tuning")})
    lived(given, START, 2)
    (arm,) = tried(given)
    last = lived(given, START + 2 * HOUR, 3, {"large": 0.5, arm: 0.95})
    assert trials(given)[0].winner == arm
    return given, arm, last


def test_a_winner_is_proposed_by_tuning_and_no_trial_follows_while_it_waits(tmp_path: Path) -> None:
    given, arm, last = won(tmp_path)
    seen = tuned(given)
    scene = with_experiments(seen, gather(seen, as_of=last + HOUR))

    (proposal,) = seen.strategies["tuning"](scene, ())[:1]

    assert (proposal.strategy, proposal.candidate) == ("tuning", arm)
    assert Winners(name="ab_test", rule="uniform")(scene, ()) == ()
    hour(given, last + HOUR)
    assert tried(given) == [arm]
    week = timedelta(days=7, hours=1)
    hour(given, last + week)
    assert len(tried(given)) == 2


def test_after_its_rollout_the_search_goes_on_from_the_arm_in_force(tmp_path: Path) -> None:
    given, arm, last = won(tmp_path)
    seen = tuned(given)
    promoted = replace(given, targets={TARGET: replace(seen.targets[TARGET], baseline=arm)})

    hour(promoted, last + HOUR)

    *_, newest = trials(given)
    assert newest.design.arms[0] == arm
    assert newest.design.arms[1] not in {arm, "large"}


def test_while_another_arm_is_in_force_nothing_is_asked(tmp_path: Path) -> None:
    other = replace(BASE, name="small")
    target = Target(name=TARGET, baseline="small", arms=(BASE, other))
    given = installation(tmp_path, targets={TARGET: target})

    hour(given, START)

    assert trials(given) == []


def test_a_draft_that_would_be_asked_in_other_words_is_forgotten_and_asked_anew(
    tmp_path: Path,
) -> None:
    given = installation(tmp_path)
    hour(given, START)
    changed = replace(given, tunings=(replace(ASKED, share=0.1),))

    hour(changed, START + HOUR)

    first, second = trials(given)
    assert (first.state, first.started_at) == (ExperimentState.CANCELLED, None)
    assert second.design.arms == first.design.arms
    assert second.design.share == 0.2


def test_a_base_that_changed_begins_the_search_anew(tmp_path: Path) -> None:
    given = installation(tmp_path)
    lived(given, START, LASTS + 2)
    before = tried(given)
    newer = replace(BASE, config=replace(BASE.config, model="large-2"))
    changed = replace(
        given,
        targets={TARGET: Target(name=TARGET, baseline="large", arms=(newer,))},
        tunings=(replace(ASKED, max_trials=1),),
    )

    hour(changed, START + 10 * HOUR)
    hour(changed, START + 11 * HOUR)

    assert trials(given)[-1].state is ExperimentState.RUNNING
    assert trials(given)[-1].configs["large"]["model"] == "large-2"
    assert before == tried(given)[: len(before)]


def test_bounds_that_exclude_a_running_point_end_its_trial(tmp_path: Path) -> None:
    given = installation(tmp_path)
    hour(given, START)
    hour(given, START + HOUR)
    (arm,) = tried(given)
    point = ASKED.spelt(arm)
    assert point is not None
    low = point["temperature"] + 0.05
    narrow = replace(ASKED, axes=(Axis(name="temperature", low=low, high=low + 0.5, step=0.1),))

    seen = hour(replace(given, tunings=(narrow,)), START + 2 * HOUR)

    assert arm not in {each.name for each in seen.targets[TARGET].arms}
    assert trials(given)[0].state is ExperimentState.CANCELLED
    assert shares(given) == {"large": 1.0}


def test_other_steps_keep_a_promoted_point(tmp_path: Path) -> None:
    given, arm, _ = won(tmp_path)
    coarse = replace(ASKED, axes=(replace(TEMPERATURE, step=0.75),))

    seen = tuned(replace(given, tunings=(coarse,)))

    assert arm in {each.name for each in seen.targets[TARGET].arms}


def test_a_strategy_that_is_switched_off_ends_its_trial_and_keeps_its_arms(tmp_path: Path) -> None:
    given = installation(tmp_path)
    hour(given, START)
    hour(given, START + HOUR)
    (arm,) = tried(given)
    off = replace(given, suggest=None)

    seen = hour(off, START + 2 * HOUR)
    hour(off, START + 3 * HOUR)

    assert arm in {each.name for each in seen.targets[TARGET].arms}
    assert trials(given)[0].state is ExperimentState.CANCELLED
    assert len(trials(given)) == 1
    assert shares(given) == {"large": 1.0}


def test_no_other_strategy_proposes_a_point_without_traffic_of_its_own(tmp_path: Path) -> None:
    given = installation(tmp_path, suggest=suggest)
    priced = replace(BASE, price=Price(input_usd_per_mtok=1, output_usd_per_mtok=2))
    target = Target(name=TARGET, baseline="large", arms=(priced,))
    given = replace(given, targets={TARGET: target})
    hour(given, START)
    seen = tuned(given)
    (arm,) = tried(given)
    store(given, served(3, {"large": 0.1}, failures={"large": 0.5}))
    policy = replace(POLICY, exploration_share=0.2)
    scene: Scene = replace(gather(seen, as_of=START + 3 * HOUR), policies={TARGET: policy})

    considered = [
        *Pareto().consider(scene, ()),
        *Threshold().consider(scene, ()),
    ]

    assert arm in {each.name for each in scene.targets[TARGET].arms}
    assert len(scene.hours) > len(empty())
    assert {each.strategy for each in considered} == {"cost_performance", "threshold"}
    assert all(each.proposal is None for each in considered)


def test_a_proposal_of_tuning_is_a_decision_like_any_other(tmp_path: Path) -> None:
    given, arm, last = won(tmp_path)
    seen = tuned(given)
    scene = with_experiments(seen, gather(seen, as_of=last))
    proposals = seen.strategies["tuning"](scene, ())

    settle_proposals(seen, scene, list(proposals)[:1], acting=acting(last))

    (decision,) = given.ledger.decisions.find()
    assert (decision.strategy, decision.candidate) == ("tuning", arm)
