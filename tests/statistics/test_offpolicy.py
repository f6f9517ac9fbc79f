"""Off-policy estimates: laws of the sums, and numbers worked out by hand."""

import dataclasses
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import settings as few
from hypothesis import strategies as st

from optimizer.statistics import offpolicy
from optimizer.statistics.offpolicy import PolicyValue, cross_fitted, doubly_robust, ips, snips
from optimizer.statistics.offpolicy_log import Log, always, clipped, importance, log_of
from optimizer.statistics.offpolicy_support import overlap

KEYS = ["arm", "propensity", "cluster", "segment"]
SCALES = (1e-9, 1e-6, 1.0, 1e6)


def rows(seed: int, size: int = 400) -> pd.DataFrame:
    """Requests of two arms with chances that change by segment, in 40 clusters."""
    rng = np.random.default_rng(seed)
    segment = rng.integers(0, 3, size)
    chance = np.array([0.1, 0.25, 0.5])[segment]
    arm = (rng.random(size) < chance).astype(int)
    return pd.DataFrame(
        {
            "arm": arm,
            "propensity": np.where(arm == 1, chance, 1.0 - chance),
            "cluster": rng.integers(0, 40, size),
            "segment": segment,
            "reward": rng.integers(0, 5, size) / 4 + 0.5 * segment,
        }
    )


def log_from(frame: pd.DataFrame) -> Log:
    """The rows as a log of single requests."""
    return log_of(
        frame["arm"],
        frame["propensity"],
        frame["reward"],
        cluster=frame["cluster"],
        segment=frame["segment"],
    )


def summed(frame: pd.DataFrame) -> Log:
    """The rows as sums of alike requests."""
    cells = (
        frame.assign(n=1.0, squares=frame["reward"] ** 2)
        .groupby(KEYS, as_index=False)[["n", "reward", "squares"]]
        .sum()
    )
    return log_of(
        cells["arm"],
        cells["propensity"],
        cells["reward"],
        n=cells["n"],
        squares=cells["squares"],
        cluster=cells["cluster"],
        segment=cells["segment"],
    )


def estimates(log: Log) -> dict[str, PolicyValue]:
    policy = always(log, 1)
    weight = importance(log, policy)
    return {
        "ips": ips(log, weight),
        "snips": snips(log, weight),
        "dr": doubly_robust(log, policy, weight),
    }


def numbers(log: Log) -> np.ndarray:
    """Everything that is estimated from a log, in one row."""
    values = [part for each in estimates(log).values() for part in (each.value, each.variance)]
    found = dataclasses.asdict(overlap(log, always(log, 1)))
    return np.array([*values, *map(float, found.values()), log.deviation])


def halves(frame: pd.DataFrame, seed: int) -> list[pd.DataFrame]:
    mask = np.random.default_rng(seed).random(len(frame)) < 0.5
    return [frame[mask], frame[~mask]]


@given(seed=st.integers(0, 2**32 - 1))
@few(max_examples=25)
def test_sums_of_alike_requests_say_what_the_requests_say(seed: int) -> None:
    frame = rows(seed)

    np.testing.assert_allclose(numbers(summed(frame)), numbers(log_from(frame)), rtol=1e-9)


@given(seed=st.integers(0, 2**32 - 1))
@few(max_examples=25)
def test_sums_that_are_put_together_from_parts_say_the_same(seed: int) -> None:
    frame = rows(seed)
    parts = [summed(half) for half in halves(frame, seed)]

    joined = Log(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in parts])
            for field in dataclasses.fields(Log)
        }
    )

    np.testing.assert_allclose(numbers(joined), numbers(summed(frame)), rtol=1e-9)


@given(seed=st.integers(0, 2**32 - 1))
@few(max_examples=25)
def test_the_order_of_requests_says_nothing(seed: int) -> None:
    frame = rows(seed)
    shuffled = frame.sample(frac=1, random_state=seed % 2**31)

    np.testing.assert_allclose(numbers(log_from(shuffled)), numbers(log_from(frame)), rtol=1e-9)


@pytest.mark.parametrize("scale", SCALES)
def test_a_scaled_reward_scales_values_and_their_errors(scale: float) -> None:
    frame = rows(7)
    before = estimates(log_from(frame))

    after = estimates(log_from(frame.assign(reward=frame["reward"] * scale)))

    for name, found in after.items():
        assert found.value == pytest.approx(scale * before[name].value, rel=1e-9)
        assert found.variance == pytest.approx(scale**2 * before[name].variance, rel=1e-9)


@given(seed=st.integers(0, 2**32 - 1))
@few(max_examples=25)
def test_the_policy_that_wrote_the_log_is_worth_its_mean(seed: int) -> None:
    frame = rows(seed)
    log = log_from(frame)
    weight = importance(log, log.chances)

    mean = frame["reward"].mean()
    assert np.allclose(weight, 1.0)
    assert snips(log, weight).value == pytest.approx(mean, rel=1e-12)
    assert ips(log, weight).value == pytest.approx(mean, rel=1e-12)


@given(seed=st.integers(0, 2**32 - 1))
@few(max_examples=25)
def test_weights_are_never_negative_and_snips_stays_inside_the_rewards(seed: int) -> None:
    frame = rows(seed)
    log = log_from(frame)
    weight = importance(log, always(log, 1))

    assert np.all(weight >= 0)
    assert np.all(clipped(weight) <= weight)
    assert frame["reward"].min() <= snips(log, weight).value <= frame["reward"].max()


def test_four_requests_by_hand() -> None:
    log = log_of([1, 0, 1, 0], [0.25, 0.75, 0.5, 0.5], [1.0, 1.0, 0.0, 1.0])
    weight = importance(log, always(log, 1))

    assert weight.tolist() == [4.0, 0.0, 2.0, 0.0]
    assert ips(log, weight).value == Fraction(4, 4)
    assert snips(log, weight).value == pytest.approx(Fraction(4, 6))
    # Even clusters are requests 0 and 2, both of arm 1: mean 1/2; odd ones are both of arm 0.
    by_even = (1.0 + 20 * (1.0 + 20 * 0.5) / 22) / 22
    assert cross_fitted(log)[1, 1] == pytest.approx(by_even)
    by_odd = (0.0 + 20 * (0.0 + 20 * 1.0) / 20) / 20
    assert cross_fitted(log)[0, 1] == pytest.approx(by_odd)
    direct = [by_odd, by_even, by_odd, by_even]
    corrected = [4 * (1 - by_odd), 0.0, 2 * (0 - by_odd), 0.0]
    expected = (sum(direct) + sum(corrected)) / 4
    assert doubly_robust(log, always(log, 1), weight).value == pytest.approx(expected)


def test_the_variance_of_snips_is_that_of_whole_clusters() -> None:
    frame = rows(3)
    log = log_from(frame)
    weight = importance(log, always(log, 1))
    found = snips(log, weight)

    residuals = pd.Series(weight * (frame["reward"] - found.value)).groupby(frame["cluster"]).sum()
    size = len(residuals)
    by_hand = size / (size - 1) * (residuals**2).sum() / weight.sum() ** 2
    assert found.variance == pytest.approx(by_hand)


def test_a_difference_knows_that_both_come_from_one_log() -> None:
    log = log_from(rows(4))
    one = snips(log, importance(log, always(log, 1)))

    assert one.minus(one).value == 0
    assert np.isnan(one.minus(one).variance)


@pytest.mark.parametrize("estimate", [ips, snips])
def test_few_clusters_or_equal_rewards_give_no_variance(
    estimate: Callable[[Log, np.ndarray], PolicyValue],
) -> None:
    frame = rows(5)
    log = log_from(frame.assign(cluster=frame["cluster"] % 19))

    assert np.isnan(estimate(log, importance(log, always(log, 1))).variance)
    alike = log_from(frame.assign(reward=0.3))
    assert np.isnan(snips(alike, importance(alike, always(alike, 1))).variance)


def test_doubly_robust_is_more_precise_where_the_segments_differ() -> None:
    found = estimates(log_from(rows(6, size=4000)))

    assert found["dr"].variance < found["snips"].variance < found["ips"].variance


def test_the_error_covers_the_truth_as_often_as_it_says() -> None:
    """Arm 1 is worth 1/2 + half the mean segment: 1 on average over three equal segments."""
    hits = dict.fromkeys(("ips", "snips", "dr"), 0)
    for seed in range(200):
        for name, found in estimates(log_from(rows(seed, size=1500))).items():
            hits[name] += abs(found.value - 1.0) <= 1.96 * found.variance**0.5

    # 90 % of 200 lies 3 standard errors below 95 %.
    assert all(count >= 180 for count in hits.values()), hits


def test_no_estimator_asks_where_the_log_agrees() -> None:
    """The mean over requests that the policy would have served alike is biased: it must not be."""
    frame = rows(8, size=4000)
    log = log_from(frame)
    agreeing = frame[frame["arm"] == 1]["reward"].mean()

    for found in estimates(log).values():
        assert abs(found.value - agreeing) > 3 * found.variance**0.5
    public = [name for name in vars(offpolicy) if not name.startswith("_")]
    assert not [name for name in public if "agree" in name or "match" in name]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"propensity": [1.5, 0.5]}, "propensity"),
        ({"propensity": [-0.1, 0.5]}, "propensity"),
        ({"arm": [2, 0]}, "arm"),
        ({"n": [0.0, 1.0]}, "at least one request"),
        ({"cluster": [-1, 0]}, "cluster"),
        ({"squares": [1.0]}, "one length"),
    ],
)
def test_a_log_that_cannot_be_is_refused(change: dict[str, list[float]], named: str) -> None:
    good: dict[str, Any] = {"arm": [0, 1], "propensity": [0.5, 0.5], "total": [1.0, 0.0]}
    chances = [[0.5, 0.5], [0.5, 0.5]]

    with pytest.raises(ValueError, match=named):
        log_of(**(good | {"chances": chances} | change))


def test_a_policy_that_does_not_add_up_is_refused() -> None:
    log = log_of([0, 1], [0.5, 0.5], [1.0, 0.0])

    with pytest.raises(ValueError, match="add to 1"):
        importance(log, np.array([[0.5, 0.4], [1.0, 0.0]]))
