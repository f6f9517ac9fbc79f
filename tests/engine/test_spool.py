"""The spool's files appear whole, count by the manifest, and go when nobody needs them."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from intake_scene import NOON, batch, call, engine_at, frame, ingest, jsonl, of, spooled
from optimizer.engine import Engine, EngineLimits
from optimizer.errors import ConfigError, UnavailableError
from optimizer.ports import SpoolFile


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return engine_at(tmp_path / "spool")


def ago(minutes: float) -> str:
    return (NOON - timedelta(minutes=minutes)).isoformat()


def test_a_manifest_entry_bounds_its_rows(engine: Engine) -> None:
    found = ingest(engine, batch(frame([call(1, ts=ago(30)), call(2, ts=ago(2.5))])))

    (file,) = found.files
    noon_s = int(NOON.timestamp())
    assert (file.min_s, file.max_s, file.n_rows) == (noon_s - 1800, noon_s - 150, 2)
    assert engine.spool.path(file.name).is_file()


def test_rows_lie_in_the_order_readers_prune_by(engine: Engine) -> None:
    rows = [call(i, ts=ago(i * 3 % 20 + 1), arm=["large", "small"][i % 2]) for i in range(20)]

    found = ingest(engine, batch(frame(rows)))

    kept = spooled(engine, found)
    keys = list(zip(kept["window_start_s"], kept["target"], kept["arm"], strict=True))
    assert keys == sorted(keys)


def test_a_failed_write_leaves_nothing(engine: Engine) -> None:
    def write(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    with pytest.raises(UnavailableError, match="no space left"):
        engine.spool.publish("calls", source="app", n_rows=1, min_s=0, max_s=1, write=write)

    assert [path for path in engine.spool.root.rglob("*") if path.is_file()] == []


def test_one_file_after_compaction_aggregates_to_the_same_bytes(engine: Engine) -> None:
    parts = [
        ingest(engine, batch(frame([call(i, ts=ago(i)), call(i + 50, ts=ago(i + 9))])))
        for i in range(1, 6)
    ]
    files = [file for part in parts for file in part.files]
    windows = sorted({start for part in parts for start in part.dirty_windows})
    before = engine.aggregate(windows, calls=files, feedback=())

    whole = engine.compact(files)

    assert (len(whole), whole[0].n_rows) == (1, 10)
    assert engine.aggregate(windows, calls=whole, feedback=()).equals(before)
    assert engine.aggregate(windows, calls=engine.compact(whole), feedback=()).equals(before)


def test_quarantine_files_become_one_too(engine: Engine, tmp_path: Path) -> None:
    files = [
        file
        for i in range(3)
        for file in ingest(engine, batch(jsonl(tmp_path / f"{i}.jsonl", ["junk"]))).files
    ]

    (whole,) = engine.compact(files)

    assert (whole.dataset, whole.n_rows) == ("quarantine", 3)


def test_files_of_two_datasets_do_not_become_one(engine: Engine, tmp_path: Path) -> None:
    found = ingest(engine, batch(jsonl(tmp_path / "log.jsonl", ["junk", call(1)])))

    with pytest.raises(ValueError, match="cannot become one"):
        engine.compact(found.files)


def test_a_sweep_takes_only_old_orphans(engine: Engine) -> None:
    named, orphan = (ingest(engine, batch(frame([call(i)]))).files[0] for i in (1, 2))
    left = engine.temporary / "of-a-killed-run" / "spill.tmp"
    left.parent.mkdir()
    left.touch()
    written = engine.spool.path(orphan.name).stat().st_mtime
    now = NOON.fromtimestamp(written, tz=NOON.tzinfo)

    early = engine.spool.sweep([named.name], now=now, grace=timedelta(hours=1))
    late = engine.spool.sweep([named.name], now=now + timedelta(hours=2), grace=timedelta(hours=1))

    assert (early, late) == ([], [orphan.name, left.name])
    assert engine.spool.path(named.name).is_file()


@pytest.mark.parametrize("name", ["../../etc/passwd", "calls_1_2_xyz.parquet", ""])
def test_a_name_the_spool_did_not_give_leads_nowhere(engine: Engine, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a spool file"):
        engine.spool.path(name)


def test_a_file_that_is_gone_is_unavailable(engine: Engine) -> None:
    gone = SpoolFile(
        name=f"calls_0_1_{'0' * 32}.parquet",
        dataset="calls",
        source="app",
        n_rows=1,
        min_s=0,
        max_s=1,
    )

    with pytest.raises(UnavailableError):
        engine.aggregate([0], calls=[gone], feedback=())


def test_windows_without_calls_have_no_grains(engine: Engine) -> None:
    found = ingest(engine, batch(frame([call(1)])))

    assert engine.aggregate([], calls=found.files, feedback=()).empty
    assert engine.aggregate([0], calls=found.files, feedback=()).empty
    assert of(found, "calls")


@pytest.mark.parametrize(
    "limits", [{"memory_limit_mb": 1}, {"threads": 0}, {"max_age": -timedelta(1)}]
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(limits))):
        EngineLimits(**limits)
