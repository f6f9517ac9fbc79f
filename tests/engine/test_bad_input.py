"""Every kind of bad input: what is set aside, why, and that good rows next to it go through."""

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from intake_scene import (
    NOON,
    bad_rows,
    batch,
    call,
    engine_at,
    frame,
    ingest,
    jsonl,
    of,
    spooled,
)
from optimizer.engine import Engine
from optimizer.errors import ConfigError
from optimizer.observations import Kind, QuarantineReason, ScoreScale
from optimizer.ports import Mapped, Reject


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return engine_at(tmp_path / "spool")


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"ts": None}, "missing_field", ["ts is absent"]),
        ({"target": ""}, "missing_field", ["target is absent"]),
        ({"arm": None}, "missing_field", ["arm is absent"]),
        ({"ts": "yesterday"}, "bad_timestamp", ["'yesterday'"]),
        ({"ts": "2026-02-30T00:00:00Z"}, "bad_timestamp", ["2026-02-30"]),
        ({"ts": "infinity"}, "bad_timestamp", ["infinity"]),
        ({"ts": "1e300"}, "bad_timestamp", ["1e300"]),
        ({"ts": "2026-03-10T11:50:00"}, "no_time_zone", ["names no time zone"]),
        ({"ts": "2026-03-10"}, "no_time_zone", ["names no time zone"]),
        (
            {"ts": "2026-03-10T12:05:01Z"},
            "future_timestamp",
            ["2026-03-10T12:05:01Z", "is after 2026-03-10 12:05:00"],
        ),
        (
            {"ts": "2024-01-01T00:00:00Z"},
            "ancient_timestamp",
            ["2024-01-01", "is before 2025-02-03 12:00:00"],
        ),
        ({"target": "nowhere"}, "unknown_target", ["'nowhere'", "not configured"]),
        ({"arm": "huge"}, "unknown_arm", ["'huge'", "target chat"]),
        ({"slice": "shadow"}, "bad_value", ["'shadow'", "baseline, control, canary"]),
        ({"latency_ms": -5}, "out_of_range", ["latency_ms = '-5'", "[0, 1000000000]"]),
        ({"latency_ms": "inf"}, "out_of_range", ["'inf'"]),
        ({"latency_ms": "fast"}, "not_a_number", ["latency_ms = 'fast'"]),
        ({"input_tokens": -1}, "out_of_range", ["input_tokens = '-1'"]),
        ({"output_tokens": "12.5"}, "bad_value", ["output_tokens = '12.5'", "whole"]),
        ({"cost_usd": -0.01}, "out_of_range", ["cost_usd = '-0.01'"]),
        ({"cost_usd": "1e300"}, "out_of_range", ["[0, 10000]"]),
        ({"quality": 1.5}, "out_of_range", ["quality = '1.5'", "[0, 1]"]),
        ({"propensity": 0}, "out_of_range", ["propensity"]),
        ({"request_id": "x" * 600}, "bad_value", ["longer than 512"]),
    ],
)
def test_a_bad_row_is_set_aside_and_its_neighbours_go_through(
    engine: Engine, tmp_path: Path, changes: dict[str, Any], reason: str, words: list[str]
) -> None:
    given = jsonl(tmp_path / "log.jsonl", [call(1), call(2, **changes), call(3)])

    found = ingest(engine, batch(given))

    assert list(spooled(engine, found)["request_id"]) == ["r1", "r3"]
    (row,) = bad_rows(engine, found)
    assert row["reason"] == reason
    assert row["line"] == 2
    assert row["detail"].startswith("log.jsonl, line 2: ")
    assert all(word in row["detail"] for word in words), row["detail"]
    assert (found.n_rows, found.n_kept, found.n_quarantined) == (3, 2, 1)
    assert found.by_reason == {reason: 1}


@pytest.mark.parametrize("latency", [None, 0, "0.0", "NaN", float("nan"), ""])
def test_an_unmeasured_latency_is_kept_as_unknown(engine: Engine, latency: object) -> None:
    found = ingest(engine, batch(frame([call(1, latency_ms=latency), call(2)])))

    grain = engine.aggregate(sorted(found.dirty_windows), calls=found.files, feedback=())
    assert spooled(engine, found)["latency_us"].isna().tolist() == [True, False]
    assert (grain["n"] - grain["n_failed"] - grain["n_latency"]).tolist() == [1]


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-10T11:50:00Z",
        "2026-03-10t11:50:00z",
        "2026-03-10 11:50:00+00",
        "2026-03-10T17:20:00+05:30",
        "2026-03-10T17:20:00+0530",
        "2026-03-10T11:50:00 UTC",
        "1773143400",
        "1773143400.0",
        "1773143400000",
        1773143400,
        1773143400000.0,
        datetime(2026, 3, 10, 11, 50, tzinfo=UTC),
        datetime(2026, 3, 10, 6, 50, tzinfo=timezone(timedelta(hours=-5))),
        pd.Timestamp("2026-03-10T12:50:00", tz="Europe/Paris"),
    ],
)
def test_one_moment_has_many_spellings(engine: Engine, text: object) -> None:
    found = ingest(engine, batch(frame([call(ts=text)])))

    assert found.newest_s == 1773143400
    assert found.dirty_windows == {1773143400}


def test_a_configured_zone_reads_times_without_one(engine: Engine) -> None:
    mapped = Mapped(timezone="Europe/Paris")

    found = ingest(engine, batch(frame([call(ts="2026-03-10T12:50:00")]), mapped=mapped))

    assert found.newest_s == 1773143400


def test_a_zone_that_does_not_exist_is_the_operators_error(engine: Engine) -> None:
    with pytest.raises(ConfigError, match="Mars"):
        ingest(engine, batch(frame([call()]), mapped=Mapped(timezone="Mars/Olympus")))


def test_five_minutes_ahead_are_still_now(engine: Engine) -> None:
    found = ingest(engine, batch(frame([call(ts=(NOON + timedelta(minutes=5)).isoformat())])))

    assert found.n_kept == 1


def test_garbage_lines_are_set_aside_one_by_one(engine: Engine, tmp_path: Path) -> None:
    lines: list[dict[str, Any] | str | bytes] = [
        b"\xef\xbb\xbf" + json.dumps(call(1)).encode(),
        "not json at all",
        "",
        '{"request_id": "r2", "ts": ',
        b'{"request_id": "\xff\xfe", "x": 1}',
        "[1, 2]",
        "42",
        call(3),
        '{"a": 1} {"b": 2}',
        call(4),
    ]

    found = ingest(engine, batch(jsonl(tmp_path / "log.jsonl", lines)))

    assert list(spooled(engine, found)["request_id"]) == ["r1", "r3", "r4"]
    rows = bad_rows(engine, found)
    assert [row["line"] for row in rows] == [2, 4, 5, 6, 7, 9]
    assert {row["reason"] for row in rows} == {"bad_line"}
    assert rows[0]["raw"] == "not json at all"
    assert found.n_rows == 9


def test_only_mapped_columns_of_a_bad_row_are_kept(engine: Engine, tmp_path: Path) -> None:
    mapped = Mapped(columns={"latency_ms": "timing.total", "arm": "model.arm"})
    row = {**call(1), "timing": {"total": -1}, "model.arm": "large", "prompt": "my secret"}

    found = ingest(engine, batch(jsonl(tmp_path / "log.jsonl", [row]), mapped=mapped))

    (kept,) = bad_rows(engine, found)
    raw = json.loads(kept["raw"])
    assert raw["timing.total"] == "-1"
    assert raw["model.arm"] == "large"
    assert "secret" not in kept["raw"] + kept["detail"]


def test_what_is_kept_of_a_bad_row_is_bounded(engine: Engine) -> None:
    row = call(1, latency_ms="x" * 200_000, status="y" * 200_000, served_model="é" * 200_000)

    found = ingest(engine, batch(frame([row])))

    (kept,) = bad_rows(engine, found)
    assert len(kept["raw"].encode()) <= 65_536
    assert len(kept["detail"]) < 500


def test_what_the_source_refused_is_set_aside_too(engine: Engine) -> None:
    reject = Reject(
        origin="log.jsonl",
        line=8,
        reason=QuarantineReason.LINE_TOO_LONG,
        detail="2000000 bytes",
        raw='{"request',
    )

    found = ingest(engine, batch(frame([call()]), rejects=[reject]))

    assert (found.n_rows, found.n_kept, found.n_quarantined) == (2, 1, 1)
    (row,) = bad_rows(engine, found)
    assert row["detail"] == "log.jsonl, line 8: 2000000 bytes"


@pytest.mark.parametrize(
    ("scale", "given", "score"),
    [(ScoreScale.UNIT, 0.25, 0.25), (ScoreScale.STARS, 4, 0.75), (ScoreScale.PERCENT, 40, 0.4)],
)
def test_scores_come_in_on_their_scale(
    engine: Engine, scale: ScoreScale, given: float, score: float
) -> None:
    rows = [
        {"request_id": "r1", "ts": call()["ts"], "score": given},
        {"request_id": "r2", "ts": call()["ts"], "score": 101},
        {"request_id": "r3", "ts": call()["ts"], "score": float("nan")},
    ]

    found = ingest(engine, batch(frame(rows), kind=Kind.FEEDBACK, mapped=Mapped(scale=scale)))

    assert spooled(engine, found, "feedback")["score"].tolist() == [score]
    assert found.by_reason == {"missing_field": 1, "out_of_range": 1}


def test_a_pattern_in_a_files_name_is_not_a_pattern(engine: Engine, tmp_path: Path) -> None:
    jsonl(tmp_path / "log1.jsonl", [call(1)])
    odd = jsonl(tmp_path / "log[1]*.jsonl", [call(2)])

    found = ingest(engine, batch(odd))

    assert list(spooled(engine, found)["request_id"]) == ["r2"]


def test_nothing_is_left_in_the_working_folder(engine: Engine, tmp_path: Path) -> None:
    found = ingest(engine, batch(jsonl(tmp_path / "log.jsonl", [call(1), "bad"])))

    left = [path for path in engine.spool.temporary.rglob("*") if path.is_file()]
    assert left == []
    assert len(of(found, "calls")) == 1
