"""Files that are cut off, changed or strange stop no other file; each format reads the same."""

import gzip
import json
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from intake_scene import bad_rows, batch, call, csv_file, engine_at, ingest, jsonl, spooled
from optimizer.engine import Engine
from optimizer.ports import FileInput, FrameInput, Mapped


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return engine_at(tmp_path / "spool")


def test_ragged_csv_lines_are_set_aside_with_their_line(engine: Engine, tmp_path: Path) -> None:
    ts = call()["ts"]
    text = (
        "request_id,ts,target,arm,latency_ms,note\n"
        f"r1,{ts},chat,large,100,plain\n"
        f"r2,{ts},chat,large\n"
        f'r3,{ts},chat,large,100,"two\nlines"\n'
        "\n"
        f"r4,{ts},chat,large,100,a,b\n"
        f"r5,{ts},chat,large,-1,negative\n"
        f"r6,{ts},chat,large,100,good\n"
    )

    found = ingest(engine, batch(csv_file(tmp_path / "log.csv", text)))

    assert list(spooled(engine, found)["request_id"]) == ["r1", "r3", "r6"]
    rows = bad_rows(engine, found)
    assert [(row["line"], row["reason"]) for row in rows] == [
        (3, "bad_line"),
        (7, "bad_line"),
        (8, "out_of_range"),
    ]
    assert rows[0]["raw"].startswith("r2,")


def test_a_csv_piece_names_the_lines_of_its_origin(engine: Engine, tmp_path: Path) -> None:
    text = f"request_id,ts,target,arm\nr1,{call()['ts']},chat,large\nr2,never,chat,large\n"

    found = ingest(engine, batch(csv_file(tmp_path / "piece.csv", text, first_line=1001)))

    assert [row["line"] for row in bad_rows(engine, found)] == [1002]


def test_an_unpaired_quote_takes_no_other_line_with_it(engine: Engine, tmp_path: Path) -> None:
    ts = call()["ts"]
    text = (
        "request_id,ts,target,arm\n"
        f"r1,{ts},chat,large\n"
        f'r2,{ts},"chat,large\n'
        f"r3,{ts},chat,large\n"
        f'r4,{ts},"chat,large\n'
        f"r5,{ts},chat,large\n"
    )

    found = ingest(engine, batch(csv_file(tmp_path / "log.csv", text)))

    assert list(spooled(engine, found)["request_id"]) == ["r1", "r3", "r5"]
    assert [row["line"] for row in bad_rows(engine, found)] == [3, 5]


def test_a_csv_with_a_changed_header_is_refused_as_a_whole(engine: Engine, tmp_path: Path) -> None:
    ts = call()["ts"]
    changed = csv_file(tmp_path / "new.csv", f"request_id,when,target,arm\nr1,{ts},chat,large\n")
    good = csv_file(tmp_path / "old.csv", f"arm;target;ts;request_id\nlarge;chat;{ts};r2\n")

    found = ingest(engine, batch(changed, good))

    assert list(spooled(engine, found)["request_id"]) == ["r2"]
    (row,) = bad_rows(engine, found)
    assert row["reason"] == "bad_header"
    assert row["origin"] == "new.csv"
    assert "'ts' (ts)" in row["detail"]
    assert "arm, request_id, target, when" in row["detail"]


def test_invalid_utf8_in_a_csv_is_one_bad_line(engine: Engine, tmp_path: Path) -> None:
    ts = call()["ts"].encode()
    text = (
        b"request_id,ts,target,arm\nr1,"
        + ts
        + b",chat,large\nr\xff,"
        + ts
        + b",chat,large\nr3,"
        + ts
        + b",chat,large\n"
    )

    found = ingest(engine, batch(csv_file(tmp_path / "log.csv", text)))

    assert list(spooled(engine, found)["request_id"]) == ["r1", "r3"]
    assert [(row["line"], row["reason"]) for row in bad_rows(engine, found)] == [(3, "bad_line")]


def parquet(path: Path, query: str) -> FileInput:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return FileInput(path=path, format="parquet", origin=path.name)


GOOD = "'chat' AS target, 'large' AS arm"


def test_a_truncated_parquet_file_stops_no_other(engine: Engine, tmp_path: Path) -> None:
    broken = parquet(tmp_path / "a.parquet", f"SELECT 1773143400 AS ts, {GOOD}")
    broken.path.write_bytes(broken.path.read_bytes()[:-30])
    gone = FileInput(path=tmp_path / "gone.parquet", format="parquet", origin="gone.parquet")
    good = parquet(tmp_path / "b.parquet", f"SELECT 7 AS request_id, 1773143400 AS ts, {GOOD}")

    found = ingest(engine, batch(broken, gone, good))

    assert list(spooled(engine, found)["request_id"]) == ["7"]
    rows = bad_rows(engine, found)
    assert [(row["origin"], row["reason"]) for row in rows] == [
        ("a.parquet", "unreadable_file"),
        ("gone.parquet", "unreadable_file"),
    ]


def test_a_truncated_gzip_stops_no_other(engine: Engine, tmp_path: Path) -> None:
    good = jsonl(tmp_path / "b.jsonl", [call(9)])
    packed = tmp_path / "a.jsonl.gz"
    lines = "".join(json.dumps(call(i)) + "\n" for i in range(500))
    whole = tmp_path / "c.jsonl.gz"
    whole.write_bytes(gzip.compress(json.dumps(call(10)).encode()))
    packed.write_bytes(gzip.compress(lines.encode())[:-40])

    found = ingest(
        engine,
        batch(
            FileInput(path=packed, format="jsonl", origin="a"),
            FileInput(path=whole, format="jsonl", origin="c"),
            good,
        ),
    )

    assert {"r9", "r10"} <= set(spooled(engine, found)["request_id"])
    assert "unreadable_file" in found.by_reason


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_empty_file_is_no_rows(engine: Engine, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"empty.{kind}"
    path.touch()

    found = ingest(engine, batch(FileInput(path=path, format=kind, origin="empty")))

    assert (found.n_rows, found.files) == (0, ())


def test_a_header_alone_and_an_empty_frame_are_no_rows(engine: Engine, tmp_path: Path) -> None:
    header = csv_file(tmp_path / "header.csv", "request_id,ts,target,arm\n")

    found = ingest(engine, batch(header, FrameInput(frame=pd.DataFrame(), origin="empty")))

    assert found.n_rows == 0


@pytest.mark.parametrize(
    ("ts", "timezone"),
    [
        ("TIMESTAMPTZ '2026-03-10 11:50:00+00'", None),
        ("TIMESTAMP '2026-03-10 11:50:00'", "UTC"),
        ("TIMESTAMP_NS '2026-03-10 12:50:00'", "Europe/Paris"),
        ("1773143400::INTEGER", None),
        ("1773143400000::BIGINT", None),
        ("1773143400.0::DOUBLE", None),
    ],
)
def test_parquet_types_all_read_the_same(
    engine: Engine, tmp_path: Path, ts: str, timezone: str | None
) -> None:
    query = f"SELECT {ts} AS ts, {GOOD}, 200::SMALLINT AS status, {{'ms': 5::TINYINT}} AS t"
    mapped = Mapped(columns={"latency_ms": "t.ms"}, timezone=timezone)

    found = ingest(engine, batch(parquet(tmp_path / "x.parquet", query), mapped=mapped))

    rows = spooled(engine, found)
    assert rows["window_start_s"].tolist() == [1773143400]
    assert rows["latency_us"].tolist() == [5000]
    assert rows["failed"].tolist() == [False]


def test_a_naive_parquet_time_without_a_configured_zone_is_set_aside(
    engine: Engine, tmp_path: Path
) -> None:
    query = f"SELECT TIMESTAMP '2026-03-10 11:50:00' AS ts, {GOOD}"

    found = ingest(engine, batch(parquet(tmp_path / "x.parquet", query)))

    assert found.by_reason == {"no_time_zone": 1}
    assert bad_rows(engine, found)[0]["line"] == 1
