"""The best of several arms by graded scores, compared hour by hour."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.statistics.declaring import declared as declared_now
from optimizer.statistics.declaring import first_declared, new_race, observe, rival_pairs
from optimizer.statistics.declaring_means import declared_mean, leads
from optimizer.statistics.thompson import top_two_means

BUCKETS = 64


def scored(
    means: list[float], *, hours: int, units: int, seed: int, drift: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, counts and squares: ``units`` beta scores an hour and arm, in hash buckets."""
    rng = np.random.default_rng(seed)
    shape = (hours, len(means), BUCKETS)
    y, x = np.zeros(shape), np.zeros(shape)
    squares = np.zeros(shape[:2])
    for w in range(hours):
        for k, mean in enumerate(means):
            centre = min(0.95, max(0.05, mean + drift * w / hours))
            score = rng.beta(8 * centre, 8 * (1 - centre), units)
            bucket = rng.integers(0, BUCKETS, units)
            y[w, k] = np.bincount(bucket, weights=score, minlength=BUCKETS)
            x[w, k] = np.bincount(bucket, minlength=BUCKETS)
            squares[w, k] = (score**2).sum()
    return y, x, squares


def test_a_clear_best_arm_is_declared_and_its_lead_is_covered() -> None:
    found = leads(*scored([0.6, 0.7, 0.6], hours=6, units=200, seed=1), rivals=2)

    assert declared_mean(found) == 1
    assert found.lower[1, 0] < 0.1 < found.upper[1, 0]


def test_alike_arms_are_hardly_ever_told_apart_at_any_hour() -> None:
    wrong = 0
    for seed in range(100):
        y, x, squares = scored([0.7, 0.7], hours=10, units=60, seed=seed, drift=0.2)
        wrong += any(
            declared_mean(leads(y[:w], x[:w], squares[:w], rivals=1)) >= 0 for w in range(1, 11)
        )

    assert wrong <= 10


def test_a_drift_that_all_arms_share_is_no_lead_even_where_shares_follow_it() -> None:
    y, x, squares = scored([0.3, 0.3], hours=10, units=400, seed=3, drift=0.6)
    # The second arm gets most of the good hours: its own mean is far higher.
    thin = np.ones((10, 2, 1))
    thin[:5, 1] = 0.1
    thin[5:, 0] = 0.1
    y, x, squares = y * thin, x * thin, squares * thin[..., 0]

    found = leads(y, x, squares, rivals=1)

    assert found.mean[1] - found.mean[0] > 0.1
    assert abs(found.lead[1, 0]) < 0.03
    assert declared_mean(found) == -1


@settings(max_examples=20)
@given(st.integers(0, 99), st.permutations([0, 1, 2]))
def test_renaming_the_arms_renames_the_leads(seed: int, order: list[int]) -> None:
    y, x, squares = scored([0.5, 0.6, 0.7], hours=2, units=120, seed=seed)

    one = leads(y, x, squares, rivals=2)
    other = leads(y[:, order], x[:, order], squares[:, order], rivals=2)

    assert other.lower == pytest.approx(one.lower[np.ix_(order, order)], nan_ok=True)
    assert one.lead == pytest.approx(-one.lead.T, nan_ok=True)


@settings(max_examples=20)
@given(st.integers(0, 99), st.permutations(list(range(4))))
def test_the_order_of_hours_changes_nothing(seed: int, order: list[int]) -> None:
    y, x, squares = scored([0.5, 0.6], hours=4, units=60, seed=seed)

    one = leads(y, x, squares, rivals=1)
    other = leads(y[order], x[order], squares[order], rivals=1)

    assert other.lower == pytest.approx(one.lower, nan_ok=True)


def test_few_rows_few_buckets_or_no_spread_declare_nobody() -> None:
    y, x, squares = scored([0.2, 0.9], hours=1, units=90, seed=1)
    assert declared_mean(leads(y, x, squares, rivals=1)) == -1
    few = np.zeros((1, 2, BUCKETS))
    few[..., :10] = 100.0
    assert declared_mean(leads(few * [[[0.2], [0.9]]], few, few.sum(-1) * 0.5, rivals=1)) == -1
    full = np.full((1, 2, BUCKETS), 10.0)
    assert declared_mean(leads(full, full, full.sum(-1), rivals=1)) == -1
    assert (
        declared_mean(leads(*(np.zeros(s) for s in ((0, 2, 8), (0, 2, 8), (0, 2))), rivals=1)) == -1
    )


def test_units_that_agree_wholly_are_counted_as_units() -> None:
    rng = np.random.default_rng(0)
    mood = rng.random((1, 2, BUCKETS)) < 0.5
    x = np.full((1, 2, BUCKETS), 50.0)
    y = x * mood

    assert declared_mean(leads(y, x, y.sum(axis=-1), rivals=1)) == -1


@settings(max_examples=25)
@given(st.integers(0, 999), st.integers(2, 4), st.integers(0, 3))
def test_the_first_declaration_is_that_of_looks_after_every_batch(
    seed: int, arms: int, not_before: int
) -> None:
    rng = np.random.default_rng(seed)
    units = rng.integers(0, 80, (8, arms))
    successes = rng.binomial(units, np.linspace(0.3, 0.8, arms))
    race, first = new_race(arms), (-1, -1)
    for batch in range(8):
        race = observe(race, units[batch], successes[batch])
        if first == (-1, -1) and batch >= not_before and int(declared_now(race)) >= 0:
            first = (batch, int(declared_now(race)))

    found = first_declared(units, successes, rivals=arms, not_before=not_before)

    assert found == first


def test_more_rivals_need_more_evidence() -> None:
    units, successes = [[100, 100, 100]] * 30, [[95, 88, 88]] * 30

    few, _ = first_declared(units, successes, rivals=rival_pairs(3, dropped=False))
    many, _ = first_declared(units, successes, rivals=rival_pairs(3, dropped=True))

    assert 0 <= few <= many


def test_shares_of_scores_lean_to_the_two_best_and_are_even_while_nothing_is_known() -> None:
    rng = np.random.default_rng(1)

    shares = top_two_means([0.9, 0.5, 0.89], [1e-4] * 3, rng, floor=0.1)
    unknown = top_two_means([0.9, np.nan, 0.8], [1e-4] * 3, rng)

    assert shares[1] == pytest.approx(0.1 / 3, abs=1e-3)
    assert shares.sum() == pytest.approx(1)
    assert unknown.tolist() == [1 / 3] * 3
    with pytest.raises(ValueError, match="draws"):
        top_two_means([0.5, 0.5, 0.5], [1, 1, 1], rng, draws=0)
