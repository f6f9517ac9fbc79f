"""Observing: any order, split, repetition or loss of hours ends in the same bytes."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from intake_scene import NOON, NOON_S, TARGETS, ListedSource, batch, call, engine_at, frame
from optimizer import aggregates as ag
from optimizer.engine import Engine
from optimizer.errors import ConflictError, UnavailableError
from optimizer.loop import observe
from optimizer.metrics import DAY_S, GRAIN_S, HOUR_S
from optimizer.observations import Kind
from optimizer.ports import Batch, Intake, Json, Source
from optimizer.storage.ledger import SqlLedger

LATENESS = timedelta(minutes=5)
END = NOON + timedelta(hours=6)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqlLedger]:
    ledger = SqlLedger.open(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield ledger
    ledger.close()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    return engine_at(tmp_path / "spool")


def pull(
    source: Source, ledger: SqlLedger, engine: Engine, now: datetime = NOON
) -> observe.PullReport:
    return observe.pull(source, ledger=ledger, engine=engine, targets=TARGETS, prices={}, now=now)


def aggregate(ledger: SqlLedger, engine: Engine, as_of: datetime = NOON) -> observe.AggregateReport:
    return observe.aggregate(ledger, engine, as_of=as_of, lateness=LATENESS)


def stored(ledger: SqlLedger, width_s: int) -> pd.DataFrame:
    return ledger.aggregates.load(width_s, start_s=-observe.EVER_S, end_s=observe.EVER_S)


def rows(*inputs: Mapping[str, Any], kind: Kind = Kind.CALLS) -> Batch:
    return batch(frame(inputs), kind=kind)


def at(minutes: float) -> str:
    return (NOON + timedelta(minutes=minutes)).isoformat()


def score(request_id: str, minutes: float, value: float = 0.5) -> dict[str, Any]:
    return {"request_id": request_id, "ts": at(minutes), "score": value}


def test_a_pull_goes_on_where_the_last_one_ended(ledger: SqlLedger, engine: Engine) -> None:
    source = ListedSource([rows(call(1)), rows(call(2), call(1))])

    first = pull(source, ledger, engine)
    source.batches.append(rows(call(3, arm="huge"), call(4)))
    second = pull(source, ledger, engine)

    assert (first.n_batches, first.n_rows, first.n_kept, first.n_duplicates) == (2, 3, 2, 1)
    assert (second.n_rows, second.n_kept, second.by_reason) == (2, 1, {"unknown_arm": 1})
    assert ledger.intake.cursor("app").cursor == {"taken": 3}
    assert len(ledger.intake.files("calls", start_s=0, end_s=observe.EVER_S)) == 3


def test_a_source_that_fails_keeps_what_it_had_delivered(ledger: SqlLedger, engine: Engine) -> None:
    source = ListedSource([rows(call(1)), rows(call(2))], fails_at=1)

    with pytest.raises(UnavailableError):
        pull(source, ledger, engine)

    assert ledger.intake.cursor("app").cursor == {"taken": 1}
    assert source.closed == [0]
    source.fails_at = None
    assert pull(source, ledger, engine).n_kept == 1


class Overtaken(ListedSource):
    """A source that another run pulls while this one is reading."""

    def __init__(self, batches: list[Batch], ledger: SqlLedger) -> None:
        super().__init__(batches)
        self.ledger = ledger

    def pull(self, cursor: Mapping[str, Json], *, until: datetime) -> Iterator[Batch]:
        for own in super().pull(cursor, until=until):
            self.ledger.intake.commit(
                Intake(
                    source=self.name,
                    expected_version=self.ledger.intake.cursor(self.name).version,
                    cursor={"taken": 9},
                    files=(),
                    dirty_windows=frozenset(),
                    n_rows=0,
                    n_duplicates=0,
                    n_quarantined=0,
                    n_late=0,
                    newest_s=None,
                    at=until,
                )
            )
            yield own


def test_a_run_that_was_overtaken_leaves_no_file(ledger: SqlLedger, engine: Engine) -> None:
    with pytest.raises(ConflictError):
        pull(Overtaken([rows(call(1))], ledger), ledger, engine)

    assert list((engine.spool.root / "calls").iterdir()) == []
    assert ledger.intake.cursor("app").cursor == {"taken": 9}


def test_a_file_the_faster_run_named_is_not_taken_from_it(
    ledger: SqlLedger, engine: Engine
) -> None:
    slow = ListedSource([rows(call(1))])

    class Twice(ListedSource):
        def pull(self, cursor: Mapping[str, Json], *, until: datetime) -> Iterator[Batch]:
            for own in super().pull(cursor, until=until):
                pull(slow, ledger, engine)
                yield own

    with pytest.raises(ConflictError):
        pull(Twice([rows(call(1))]), ledger, engine)

    (file,) = ledger.intake.files("calls", start_s=0, end_s=observe.EVER_S)
    assert engine.spool.path(file.name).is_file()


def test_only_closed_windows_are_aggregated(ledger: SqlLedger, engine: Engine) -> None:
    pull(
        ListedSource([rows(call(1, ts=at(-11)), call(2, ts=at(-9)), call(3, ts=at(-1)))]),
        ledger,
        engine,
    )

    first = aggregate(ledger, engine)
    then = aggregate(ledger, engine, NOON + LATENESS)

    assert (first.n_windows, then.n_windows) == (2, 1)
    assert stored(ledger, GRAIN_S)["n"].sum() == 3
    assert stored(ledger, HOUR_S)["n"].tolist() == [3]
    ag.validate(stored(ledger, GRAIN_S))


def test_the_same_hour_twice_changes_nothing(ledger: SqlLedger, engine: Engine) -> None:
    source = ListedSource([rows(*(call(i, ts=at(-i)) for i in range(1, 40)))])
    pull(source, ledger, engine)
    aggregate(ledger, engine)
    before = stored(ledger, GRAIN_S), stored(ledger, HOUR_S)

    again = aggregate(ledger, engine)
    ledger.intake.mark_dirty([int(start) for start in before[0]["window_start_s"]])
    aggregate(ledger, engine)

    assert again.n_windows == 0
    assert_frame_equal(stored(ledger, GRAIN_S), before[0])
    assert_frame_equal(stored(ledger, HOUR_S), before[1])


def test_late_feedback_changes_its_calls_own_window(ledger: SqlLedger, engine: Engine) -> None:
    source = ListedSource([rows(call(1, ts=at(-120)), call(2, ts=at(-10)))])
    pull(source, ledger, engine)
    aggregate(ledger, engine)
    verdicts = ListedSource([rows(score("r1", -1, 0.75), kind=Kind.FEEDBACK)], name="judge")
    pull(verdicts, ledger, engine)

    report = aggregate(ledger, engine)

    grains = stored(ledger, GRAIN_S).set_index("window_start_s")
    assert (report.n_windows, report.n_late) == (1, 1)
    assert grains["quality_e6"].to_dict() == {NOON_S - 7_200: 750_000, NOON_S - 600: 0}
    assert stored(ledger, HOUR_S)["quality_e6"].tolist() == [750_000, 0]


def test_feedback_that_comes_before_its_call_counts_once_the_call_is_there(
    ledger: SqlLedger, engine: Engine
) -> None:
    pull(ListedSource([rows(score("r1", -5), kind=Kind.FEEDBACK)], name="judge"), ledger, engine)
    aggregate(ledger, engine)
    pull(ListedSource([rows(call(1))]), ledger, engine)

    aggregate(ledger, engine)

    assert stored(ledger, GRAIN_S)["quality_e6"].tolist() == [500_000]


def test_late_rows_are_counted_and_added(ledger: SqlLedger, engine: Engine) -> None:
    source = ListedSource([rows(call(1, ts=at(-20)), call(2, ts=at(-10)))])
    pull(source, ledger, engine)
    aggregate(ledger, engine)
    source.batches.append(rows(call(3, ts=at(-20)), call(4, ts=at(-4))))

    report = pull(source, ledger, engine)

    assert report.n_late == 1
    assert aggregate(ledger, engine).n_late == 1
    assert stored(ledger, GRAIN_S)["n"].tolist() == [2, 1]


def test_a_window_whose_rows_are_past_their_keeping_is_left_as_it_is(
    ledger: SqlLedger, engine: Engine
) -> None:
    source = ListedSource([rows(call(1, ts=at(-20)), call(2, ts=at(-20)), call(3, ts=at(-30)))])
    pull(source, ledger, engine)
    aggregate(ledger, engine)
    before = stored(ledger, GRAIN_S), stored(ledger, HOUR_S)
    files = ledger.intake.files("calls", start_s=0, end_s=observe.EVER_S)
    ledger.intake.forget([file.name for file in files])
    source.batches.append(rows(call(4, ts=at(-20))))
    pull(source, ledger, engine)

    report = aggregate(ledger, engine)

    assert report.n_left == 1
    assert_frame_equal(stored(ledger, GRAIN_S), before[0])
    assert_frame_equal(stored(ledger, HOUR_S), before[1])
    assert aggregate(ledger, engine).n_windows == 0


def test_an_hour_whose_grains_are_gone_keeps_its_sum(ledger: SqlLedger, engine: Engine) -> None:
    source = ListedSource([rows(call(1, ts=at(-50)), call(2, ts=at(-20)))])
    pull(source, ledger, engine)
    aggregate(ledger, engine)
    ledger.aggregates.prune(GRAIN_S, before_s=NOON_S)
    ledger.intake.mark_dirty([NOON_S - 1_200])

    aggregate(ledger, engine)

    assert stored(ledger, HOUR_S)["n"].tolist() == [2]


def test_days_are_sums_of_their_hours(ledger: SqlLedger, engine: Engine) -> None:
    minutes = [-60 * 14, -60 * 13, -60 * 2, -60 * 40]
    pull(ListedSource([rows(*(call(i, ts=at(m)) for i, m in enumerate(minutes)))]), ledger, engine)
    aggregate(ledger, engine)

    n_days = observe.roll_days(ledger, as_of=NOON)
    again = observe.roll_days(ledger, as_of=NOON + timedelta(days=1))

    days = stored(ledger, DAY_S)
    assert (n_days, again) == (2, 3)
    assert days["n"].tolist() == [1, 2, 1]
    assert_frame_equal(days, ag.rollup(stored(ledger, GRAIN_S), DAY_S))


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 200),  # minute of the call
        st.integers(0, 240),  # minutes until its row comes in
        st.one_of(st.none(), st.integers(0, 200)),  # minutes until its score comes in
        st.booleans(),  # whether the row is delivered twice
    ),
    min_size=1,
    max_size=25,
)


@pytest.mark.slow
@settings(max_examples=6)
@given(EVENTS, st.lists(st.integers(1, 460), max_size=6))
def test_hourly_passes_end_in_the_bytes_of_a_single_pass(
    events: list[tuple[int, int, int | None, bool]], passes: list[int]
) -> None:
    arrivals: list[tuple[float, Kind, dict[str, Any]]] = []
    for number, (minute, delay, judged, twice) in enumerate(events):
        row = call(
            number,
            ts=at(minute),
            slice=("baseline", "control", "canary")[number % 3],
            session_id=f"s{number % 4}",
            latency_ms=1.5 * number,
        )
        arrivals.append((minute + delay, Kind.CALLS, row))
        if twice:
            arrivals.append((minute + 2 * delay, Kind.CALLS, row))
        if judged is not None:
            verdict = score(f"r{number}", minute + judged, number / 25)
            arrivals.append((minute + judged, Kind.FEEDBACK, verdict))

    stepwise = outcome(arrivals, sorted({*passes, 700}))
    at_once = outcome(arrivals, [700])

    for ours, theirs in zip(stepwise, at_once, strict=True):
        assert_frame_equal(ours, theirs)
    ag.validate(at_once[0])


def outcome(
    arrivals: Sequence[tuple[float, Kind, dict[str, Any]]], passes: Sequence[int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Grains and hours after runs at these minutes, each seeing what had come in by then."""
    with TemporaryDirectory() as folder:
        ledger = SqlLedger.open(f"sqlite:///{folder}/ledger.db")
        engine = engine_at(Path(folder) / "spool")
        since = -1.0
        for minute in passes:
            now = NOON + timedelta(minutes=minute)
            for kind in Kind:
                fresh = [
                    row for come, own, row in arrivals if since < come <= minute and own is kind
                ]
                source = ListedSource([rows(*fresh, kind=kind)] if fresh else [], name=kind.value)
                source.batches = [rows()] * _taken(ledger, kind) + source.batches
                pull(source, ledger, engine, now)
            aggregate(ledger, engine, now)
            since = minute
        found = stored(ledger, GRAIN_S), stored(ledger, HOUR_S)
        ledger.close()
    return found


def _taken(ledger: SqlLedger, kind: Kind) -> int:
    return int(ledger.intake.cursor(kind.value).cursor.get("taken", 0))
