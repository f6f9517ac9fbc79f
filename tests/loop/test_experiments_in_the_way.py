"""What an experiment meets that is not its own: waiting decisions, urgent changes, odd hours."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from experiment_scene import ARMS, design, hour, served, shares, store, trial, wanted
from optimizer.allocation import SliceName, whole
from optimizer.decision import State, move
from optimizer.errors import ConflictError
from optimizer.experiment.life import Experiment, ExperimentState
from optimizer.loop import trying
from optimizer.loop.decide import gather, settle_proposals
from optimizer.loop.equipment import Equipment
from optimizer.loop.experiments import are_any, run_all, with_experiments
from optimizer.loop.reconcile import reconcile
from optimizer.loop.steps import tick
from optimizer.targets import Arm, ModelConfig
from rollout_scene import HOUR, START, TARGET, acting, propose

ALIKE = dict.fromkeys(ARMS, 0.8)
BETTER = {"large": 0.7, "small": 0.9, "mini": 0.7}


def the_one(given: Equipment) -> Experiment:
    return given.ledger.experiments.find(target=TARGET)[-1]


def begun(tmp_path: Path, **changes: object) -> Equipment:
    given = trial(tmp_path, design(**changes))
    assert hour(given, START).what == "transition"
    return given


def test_its_end_gives_the_traffic_back_though_a_decision_waits_for_the_target(
    tmp_path: Path,
) -> None:
    given = begun(tmp_path)
    waiting = propose(given, START)

    trying.stop(given, the_one(given).id, "enough", acting=acting(START + HOUR))

    assert the_one(given).state is ExperimentState.CANCELLED
    assert shares(given) == {"large": 1.0}
    tick(given, waiting.id, acting=acting(START + HOUR), as_of=START + HOUR)
    snapshot = given.ledger.effects.snapshot(waiting.id)
    assert snapshot is not None
    assert snapshot.allocation.share(SliceName.EXPERIMENT) == 0


def test_a_split_repaired_while_a_decision_waits_belongs_to_no_decision(tmp_path: Path) -> None:
    given = begun(tmp_path)
    waiting = propose(given, START)
    by_hand = whole(TARGET, "mini", generation=9)
    given.gateway(TARGET).apply(by_hand, arms=given.arms_of(TARGET))
    hour(given, START + HOUR)
    ended = move(waiting, State.CANCELLED, START + HOUR)
    given.ledger.decisions.update(ended, [], lease=None)

    trying.stop(given, the_one(given).id, "enough", acting=acting(START + 2 * HOUR))

    assert reconcile(given, acting=acting(START + 3 * HOUR)) == ()
    assert shares(given) == {"large": 1.0}


def test_one_whose_target_is_gone_ends_though_its_split_was_changed_by_hand(
    tmp_path: Path,
) -> None:
    given = begun(tmp_path)
    trying.pause(given, the_one(given).id, "a demonstration", acting=acting(START))
    by_hand = whole(TARGET, "mini", generation=9)
    given.gateway(TARGET).apply(by_hand, arms=given.arms_of(TARGET))
    gone = replace(given, targets={}, policies={}, gateway_of={}, experiments=())

    hour(gone, START + HOUR, guard_only=True)

    assert the_one(given).state is ExperimentState.CANCELLED
    assert shares(given) == {"large": 1.0}


def test_it_does_not_start_while_an_urgent_change_is_wanted(tmp_path: Path) -> None:
    given = trial(tmp_path)
    reconcile(given, acting=acting(START))
    waiting = propose(given, START)
    scene = gather(given, as_of=START + HOUR)
    settle_proposals(given, scene, [wanted(urgent=True)], acting=acting(START))
    given.ledger.decisions.update(move(waiting, State.CANCELLED, START + HOUR), [], lease=None)

    held = hour(given, START + HOUR)
    later = hour(given, START + 4 * HOUR)

    assert "the urgent change to mini" in held.reason
    assert later.what == "transition"
    assert hour(given, START + 4 * HOUR).what == "hold"


def test_a_change_that_a_person_must_agree_to_keeps_nothing_from_starting(tmp_path: Path) -> None:
    given = trial(tmp_path)
    reconcile(given, acting=acting(START))
    waiting = propose(given, START)
    asking = replace(wanted(urgent=True), asks="a person must agree")
    settle_proposals(given, gather(given, as_of=START + HOUR), [asking], acting=acting(START))
    given.ledger.decisions.update(move(waiting, State.CANCELLED, START + HOUR), [], lease=None)

    assert hour(given, START + HOUR).what == "transition"


def test_a_run_that_is_late_after_midnight_spends_none_of_the_new_days_budget(
    tmp_path: Path,
) -> None:
    given = begun(tmp_path, daily_budget_usd=0.5)
    store(given, served(1, ALIKE))
    midnight = START.replace(hour=0) + timedelta(days=1)

    hour(given, midnight + timedelta(minutes=5), as_of=midnight - timedelta(minutes=5))

    assert the_one(given).resting_since is None


def found(given: Equipment) -> list[str]:
    scene = with_experiments(given, gather(given, as_of=START + 5 * HOUR))
    return [winner.arm for winner in scene.winners]


def test_a_winner_counts_while_its_question_and_its_arms_are_what_they_were(
    tmp_path: Path,
) -> None:
    given = begun(tmp_path)
    store(given, served(4, BETTER))
    hour(given, START + 4 * HOUR)
    target = given.targets[TARGET]
    other = [
        Arm(name="small", config=ModelConfig(model="small-2")) if arm.name == "small" else arm
        for arm in target.arms
    ]

    assert found(given) == ["small"]
    loser = [replace(arm, enabled=arm.name != "mini") for arm in target.arms]
    assert found(replace(given, targets={TARGET: replace(target, arms=tuple(loser))})) == ["small"]
    assert found(replace(given, experiments=())) == []
    assert found(replace(given, targets={TARGET: replace(target, arms=tuple(other))})) == []


class Raced:
    """A store whose rows another run has just moved on."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def update(self, *_: object, **__: object) -> None:
        raise ConflictError("version 0 is gone")


class RacedLedger(Raced):
    """A ledger with such a store."""

    @property
    def experiments(self) -> Raced:
        return Raced(self._inner.experiments)  # type: ignore[attr-defined]


def test_a_draft_that_another_run_has_just_moved_on_stops_nobody(tmp_path: Path) -> None:
    given = trial(tmp_path, design(auto=False))
    hour(given, START)
    raced = replace(given, experiments=(design(),), ledger=RacedLedger(given.ledger))  # type: ignore[arg-type]

    (progress,) = run_all(raced, acting=acting(START + HOUR), as_of=START + HOUR)

    assert progress.what == "hold"


def test_the_guard_has_nothing_to_do_for_a_draft(tmp_path: Path) -> None:
    given = trial(tmp_path, design(auto=False))
    hour(given, START)

    assert are_any(given)
    assert not are_any(given, guard_only=True)
    assert run_all(given, acting=acting(START), as_of=START, guard_only=True) == ()
