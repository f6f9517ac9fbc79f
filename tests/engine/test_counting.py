"""What is counted: duplicates, statuses, prices, and aggregates against a plain loop."""

import math
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intake_scene import (
    NOON,
    NOON_S,
    batch,
    call,
    engine_at,
    frame,
    ingest,
    jsonl,
    of,
    spooled,
)
from optimizer import aggregates as ag
from optimizer.bucket_edges import EDGES
from optimizer.engine import Engine
from optimizer.observations import Kind
from optimizer.ports import Mapped
from optimizer.statistics.quantiles import bucket_of
from optimizer.targets import Price


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return engine_at(tmp_path / "spool")


def feedback(request_id: str, score: float, minutes: float = -5, **more: object) -> dict[str, Any]:
    ts = (NOON + timedelta(minutes=minutes)).isoformat()
    return {"request_id": request_id, "ts": ts, "score": score, **more}


def ago(minutes: float) -> str:
    return (NOON - timedelta(minutes=minutes)).isoformat()


def test_inside_a_batch_the_earliest_of_one_id_counts(engine: Engine) -> None:
    rows = [call(1, ts=ago(4), latency_ms=1), call(1, ts=ago(6), latency_ms=2), call(2)]

    found = ingest(engine, batch(frame(rows)))

    kept = spooled(engine, found).set_index("request_id")["latency_us"]
    assert kept["r1"] == 2000
    assert (found.n_rows, found.n_kept, found.n_duplicates) == (3, 2, 1)


def test_which_of_two_equal_times_counts_depends_on_content_alone(engine: Engine) -> None:
    one, other = call(1, latency_ms=1), call(1, latency_ms=2)

    forth = ingest(engine, batch(frame([one, other])))
    back = ingest(engine, batch(frame([other, one])))

    assert forth.files == back.files


def test_an_id_seen_in_an_earlier_batch_is_a_duplicate(engine: Engine) -> None:
    first = ingest(engine, batch(frame([call(1), call(2)])))

    second = ingest(engine, batch(frame([call(2), call(3)])), known_calls=first.files)
    third = ingest(engine, batch(frame([call(2)])), known_calls=first.files)

    assert list(spooled(engine, second)["request_id"]) == ["r3"]
    assert (second.n_duplicates, third.n_duplicates) == (1, 1)
    assert (third.files, third.dirty_windows) == ((), frozenset())


def test_rows_without_an_id_are_told_by_their_content(engine: Engine) -> None:
    rows = [
        call(1, request_id=None),
        call(1, request_id=None),
        call(1, request_id=None, arm="small"),
    ]

    first = ingest(engine, batch(frame(rows)))
    again = ingest(engine, batch(frame(rows)), known_calls=first.files)

    assert (first.n_kept, first.n_duplicates) == (2, 1)
    assert again.n_duplicates == 3


def test_a_bad_row_delivered_again_is_set_aside_once(engine: Engine, tmp_path: Path) -> None:
    given = batch(jsonl(tmp_path / "log.jsonl", ["junk", "junk", call(1, arm="huge")]))

    first = ingest(engine, given)
    again = ingest(engine, given, known_quarantine=of(first, "quarantine"))

    assert first.n_quarantined == 3
    assert (again.n_quarantined, again.n_duplicates, again.files) == (0, 3, ())


def test_one_calls_content_is_one_file_whatever_it_came_in(engine: Engine, tmp_path: Path) -> None:
    rows = [call(i, ts=ago(i)) for i in range(1, 9)]

    lines = ingest(engine, batch(jsonl(tmp_path / "log.jsonl", rows)))
    table = ingest(engine, batch(frame(rows[::-1])))
    halves = ingest(engine, batch(frame(rows[5:]), frame(rows[:6])))

    assert lines.files == table.files == halves.files


def test_late_rows_are_those_in_windows_that_were_aggregated(engine: Engine) -> None:
    rows = [call(1, ts=ago(10)), call(2, ts=ago(4))]

    found = ingest(engine, batch(frame(rows)), closed_s=NOON_S - 300)

    assert found.n_late == 1


@settings(max_examples=12)
@given(
    st.lists(
        st.sampled_from(
            [
                call(1),
                call(1, ts=ago(20)),
                call(2),
                call(3, latency_ms="x"),
                call(4, target="nowhere"),
                call(5, request_id=None),
                "garbage",
                "[]",
            ]
        ),
        max_size=12,
    ),
    st.integers(0, 12),
)
def test_nothing_is_lost(rows: list[Any], cut: int) -> None:
    with TemporaryDirectory() as folder:
        engine = engine_at(Path(folder) / "spool")
        parts = [
            batch(jsonl(Path(folder) / f"{number}.jsonl", part))
            for number, part in enumerate((rows[:cut], rows[cut:]))
        ]

        first = ingest(engine, parts[0])
        second = ingest(
            engine,
            parts[1],
            known_calls=of(first, "calls"),
            known_quarantine=of(first, "quarantine"),
        )

        assert first.n_rows + second.n_rows == len(rows)
        for found in (first, second):
            assert sum(file.n_rows for file in of(found, "calls")) == found.n_kept
            assert sum(file.n_rows for file in of(found, "quarantine")) == found.n_quarantined
        ids = [
            n
            for part in (first, second)
            if of(part, "calls")
            for n in spooled(engine, part)["request_id"]
        ]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("status", "failed", "timeout"),
    [
        (None, 0, 0),
        ("", 0, 0),
        ("OK", 0, 0),
        ("success", 0, 0),
        (200, 0, 0),
        (200.0, 0, 0),
        ("timeout", 1, 1),
        (504, 1, 1),
        ("408", 1, 1),
        (500, 1, 0),
        ("rate_limited", 1, 0),
    ],
)
def test_a_status_says_whether_a_call_failed(
    engine: Engine, status: object, failed: int, timeout: int
) -> None:
    found = ingest(engine, batch(frame([call(1, status=status)])))

    grain = engine.aggregate(sorted(found.dirty_windows), calls=found.files, feedback=())
    assert (grain["n_failed"][0], grain["n_timeout"][0]) == (failed, timeout)
    # A failed call's latency is no latency of an answer.
    assert grain["n_latency"][0] == 1 - failed
    assert bool(grain["histogram"][0]) == (not failed)


@pytest.mark.parametrize(
    ("changes", "nusd"),
    [
        ({"cost_usd": 0.001}, 1_000_000),
        ({"cost_usd": 0, "input_tokens": 10, "output_tokens": 10}, 0),
        ({"input_tokens": 1000, "output_tokens": 200}, 4_500_000),
        ({"input_tokens": 1000, "output_tokens": 200, "cached_tokens": 600}, 3_150_000),
        ({"input_tokens": 1000}, None),
        ({"arm": "small", "input_tokens": 1000, "output_tokens": 200}, 600_000),
        ({"arm": "small", "target": "search", "input_tokens": 9, "output_tokens": 9}, None),
    ],
)
def test_a_cost_is_given_or_priced_or_unknown(
    engine: Engine, changes: dict[str, Any], nusd: int | None
) -> None:
    prices = {("chat", "small"): Price(input_usd_per_mtok=0.4, output_usd_per_mtok=1)}

    found = ingest(engine, batch(frame([call(1, **changes)])), prices=prices)

    cost = spooled(engine, found)["cost_nusd"].tolist()[0]
    assert (None if pd.isna(cost) else cost) == nusd


def test_another_model_than_the_arms_is_a_fallback(engine: Engine) -> None:
    rows = [
        call(1, served_model="gpt-large"),
        call(2, served_model="gpt-small"),
        call(3),
    ]

    found = ingest(engine, batch(frame(rows)))

    grain = engine.aggregate(sorted(found.dirty_windows), calls=found.files, feedback=())
    assert (grain["n"][0], grain["n_fallback"][0]) == (3, 1)


def test_the_newest_feedback_counts_and_the_larger_of_equals(engine: Engine) -> None:
    calls = ingest(engine, batch(frame([call(i, quality=0.1) for i in range(1, 5)])))
    rows = [
        feedback("r1", 0.9, -4),
        feedback("r1", 0.2, -3),
        feedback("r2", 0.3, -3, scorer="a"),
        feedback("r2", 0.8, -3, scorer="b"),
        feedback("r3", 0.5, -200),  # before its call by more than clocks differ
        feedback("r9", 0.5),
    ]

    scores = ingest(engine, batch(frame(rows), kind=Kind.FEEDBACK), known_calls=calls.files)

    windows = sorted(calls.dirty_windows)
    grain = engine.aggregate(windows, calls=calls.files, feedback=scores.files)
    assert scores.dirty_windows == calls.dirty_windows
    assert grain["quality_e6"].tolist() == [200_000 + 800_000 + 100_000 + 100_000]
    assert grain["quality_sq_e9"].tolist() == [40_000_000 + 640_000_000 + 10_000_000 + 10_000_000]
    assert grain["n_quality"].tolist() == [4]


def test_feedback_delivered_again_is_a_duplicate(engine: Engine) -> None:
    given = batch(frame([feedback("r1", 0.9), feedback("r1", 0.9)]), kind=Kind.FEEDBACK)

    first = ingest(engine, given)
    again = ingest(engine, given, known_feedback=first.files)

    assert (first.n_kept, first.n_duplicates) == (1, 1)
    assert (again.n_kept, again.n_duplicates) == (0, 2)


def test_buckets_agree_with_the_statistics_to_the_edge(engine: Engine) -> None:
    edges = np.asarray(EDGES[600:2000:37])
    values = np.concatenate(
        [edges, np.nextafter(edges, 0), np.nextafter(edges, np.inf), [1e-12, 1e9]]
    )
    rows = [call(i, latency_ms=repr(float(value))) for i, value in enumerate(values)]

    found = ingest(engine, batch(frame(rows)))

    grain = engine.aggregate(sorted(found.dirty_windows), calls=found.files, feedback=())
    buckets, counts = np.unique(bucket_of(values), return_counts=True)
    assert grain["histogram"][0] == ag.pack_histogram(buckets, counts)


ROWS = st.lists(
    st.builds(
        lambda number, minutes, arm, where, session, latency, status, quality: call(
            number,
            ts=ago(minutes),
            arm=arm,
            slice=where,
            session_id=session,
            latency_ms=latency,
            status=status,
            quality=quality,
            input_tokens=100,
            output_tokens=number % 7,
        ),
        st.integers(0, 10_000),
        st.integers(1, 40),
        st.sampled_from(["large", "small"]),
        st.sampled_from(["baseline", "control", "canary", None]),
        st.sampled_from(["s1", "s2", "s3", None]),
        st.one_of(st.none(), st.floats(0.01, 1e5)),
        st.sampled_from(["ok", "error", "timeout"]),
        st.one_of(st.none(), st.floats(0, 1)),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda row: row["request_id"],
)


@settings(max_examples=10)
@given(ROWS)
def test_aggregates_are_what_a_plain_loop_adds_up(rows: list[dict[str, Any]]) -> None:
    with TemporaryDirectory() as folder:
        engine = engine_at(Path(folder))
        found = ingest(engine, batch(frame(rows)))

        grains = engine.aggregate(sorted(found.dirty_windows), calls=found.files, feedback=())

    ag.validate(grains)
    expected: dict[Any, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    units: dict[Any, set[str]] = defaultdict(set)
    for row in rows:
        start = int((NOON_S - 60 * _minutes(row)) // 300 * 300)
        key = (row["target"], row["arm"], row.get("slice", "baseline"), start)
        sums = expected[key]
        failed = row["status"] != "ok"
        units[key].add(row.get("session_id", row["request_id"]))
        sums["n"] += 1
        sums["n_failed"] += failed
        sums["n_timeout"] += row["status"] == "timeout"
        latency = row.get("latency_ms")
        if latency is not None and not failed:
            sums["n_latency"] += 1
            sums["latency_us"] += math.floor(latency * 1e3 + 0.5)
            sums["log_latency_e6"] += round(math.log(latency) * 1e6)
        sums["output_tokens"] += row["output_tokens"]
        if row.get("quality") is not None:
            sums["n_quality"] += 1
            sums["quality_e6"] += math.floor(row["quality"] * 1e6 + 0.5)
        if row["arm"] == "large":
            sums["cost_nusd"] += 2_500 * 100 + 10_000 * row["output_tokens"]
    assert len(grains) == len(expected)
    for record in grains.to_dict("records"):
        key = tuple(record[name] for name in ag.KEYS)
        assert {name: record[name] for name in expected[key]} == expected[key]
        assert record["n_units"] == len(units[key])
        assert bool(record["clusters"]) == (key[2] != "baseline")


def _minutes(row: dict[str, Any]) -> float:
    return (NOON - datetime.fromisoformat(row["ts"])).total_seconds() / 60


def test_a_session_stays_in_its_hash_bucket(engine: Engine) -> None:
    rows = [call(i, ts=ago(i), session_id=f"s{i % 3}", slice="canary") for i in range(1, 31)]

    found = ingest(engine, batch(frame(rows)))

    kept = spooled(engine, found)
    assert kept.groupby("session_id")["cluster"].nunique().tolist() == [1, 1, 1]
    assert kept["cluster"].max() < ag.N_CLUSTERS


def test_a_constant_stands_for_a_column(engine: Engine) -> None:
    mapped = Mapped(
        columns={"ts": "at"}, constants={"target": "search", "arm": "small", "status": ""}
    )
    row = {"at": call()["ts"], "status": "meaningless", "arm": "ignored"}

    found = ingest(engine, batch(frame([row]), mapped=mapped))

    kept = spooled(engine, found)
    assert kept[["target", "arm", "failed"]].values.tolist() == [["search", "small", False]]
