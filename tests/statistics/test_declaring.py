"""Laws of declaring a best arm, of splitting traffic meanwhile, and of noticing that it changed."""

from dataclasses import fields

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from optimizer.statistics.declaring import (
    DELTA,
    NONE,
    Race,
    best_log_evalues,
    declared,
    new_race,
    observe,
    pairs,
)
from optimizer.statistics.evalues import Side, exact_increments, log_evalue
from optimizer.statistics.planning import wilson_interval
from optimizer.statistics.thompson import after_declaration, top_two
from optimizer.statistics.watching import LeaderWatch, changed, observe_watch, watch_leader

IntArray = npt.NDArray[np.int64]

batches = st.lists(
    st.lists(
        st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda pair: (max(pair), min(pair))),
        min_size=3,
        max_size=3,
    ),
    min_size=1,
    max_size=5,
)
Batches = list[list[tuple[int, int]]]


def raced(batches: Batches, arms: int = 3) -> Race:
    race = new_race(arms)
    for batch in batches:
        race = observe(race, [n for n, _ in batch], [k for _, k in batch])
    return race


def race_of(units: list[int], successes: list[int]) -> Race:
    return observe(new_race(len(units)), units, successes)


def test_the_evidence_of_a_pair_is_the_exact_evalue_of_its_batch() -> None:
    race = race_of([20, 20], [18, 12])

    # The reference value of the exact grid for (18, 20, 12, 20).
    assert float(log_evalue(race.log_ratios)[0, 1]) == pytest.approx(2.030613, abs=1e-6)


@given(batches=batches)
def test_the_order_of_batches_changes_no_evidence(batches: Batches) -> None:
    forward, backward = raced(batches), raced(batches[::-1])

    assert forward.log_ratios == pytest.approx(backward.log_ratios, abs=1e-9)
    assert forward.units.tolist() == backward.units.tolist()


@given(batches=batches, order=st.permutations([0, 1, 2]))
def test_renaming_the_arms_renames_the_verdict(batches: Batches, order: list[int]) -> None:
    plain = best_log_evalues(raced(batches))
    renamed = best_log_evalues(raced([[batch[arm] for arm in order] for batch in batches]))

    assert renamed == pytest.approx(plain[order], abs=1e-9)


@given(batches=batches)
def test_many_targets_equal_each_alone(batches: Batches) -> None:
    n = np.array([[n for n, _ in batch] for batch in batches])
    k = np.array([[k for _, k in batch] for batch in batches])

    together = observe(new_race(3, (len(batches),)), n, k)

    for target in range(len(batches)):
        alone = observe(new_race(3), n[target], k[target])
        assert together.log_ratios[target] == pytest.approx(alone.log_ratios, abs=1e-12)


@given(k=st.integers(0, 39))
def test_one_more_success_never_weakens_an_arm(k: int) -> None:
    fewer, more = race_of([40, 40, 40], [k, 20, 30]), race_of([40, 40, 40], [k + 1, 20, 30])

    assert best_log_evalues(more)[0] >= best_log_evalues(fewer)[0]
    assert np.all(best_log_evalues(more)[1:] <= best_log_evalues(fewer)[1:])


def test_shared_drift_is_no_evidence() -> None:
    # Both arms fail alike in each batch, whatever the batch; pooled, the first seems far better.
    race = new_race(2)
    for n, rate in (([900, 100], 0.9), ([100, 900], 0.5)) * 4:
        race = observe(race, n, [round(size * rate) for size in n])

    pooled = race.successes / race.units
    assert pooled[0] - pooled[1] == pytest.approx(0.32, abs=0.01)
    assert np.all(best_log_evalues(race) < 0)
    assert int(declared(race)) == NONE


def test_an_empty_batch_says_nothing() -> None:
    before = race_of([40, 40], [39, 20])

    after = observe(before, [0, 0], [0, 0])

    assert after.log_ratios == pytest.approx(before.log_ratios)
    assert int(declared(after)) == int(declared(before)) == 0


def test_nothing_is_declared_before_every_arm_has_its_first_units() -> None:
    assert int(declared(race_of([19, 400], [0, 400]))) == NONE
    assert int(declared(race_of([20, 400], [0, 400]))) == 1


def test_the_threshold_counts_the_arms() -> None:
    race = race_of([60, 60, 60], [59, 47, 47])
    strength = float(best_log_evalues(race)[0])

    just, short = 3 * np.exp(-strength + 1e-9), 3 * np.exp(-strength - 1e-9)

    assert int(declared(race, delta=float(just))) == 0
    assert int(declared(race, delta=float(short))) == NONE
    assert int(declared(race, delta=float(just), rivals=6)) == NONE
    assert int(declared(race, delta=float(2 * just), rivals=6)) == 0


def test_a_race_needs_two_arms_and_a_delta_between_zero_and_one() -> None:
    with pytest.raises(ValueError, match="at least 2 arms"):
        new_race(1)
    with pytest.raises(ValueError, match="delta lies in"):
        declared(new_race(2), delta=0.0)


def test_more_successes_than_units_are_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        race_of([10, 10], [11, 5])


def test_pairs_are_all_ordered_pairs() -> None:
    first, second = pairs(3)

    assert list(zip(first, second, strict=True)) == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]


# ---- the split of traffic


@given(batches=batches, floor=st.sampled_from([0.0, 0.1, 0.4, 1.0]))
def test_shares_add_to_one_and_keep_the_floor(batches: Batches, floor: float) -> None:
    shares = top_two(raced(batches), np.random.default_rng(3), draws=100, floor=floor)

    assert shares.sum() == pytest.approx(1.0)
    assert np.all(shares >= floor / 3 - 1e-12)


def test_the_same_seed_gives_the_same_shares() -> None:
    race = race_of([50, 50, 50], [40, 41, 30])

    one, other = (top_two(race, np.random.default_rng(8)) for _ in range(2))

    assert one.tolist() == other.tolist()


def test_shares_are_even_until_every_arm_has_its_first_units() -> None:
    shares = top_two(race_of([19, 90, 90], [0, 90, 90]), np.random.default_rng(1))

    assert shares.tolist() == pytest.approx([1 / 3] * 3)


def test_two_arms_share_evenly_whatever_they_did() -> None:
    shares = top_two(race_of([90, 90], [90, 0]), np.random.default_rng(1))

    assert shares.tolist() == [0.5, 0.5]


def test_shares_agree_with_the_posterior_by_quadrature() -> None:
    units, successes = np.array([60, 60, 60]), np.array([50, 48, 40])
    grid = (np.arange(20_000) + 0.5) / 20_000
    posterior = stats.beta(1 + successes[:, None], 1 + (units - successes)[:, None])
    density, below = posterior.pdf(grid) / grid.size, posterior.cdf(grid)
    expected = np.empty(3)
    for arm in range(3):
        others = [other for other in range(3) if other != arm]
        first = (density[arm] * below[others].prod(axis=0)).sum()
        # Runner-up: one of the others is above, the third below.
        second = sum(
            (density[arm] * (1 - below[above]) * below[rest]).sum()
            for above, rest in (others, others[::-1])
        )
        expected[arm] = 0.1 / 3 + 0.9 * 0.5 * (first + second)

    race = observe(new_race(3), units, successes)
    shares = top_two(race, np.random.default_rng(2), draws=40_000)

    assert shares == pytest.approx(expected, abs=0.01)


def test_a_declared_arm_gets_all_but_the_floor() -> None:
    shares = after_declaration([2, NONE], arms=4, floor=0.2)

    assert shares[0].tolist() == pytest.approx([0.05, 0.05, 0.85, 0.05])
    assert shares[1].tolist() == [0.25] * 4


def test_an_impossible_floor_or_number_of_draws_is_refused() -> None:
    with pytest.raises(ValueError, match="floor lies in"):
        top_two(new_race(3), np.random.default_rng(1), floor=1.5)
    with pytest.raises(ValueError, match="floor lies in"):
        after_declaration(0, arms=2, floor=-0.1)
    with pytest.raises(ValueError, match="draws is positive"):
        top_two(new_race(3), np.random.default_rng(1), draws=0)


# ---- change


def held_after(batches: Batches, start: LeaderWatch) -> LeaderWatch:
    held = start
    for batch in batches:
        held = observe_watch(held, [n for n, _ in batch], [k for _, k in batch])
    return held


@given(batches=batches)
def test_the_detector_is_the_best_bet_that_could_have_begun_at_any_batch(batches: Batches) -> None:
    start = watch_leader(race_of([100, 100, 100], [80, 70, 60]), 0)
    increments = [
        exact_increments(k, n, batch[0][1], batch[0][0], side=Side.HIGHER)
        for batch in batches
        for n, k in [batch[1]]
    ]
    tails = [np.sum(increments[first:], axis=0) for first in range(len(increments))]

    held = held_after(batches, start)

    assert held.others[1] == pytest.approx(np.max(tails, axis=0), abs=1e-9)
    assert np.all(held.others[0] == 0)


@given(batches=batches, good=st.integers(1, 3))
def test_good_times_are_no_credit_against_a_change(batches: Batches, good: int) -> None:
    # However long the leader did well before, a change is noticed no later than from a fresh start.
    start = watch_leader(race_of([100, 100, 100], [80, 70, 60]), 0)
    well: Batches = [[(20, 20), (20, 10), (20, 10)]] * good

    assert np.all(
        held_after(well + batches, start).itself >= held_after(batches, start).itself - 1e-9
    )


def test_a_leader_that_never_failed_is_not_taken_for_infallible() -> None:
    start = watch_leader(race_of([30, 30], [30, 10]), 0)

    after = observe_watch(start, [18, 2], [17, 1])

    assert 0.05 < float(start.reference) < 0.2
    assert not bool(changed(after))


def test_a_leader_that_falls_behind_is_noticed() -> None:
    held = watch_leader(race_of([1000, 1000], [800, 700]), 0)
    noticed = 0
    while not bool(changed(held)):
        held = observe_watch(held, [19, 1], [9, 1])
        noticed += 1

    assert noticed <= 6


def test_a_better_other_arm_is_noticed_without_any_fault_of_the_leader() -> None:
    held = watch_leader(race_of([1000, 1000], [800, 700]), 0)
    for _ in range(60):
        held = observe_watch(held, [40, 20], [32, 20])

    assert bool(changed(held))
    assert float(log_evalue(held.itself)) < 0


def test_only_an_arm_can_lead() -> None:
    for leader in (NONE, 2):
        with pytest.raises(ValueError, match="one of the 2 arms"):
            watch_leader(new_race(2), leader)


def test_alarms_every_batch_cannot_be_asked_for() -> None:
    with pytest.raises(ValueError, match="at least 1 batch"):
        changed(watch_leader(race_of([30, 30], [30, 10]), 0), between_alarms=0.5)


def test_many_watches_equal_each_alone() -> None:
    n, k = np.array([[100, 100, 90], [80, 90, 100]]), np.array([[90, 60, 50], [20, 80, 30]])
    race = observe(new_race(3, (2,)), n, k)
    together = observe_watch(watch_leader(race, [0, 1]), n // 4, k // 5)

    for target, leader in enumerate((0, 1)):
        alone = watch_leader(observe(new_race(3), n[target], k[target]), leader)
        alone = observe_watch(alone, n[target] // 4, k[target] // 5)
        for field in fields(LeaderWatch):
            assert getattr(together, field.name)[target] == pytest.approx(
                getattr(alone, field.name), abs=1e-12
            )


@pytest.mark.slow
def test_exact_ties_are_declared_within_delta() -> None:
    rng, runs = np.random.default_rng(12), 600
    race, ever = new_race(3, (runs,)), np.zeros(runs, dtype=bool)
    for _ in range(150):
        units: IntArray = rng.multinomial(30, top_two(race, rng, draws=100))
        race = observe(race, units, rng.binomial(units, 0.9))
        ever |= declared(race) != NONE

    assert float(wilson_interval(int(ever.sum()), runs)[0]) <= DELTA
