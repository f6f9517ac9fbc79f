"""Quarantined rows can be listed, tried again, and leave once they are taken in."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from intake_scene import NOON, TARGETS, ListedSource, batch, call, engine_at, frame, jsonl
from optimizer.engine import Engine, Replayed
from optimizer.errors import ConflictError
from optimizer.loop import observe, quarantine
from optimizer.observations import Kind, QuarantineReason
from optimizer.ports import Batch, Mapped, Reject
from optimizer.storage.ledger import SqlLedger
from optimizer.targets import Arm, ModelConfig, Target

CHAT = TARGETS["chat"]
GROWN: Mapping[str, Target] = {
    "chat": replace(CHAT, arms=(*CHAT.arms, Arm(name="huge", config=ModelConfig(model="gpt-huge"))))
}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqlLedger]:
    ledger = SqlLedger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield ledger
    ledger.close()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return engine_at(tmp_path / "spool")


def pull(ledger: SqlLedger, engine: Engine, *batches: Batch, name: str = "app") -> None:
    taken = ledger.intake.cursor(name).cursor.get("taken", 0)
    source = ListedSource([batch()] * taken + list(batches), name=name)
    observe.pull(source, ledger=ledger, engine=engine, targets=TARGETS, prices={}, now=NOON)


def replay(
    ledger: SqlLedger,
    engine: Engine,
    targets: Mapping[str, Target] = TARGETS,
    **choice: Any,  # noqa: ANN401 - what narrows or mends a replay
) -> quarantine.ReplayReport:
    return quarantine.replay(ledger, engine, targets=targets, prices={}, now=NOON, **choice)


def n_calls(ledger: SqlLedger) -> int:
    return sum(file.n_rows for file in ledger.intake.files("calls", start_s=0, end_s=1 << 40))


def test_groups_say_what_is_wrong_and_how_often(ledger: SqlLedger, engine: Engine) -> None:
    pull(ledger, engine, batch(frame([call(1, arm="huge"), call(2, arm="huge"), call(3, ts="x")])))

    groups = quarantine.list_groups(ledger, engine)

    assert [(g.source, g.reason, g.n_rows) for g in groups] == [
        ("app", "unknown_arm", 2),
        ("app", "bad_timestamp", 1),
    ]
    assert groups[0].newest == NOON
    assert "'huge'" in groups[0].example


def test_rows_can_be_picked_by_source_and_reason(ledger: SqlLedger, engine: Engine) -> None:
    pull(ledger, engine, batch(frame([call(1, arm="huge"), call(2, ts="x")])))

    rows = quarantine.list_rows(ledger, engine, reason="bad_timestamp")

    assert [(row.kind, row.origin, row.line) for row in rows] == [("calls", "table", None)]
    assert quarantine.list_rows(ledger, engine, source="other") == ()
    assert len(quarantine.list_rows(ledger, engine, limit=1)) == 1


def test_a_row_that_passes_now_is_taken_in_and_leaves(ledger: SqlLedger, engine: Engine) -> None:
    pull(ledger, engine, batch(frame([call(1, arm="huge"), call(2, ts="x"), call(3)])))

    report = replay(ledger, engine, targets=GROWN)

    assert (report.n_tried, report.n_passed, report.n_failed) == (2, 1, 1)
    assert n_calls(ledger) == 2
    assert [row.reason for row in quarantine.list_rows(ledger, engine)] == ["bad_timestamp"]
    assert observe.aggregate(ledger, engine, as_of=NOON, lateness=NOON - NOON).n_windows == 1


def test_trying_twice_changes_nothing(ledger: SqlLedger, engine: Engine) -> None:
    pull(ledger, engine, batch(frame([call(1, arm="huge"), call(2, ts="x")])))
    replay(ledger, engine, targets=GROWN)

    again = replay(ledger, engine, targets=GROWN)

    assert (again.n_tried, again.n_passed, again.n_failed) == (1, 0, 1)
    assert n_calls(ledger) == 1


def test_a_row_that_fails_again_has_its_newest_reason(ledger: SqlLedger, engine: Engine) -> None:
    pull(ledger, engine, batch(frame([call(1, arm="huge", latency_ms=-1)])))

    replay(ledger, engine, targets=GROWN)

    (row,) = quarantine.list_rows(ledger, engine)
    assert row.reason == "out_of_range"
    assert "latency_ms = '-1'" in row.detail


def test_a_mapping_that_was_mended_lets_rows_in(ledger: SqlLedger, engine: Engine) -> None:
    mapped = Mapped(columns={"ts": "when"})
    row = {"when": "2026-03-10T12:50:00", "target": "chat", "arm": "large", "prompt": "secret"}
    pull(ledger, engine, batch(frame([row]), mapped=mapped))

    before = replay(ledger, engine)
    mended = replay(ledger, engine, mapped={"app": replace(mapped, timezone="Europe/Paris")})

    assert (before.n_failed, mended.n_passed) == (1, 1)
    assert quarantine.list_groups(ledger, engine) == ()


def test_only_what_is_chosen_is_tried(ledger: SqlLedger, engine: Engine) -> None:
    pull(ledger, engine, batch(frame([call(1, arm="huge"), call(2, ts="x")])))

    by_reason = replay(ledger, engine, targets=GROWN, reasons=["bad_timestamp"])
    by_source = replay(ledger, engine, targets=GROWN, sources=["other"])

    assert (by_reason.n_tried, by_source.n_tried) == (1, 0)
    assert n_calls(ledger) == 0


def test_feedback_is_replayed_as_feedback(ledger: SqlLedger, engine: Engine) -> None:
    pull(ledger, engine, batch(frame([call(1)])))
    verdict = {"request_id": "r1", "ts": "2026-03-10T11:55:00", "score": 1}
    pull(ledger, engine, batch(frame([verdict]), kind=Kind.FEEDBACK), name="judge")
    observe.aggregate(ledger, engine, as_of=NOON, lateness=NOON - NOON)

    report = replay(ledger, engine, mapped={"judge": Mapped(timezone="UTC")})

    observe.aggregate(ledger, engine, as_of=NOON, lateness=NOON - NOON)
    grains = ledger.aggregates.load(300, start_s=0, end_s=1 << 40)
    assert report.n_passed == 1
    assert grains["quality_e6"].tolist() == [1_000_000]


def test_a_row_that_came_in_meanwhile_is_only_removed(ledger: SqlLedger, engine: Engine) -> None:
    pull(ledger, engine, batch(frame([call(1, arm="huge")])), batch(frame([call(1)])))

    report = replay(ledger, engine, targets=GROWN)

    assert (report.n_passed, report.n_duplicates) == (0, 1)
    assert n_calls(ledger) == 1
    assert quarantine.list_groups(ledger, engine) == ()


def test_lines_and_files_that_could_not_be_read_are_not_tried(
    ledger: SqlLedger, engine: Engine, tmp_path: Path
) -> None:
    broken = Reject(
        origin="x.parquet", line=None, reason=QuarantineReason.UNREADABLE_FILE, detail="cut off"
    )
    pull(ledger, engine, batch(jsonl(tmp_path / "log.jsonl", ["junk"]), rejects=[broken]))

    report = replay(ledger, engine)

    assert report.n_tried == 0
    assert len(quarantine.list_rows(ledger, engine)) == 2


def test_a_file_is_read_again_once_its_source_forgets_it(ledger: SqlLedger, engine: Engine) -> None:
    broken = Reject(
        origin="x.parquet", line=None, reason=QuarantineReason.UNREADABLE_FILE, detail="cut off"
    )
    pull(ledger, engine, batch(frame([call(1, ts="x")]), rejects=[broken]))

    quarantine.reread(
        ledger,
        engine,
        source="app",
        origin="x.parquet",
        forget=lambda cursor, origin: {**cursor, "without": origin},
        now=NOON,
    )

    assert ledger.intake.cursor("app").cursor == {"taken": 1, "without": "x.parquet"}
    assert [row.reason for row in quarantine.list_rows(ledger, engine)] == ["bad_timestamp"]


def test_a_replay_that_was_overtaken_changes_nothing(ledger: SqlLedger, engine: Engine) -> None:
    pull(ledger, engine, batch(frame([call(1, arm="huge")])))

    class Slow(Engine):
        def replay(self, *args: Any, **kwargs: Any) -> Replayed:  # noqa: ANN401 - handed on
            found = super().replay(*args, **kwargs)
            replay(ledger, engine, targets=GROWN)
            return found

    with pytest.raises(ConflictError):
        replay(ledger, Slow(spool=engine.spool, limits=engine.limits), targets=GROWN)

    assert n_calls(ledger) == 1
