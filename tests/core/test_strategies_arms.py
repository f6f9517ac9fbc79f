"""Pooled aggregates: equal to pooling the rows, whatever the order and the slices."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.aggregates import HISTOGRAM, merge, pack_histogram, unpack_histogram
from optimizer.bucket_edges import LAST_BUCKET, ZERO_BUCKET
from optimizer.metrics import HOUR_S
from optimizer.statistics import arms
from optimizer.statistics.quantiles import exceedance_count, quantile, snap_to_edge
from scenes import NOW, Traffic, hours

TWO = {("a", "x"): Traffic(n=50, labels=5), ("b", "y"): Traffic(n=80, labels=9, latency_ms=90.0)}


def dense(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return unpack_histogram(merge(frame, by=("target",))[HISTOGRAM].iloc[0])


@pytest.mark.parametrize("q", [0.0, 0.5, 0.95, 0.99, 1.0])
def test_many_sparse_histograms_have_the_quantiles_of_each_alone(q: float) -> None:
    frame = hours(TWO, span=3)

    (many,) = arms.quantiles_ms(arms.pooled(frame, ("target",)), q)

    alone = [quantile(*dense(frame[frame["target"] == name]), q) for name in ("a", "b")]
    np.testing.assert_allclose(many, alone, rtol=1e-12)


def test_slower_than_counts_what_each_histogram_alone_counts() -> None:
    frame = hours(TWO, span=2)
    edges = snap_to_edge([1000.0, 100.0])

    many = arms.slower_than(arms.pooled(frame, ("target",)), edges)

    for name, edge, count in zip(("a", "b"), edges, many, strict=True):
        assert count == exceedance_count(*dense(frame[frame["target"] == name]), edge)


@given(seed=st.integers(0, 2**32 - 1))
def test_order_of_rows_changes_nothing(seed: int) -> None:
    frame = hours(TWO, span=4)
    shuffled = frame.sample(frac=1, random_state=seed)

    left, right = (arms.measured(arms.pooled(f, ("target", "arm"))) for f in (frame, shuffled))

    pd.testing.assert_frame_equal(left, right)


def test_a_torn_histogram_makes_only_its_own_group_unknown() -> None:
    frame = hours(TWO, span=2)
    torn = frame.assign(
        **{
            HISTOGRAM: [
                b[:-3] if t == "a" else b
                for t, b in zip(frame["target"], frame[HISTOGRAM], strict=True)
            ]
        }
    )

    (p95,) = arms.quantiles_ms(arms.pooled(torn, ("target",)), 0.95)

    assert np.isnan(p95[0])
    assert p95[1] == arms.quantiles_ms(arms.pooled(frame, ("target",)), 0.95)[0][1]


def test_no_rows_pool_to_no_groups() -> None:
    empty = hours(TWO, span=1).iloc[:0]

    measured = arms.measured(arms.pooled(empty, ("target", "arm")))

    assert measured.empty
    assert "p95_ms" in measured


def test_what_was_never_measured_is_unknown_and_not_zero() -> None:
    traffic = Traffic(n=10, failed=10, cost_usd=None, labels=0)

    row = arms.measured(arms.pooled(hours({("a", "x"): traffic}, span=1), ("target",))).iloc[0]

    for name in ("cost_usd", "p95_ms", "latency_ms", "quality", "success_cost_usd", "mean_input"):
        assert np.isnan(row[name]), name
    assert row["unknown_cost_share"] == 1.0


def test_a_perfect_score_still_has_variance() -> None:
    frame = hours({("a", "x"): Traffic(quality=1.0, labels=100)}, span=1)

    row = arms.measured(arms.pooled(frame, ("target",))).iloc[0]

    assert row["quality"] == 1.0
    assert row["quality_variance"] > 0


def test_only_whole_windows_inside_the_interval_are_taken() -> None:
    frame = hours(TWO, span=3)
    now_s = int(NOW.timestamp())

    taken = arms.within(frame, start_s=now_s - 2 * HOUR_S - 1, end_s=now_s - 1)

    assert set(taken["window_start_s"]) == {now_s - 2 * HOUR_S}


def test_a_new_target_s_traffic_is_not_diluted_by_hours_before_it() -> None:
    rates = arms.requests_per_hour(hours(TWO, span=3), now_s=int(NOW.timestamp()))

    assert rates == {"a": 50.0, "b": 80.0}


@given(
    targets=st.lists(st.sampled_from("abcdefgh"), max_size=30),
    at_once=st.integers(1, 12),
    coded=st.booleans(),
)
def test_parts_are_whole_targets_and_together_all_rows(
    targets: list[str], at_once: int, *, coded: bool
) -> None:
    frame = hours(dict.fromkeys([(name, "x") for name in targets], Traffic(n=3)), span=2)
    frame = frame.sample(frac=1, random_state=1)
    frame = arms.coded(frame) if coded else frame

    parts = [set(part["target"]) for part in arms.in_parts(frame, rows_at_once=at_once)]
    rows = sum(len(part) for part in arms.in_parts(frame, rows_at_once=at_once))

    assert rows == len(frame)
    assert sum(map(len, parts)) == len(set(targets))


@pytest.mark.parametrize("coded", [False, True])
def test_serving_rows_are_those_of_each_targets_named_arm(*, coded: bool) -> None:
    traffic = {(target, arm): Traffic(n=2) for target in "abc" for arm in "xy"}
    frame = hours(traffic, span=1)
    frame = arms.coded(frame) if coded else frame

    found = arms.serving(frame, {"a": "x", "b": "y", "c": "unheard"})

    assert sorted(zip(found["target"], found["arm"], strict=True)) == [("a", "x"), ("b", "y")]


def test_zeros_and_both_ends_of_the_table_add_up_exactly() -> None:
    stored = pack_histogram([ZERO_BUCKET, 0, LAST_BUCKET], [2, 3, 2**52 + 1])
    frame = hours({("a", "x"): Traffic(n=1), ("b", "x"): Traffic(n=1)}, span=3)
    frame = frame.assign(**{HISTOGRAM: [stored] * len(frame)})

    pool = arms.pooled(frame, ("target",))

    assert pool.group.tolist() == [0, 0, 0, 1, 1, 1]
    assert pool.bucket.tolist() == [ZERO_BUCKET, 0, LAST_BUCKET] * 2
    assert pool.count.tolist() == [6, 9, 3 * (2**52 + 1)] * 2
