"""When a declared leader's detectors alarm; how they grow is told beside the race."""

import numpy as np
import pytest

from optimizer.statistics.declaring import new_race, observe
from optimizer.statistics.evalues import GRID_SIZE
from optimizer.statistics.watching import LeaderWatch, changed, observe_watch, watch_leader

NEARLY = 1e-6
ARMS = pytest.mark.parametrize("arms", [2, 3, 8])
BETWEEN = pytest.mark.parametrize("between", [1.0, 100.0, 2_000.0])


def held(
    arms: int, *, overtaken: float = 0.0, risen: float = 0.0, itself: float = 0.0
) -> LeaderWatch:
    """Detectors of a first arm that leads; those of the last arm and its own are as told."""
    others, rises = np.zeros((arms, GRID_SIZE)), np.zeros((arms, GRID_SIZE))
    others[-1], rises[-1] = overtaken, risen
    return LeaderWatch(
        leader=np.asarray(0),
        reference=np.asarray(0.1),
        references=np.full(arms, 0.9),
        others=others,
        itself=np.full(GRID_SIZE, itself),
        risen=rises,
    )


@ARMS
@BETWEEN
def test_a_third_of_the_false_alarms_is_shared_among_the_other_arms(
    arms: int, between: float
) -> None:
    limit = np.log(3.0 * between * (arms - 1))

    assert changed(held(arms, overtaken=limit + NEARLY), between_alarms=between)
    assert not changed(held(arms, overtaken=limit - NEARLY), between_alarms=between)


@ARMS
@BETWEEN
def test_a_third_is_shared_among_their_bets_against_themselves(arms: int, between: float) -> None:
    limit = np.log(3.0 * between * (arms - 1))

    assert changed(held(arms, risen=limit + NEARLY), between_alarms=between)
    assert not changed(held(arms, risen=limit - NEARLY), between_alarms=between)


@ARMS
@BETWEEN
def test_a_third_is_the_leaders_own_however_many_arms_there_are(arms: int, between: float) -> None:
    limit = np.log(3.0 * between)

    assert changed(held(arms, itself=limit + NEARLY), between_alarms=between)
    assert not changed(held(arms, itself=limit - NEARLY), between_alarms=between)


def test_an_arm_that_rose_is_noticed_by_its_own_few_units() -> None:
    race = observe(new_race(2), [1_000, 1_000], [800, 700])
    watch = watch_leader(race, 0)
    for _ in range(12):
        # The comparison with the leader alone says nothing yet.
        watch = observe_watch(watch, [60, 4], [48, 4])

    assert changed(watch)
    assert not changed(
        LeaderWatch(
            leader=watch.leader,
            reference=watch.reference,
            references=watch.references,
            others=watch.others,
            itself=watch.itself,
            risen=np.zeros_like(watch.risen),
        )
    )


def test_a_leader_that_rises_is_no_alarm() -> None:
    race = observe(new_race(2), [1_000, 1_000], [800, 700])
    watch = watch_leader(race, 0)
    for _ in range(50):
        watch = observe_watch(watch, [60, 4], [60, 2])

    assert not changed(watch)
    assert np.all(watch.risen[0] == 0)


def test_an_arm_that_never_succeeded_may_succeed_a_little() -> None:
    watch = watch_leader(observe(new_race(2), [30, 30], [20, 0]), 0)

    after = observe_watch(watch, [18, 12], [12, 1])

    assert 0.0 < float(watch.references[1]) < 0.2
    assert not changed(after)
