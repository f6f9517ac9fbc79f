"""Experiments on a real ledger and gateway: starts, drift, pauses, ends and their evidence."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from experiment_scene import ARMS, design, hour, served, shares, store, trial, wanted
from optimizer.allocation import SliceName, whole
from optimizer.decision import State
from optimizer.errors import ConflictError, UnavailableError
from optimizer.experiment.life import Experiment, ExperimentState
from optimizer.loop import trying
from optimizer.loop.decide import gather, settle_proposals
from optimizer.loop.equipment import Equipment
from optimizer.loop.experiments import run_all, with_experiments
from optimizer.loop.keep import broken_experiments, prune
from optimizer.loop.reconcile import reconcile
from optimizer.loop.steps import tick
from optimizer.metrics import GRAIN_S, HOUR_S
from optimizer.targets import Arm, ModelConfig
from rollout_scene import HOUR, POLICY, START, TARGET, acting, propose

EVEN = {"large": 0.6, "small": 0.2, "mini": 0.2}
ALIKE = dict.fromkeys(ARMS, 0.8)
BETTER = {"large": 0.7, "small": 0.9, "mini": 0.7}


def the_one(given: Equipment) -> Experiment:
    return given.ledger.experiments.find(target=TARGET)[-1]


def begun(tmp_path: Path, **changes: object) -> Equipment:
    given = trial(tmp_path, design(**changes))
    assert hour(given, START).what == "transition"
    assert shares(given) == pytest.approx(EVEN, abs=1e-5)
    return given


def test_it_starts_with_a_slice_an_arm_and_its_evidence_begins_with_the_next_whole_hour(
    tmp_path: Path,
) -> None:
    given = trial(tmp_path)
    hour(given, START + timedelta(minutes=6))

    held = given.gateway(TARGET).read(TARGET)
    assert held is not None
    assert held.share(SliceName.EXPERIMENT) == pytest.approx(0.6, abs=1e-5)
    assert {p.arm for p in held.slices if p.name is SliceName.EXPERIMENT} == set(ARMS)
    found = the_one(given)
    assert found.evidence_from == START + HOUR
    assert found.generation == held.generation
    assert broken_experiments(given) == []


def test_a_repeated_run_changes_nothing(tmp_path: Path) -> None:
    given = begun(tmp_path)
    before, log = the_one(given), given.ledger.experiments.entries(the_one(given).id)

    assert hour(given, START).what == "hold"

    assert the_one(given) == before
    assert given.ledger.experiments.entries(before.id) == log


def test_a_manual_one_waits_until_it_is_asked_for(tmp_path: Path) -> None:
    given = trial(tmp_path, design(auto=False))
    assert hour(given, START).what == "hold"
    assert the_one(given).state is ExperimentState.DRAFT

    trying.start(given, given.experiments[0], acting=acting(START))

    assert the_one(given).state is ExperimentState.RUNNING


def test_one_that_left_the_configuration_before_it_began_may_come_back(tmp_path: Path) -> None:
    given = trial(tmp_path, design(auto=False))
    hour(given, START)
    hour(replace(given, experiments=()), START + HOUR)
    assert the_one(given).state is ExperimentState.CANCELLED

    run_all(given, acting=acting(START + 2 * HOUR), as_of=START + 2 * HOUR)

    assert (the_one(given).state, the_one(given).turn) == (ExperimentState.DRAFT, 2)


def test_nothing_starts_while_a_decision_is_in_flight(tmp_path: Path) -> None:
    given = trial(tmp_path)
    reconcile(given, acting=acting(START))
    propose(given, START)

    assert "is in flight" in hour(given, START).reason

    assert the_one(given).state is ExperimentState.DRAFT


def test_no_rollout_starts_while_an_experiment_holds_the_target(tmp_path: Path) -> None:
    given = begun(tmp_path)
    decision = propose(given, START)

    with pytest.raises(ConflictError, match="experiment"):
        tick(given, decision.id, acting=acting(START), as_of=START)

    assert given.ledger.decisions.get(decision.id).state is State.VALIDATING


def test_a_proposal_waits_and_is_told_for_which_experiment(tmp_path: Path) -> None:
    given = begun(tmp_path)
    scene = with_experiments(given, gather(given, as_of=START))

    decided = settle_proposals(given, scene, [wanted()], acting=acting(START))

    ((_, fate, reason),) = decided.plan.outcomes
    assert fate == "target_in_flight"
    assert the_one(given).id in reason


def test_an_urgent_proposal_ends_it(tmp_path: Path) -> None:
    given = begun(tmp_path)
    scene = with_experiments(given, gather(given, as_of=START))
    settle_proposals(given, scene, [wanted(urgent=True)], acting=acting(START))

    hour(given, START + HOUR)

    assert the_one(given).state is ExperimentState.CANCELLED
    assert "gives way" in the_one(given).reason
    assert shares(given) == {"large": 1.0}


def test_a_split_changed_by_hand_is_repaired_and_never_adopted(tmp_path: Path) -> None:
    given = begun(tmp_path)
    given = replace(given, policies={TARGET: replace(POLICY, adopt_drift=True)})
    held = given.gateway(TARGET).read(TARGET)
    assert held is not None
    by_hand = whole(TARGET, "mini", generation=held.generation + 5)
    given.gateway(TARGET).apply(by_hand, arms=given.arms_of(TARGET))

    (finding,) = reconcile(given, acting=acting(START + HOUR))

    assert finding.kind == "repaired"
    assert shares(given) == pytest.approx(EVEN, abs=1e-5)
    hour(given, START + HOUR)
    assert the_one(given).generation == held.generation + 6


def test_a_paused_one_holds_no_traffic_and_keeps_its_evidence(tmp_path: Path) -> None:
    given = begun(tmp_path)
    found = the_one(given)

    trying.pause(given, found.id, "a demonstration", acting=acting(START + HOUR))
    assert shares(given) == {"large": 1.0}
    assert the_one(given).state is ExperimentState.PAUSED
    trying.resume(given, found.id, "it is over", acting=acting(START + 2 * HOUR))

    assert shares(given) == pytest.approx(EVEN, abs=1e-5)
    assert the_one(given).evidence_from == found.evidence_from


def test_a_pause_of_the_target_stops_the_start_and_never_the_way_back(tmp_path: Path) -> None:
    given = trial(tmp_path)
    given.ledger.effects.pause(TARGET, at=START, actor="ada", reason="audit")
    assert hour(given, START).reason == "paused: audit"
    given.ledger.effects.resume(TARGET, at=START, actor="ada", reason="")
    hour(given, START + HOUR)
    given.ledger.effects.pause(None, at=START + HOUR, actor="ada", reason="audit")

    trying.stop(given, the_one(given).id, "not worth it", acting=acting(START + HOUR))

    assert the_one(given).state is ExperimentState.CANCELLED
    assert shares(given) == {"large": 1.0}


def test_a_stopped_one_is_begun_anew_with_other_units_first(tmp_path: Path) -> None:
    given = begun(tmp_path)
    first = the_one(given)
    trying.stop(given, first.id, "a mistake", acting=acting(START + HOUR))

    trying.start(given, given.experiments[0], acting=acting(START + 2 * HOUR))

    again = the_one(given)
    assert (again.state, again.turn) == (ExperimentState.RUNNING, 2)
    assert again.salt != first.salt


@pytest.mark.parametrize("change", ["design", "arm", "config", "baseline", "target"])
def test_what_is_no_longer_as_configured_ends_it(tmp_path: Path, change: str) -> None:
    given = begun(tmp_path)
    target = given.targets[TARGET]
    other = Arm(name="mini", config=ModelConfig(model="mini-2"))
    changed = {
        "design": replace(given, experiments=()),
        "arm": replace(given, targets={TARGET: replace(target, arms=target.arms[:2])}),
        "config": replace(given, targets={TARGET: replace(target, arms=(*target.arms[:2], other))}),
        "baseline": replace(given, targets={TARGET: replace(target, baseline="small")}),
        "target": replace(given, targets={}, policies={}, gateway_of={}, experiments=()),
    }[change]

    hour(changed, START + HOUR, guard_only=True)

    assert the_one(given).state is ExperimentState.CANCELLED
    hour_after = acting(START + 2 * HOUR)
    reconcile(changed, acting=hour_after)
    assert shares(given) == {"small" if change == "baseline" else "large": 1.0}


def test_a_gateway_that_stays_away_is_tried_again_until_the_end_is_proven(tmp_path: Path) -> None:
    given = begun(tmp_path)
    gateway = given.gateway(TARGET)

    class Away:
        name = gateway.name

        def apply(self, *_: object, **__: object) -> None:
            raise UnavailableError("no answer")

        def read(self, target: str) -> object:
            return gateway.read(target)

    away = replace(given, gateways={gateway.name: Away()})  # type: ignore[dict-item]
    with pytest.raises(UnavailableError):
        trying.stop(away, the_one(given).id, "enough", acting=acting(START + HOUR))
    assert the_one(given).state is ExperimentState.RUNNING
    assert the_one(given).ends_as is ExperimentState.CANCELLED

    hour(given, START + 2 * HOUR, guard_only=True)

    assert the_one(given).state is ExperimentState.CANCELLED
    assert shares(given) == {"large": 1.0}


def test_a_proven_best_arm_ends_it_and_becomes_a_winner_for_the_strategies(tmp_path: Path) -> None:
    given = begun(tmp_path)
    store(given, served(4, BETTER))

    hour(given, START + 4 * HOUR)

    found = the_one(given)
    assert (found.state, found.winner) == (ExperimentState.COMPLETED, "small")
    assert shares(given) == {"large": 1.0}
    (estimate,) = found.estimates
    assert estimate.lower is not None
    assert estimate.lower > 0
    scene = with_experiments(given, gather(given, as_of=START + 5 * HOUR))
    (winner,) = scene.winners
    assert (winner.arm, winner.baseline, winner.rule) == ("small", "large", "uniform")
    assert scene.experiments == {}


@pytest.mark.slow
def test_a_late_run_declares_what_the_runs_in_time_would_have(tmp_path: Path) -> None:
    (tmp_path / "late").mkdir()
    given, late = begun(tmp_path), begun(tmp_path / "late")
    for each in (given, late):
        store(each, served(6, BETTER, rows=12))

    for hours in range(1, 7):
        hour(given, START + hours * HOUR)
        if the_one(given).state.is_final:
            break
    hour(late, START + 6 * HOUR)

    assert the_one(late).winner == the_one(given).winner == "small"


def test_nothing_is_declared_before_the_shortest_duration(tmp_path: Path) -> None:
    given = begun(tmp_path, min_duration=timedelta(hours=5))
    store(given, served(4, BETTER))

    assert hour(given, START + 4 * HOUR).what == "hold"


def test_without_a_winner_in_time_the_baseline_is_restored(tmp_path: Path) -> None:
    given = begun(tmp_path, max_duration=timedelta(hours=3))
    store(given, served(3, ALIKE))

    hour(given, START + 3 * HOUR)

    assert the_one(given).winner is None
    assert "no winner" in the_one(given).reason
    assert with_experiments(given, gather(given, as_of=START + 4 * HOUR)).winners == ()


def test_proven_harm_takes_the_arm_out_also_while_paused(tmp_path: Path) -> None:
    given = begun(tmp_path)
    store(given, served(1, ALIKE, failures={"mini": 0.3}))
    given.ledger.effects.pause(None, at=START, actor="ada", reason="audit")

    found = hour(given, START + HOUR, guard_only=True)

    assert "mini fails" in found.reason
    assert shares(given) == pytest.approx({"large": 0.8, "small": 0.2}, abs=1e-5)


def test_when_every_other_arm_does_harm_the_baseline_wins(tmp_path: Path) -> None:
    given = begun(tmp_path)
    store(given, served(1, ALIKE, failures={"mini": 0.3, "small": 0.4}))

    hour(given, START + HOUR, guard_only=True)

    assert (the_one(given).state, the_one(given).winner) == (ExperimentState.COMPLETED, "large")
    assert shares(given) == {"large": 1.0}


def test_a_spent_budget_rests_it_until_the_next_day(tmp_path: Path) -> None:
    given = begun(tmp_path, daily_budget_usd=0.5)
    store(given, served(1, ALIKE))

    assert "the budget is 0.5 USD" in hour(given, START + HOUR, guard_only=True).reason
    assert shares(given) == {"large": 1.0}
    assert hour(given, START + 2 * HOUR).what == "hold"
    hour(given, START + timedelta(days=1))

    assert shares(given) == pytest.approx(EVEN, abs=1e-5)


def test_a_changed_model_begins_the_evidence_anew(tmp_path: Path) -> None:
    given = begun(tmp_path)

    run_all(
        given,
        acting=acting(START + 2 * HOUR),
        as_of=START + 2 * HOUR,
        changed={(TARGET, "mini"): START + HOUR},
    )

    assert the_one(given).evidence_from == START + 2 * HOUR
    assert hour(given, START + 2 * HOUR).what == "hold"


@pytest.mark.slow
def test_its_grains_and_hours_are_kept_while_it_runs(tmp_path: Path) -> None:
    given = begun(tmp_path, max_duration=timedelta(days=20))
    store(given, served(1, ALIKE))
    short = timedelta(days=1)

    prune(given, START + timedelta(days=9), grains=short, hours=short, days=short)

    for width_s in (GRAIN_S, HOUR_S):
        start_s = int(START.timestamp())
        kept = given.ledger.aggregates.load(width_s, start_s=start_s, end_s=start_s + HOUR_S)
        assert len(kept) > 0


def test_one_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    given = begun(tmp_path)
    name = "z"
    given = replace(
        given,
        targets={**given.targets, name: replace(given.targets[TARGET], name=name)},
        policies={**given.policies, name: POLICY},
        gateway_of={**given.gateway_of, name: given.gateway_of[TARGET]},
        experiments=(*given.experiments, design(target=name)),
    )
    reconcile(given, acting=acting(START + HOUR))
    assert given.ledger.effects.acquire(TARGET, "another", now=START, ttl_s=7200)

    found = run_all(given, acting=acting(START + HOUR, "x"), as_of=START + HOUR)

    assert [(each.experiment.target, each.what) for each in found] == [
        (TARGET, "skipped"),
        (name, "transition"),
    ]
