"""Housekeeping: what is past its keeping goes, evidence and the record stay, tampering is seen."""

import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest

from intake_scene import ListedSource, batch, call, frame
from optimizer.loop import keep, observe
from optimizer.metrics import DAY_S, GRAIN_S, HOUR_S
from rides import GOOD, Ride, after
from rollout_scene import START, TARGET, put, target, traffic

DAY = timedelta(days=1)


@pytest.fixture
def ride(tmp_path: Path) -> Ride:
    return Ride(tmp_path)


def oldest_s(ride: Ride, width_s: int) -> int:
    frame = ride.given.ledger.aggregates.load(width_s, start_s=0, end_s=1 << 40)
    return int(frame["window_start_s"].min())


def prune(ride: Ride, *, days: float) -> dict[str, int]:
    return keep.prune(
        ride.given, START + days * DAY, grains=7 * DAY, hours=30 * DAY, days=365 * DAY
    )


@pytest.mark.slow
def test_grains_past_their_keeping_go(ride: Ride) -> None:
    put(ride.given, traffic(START - 3 * DAY, START - 3 * DAY + DAY / 24, quality=GOOD, rows=5))
    put(ride.given, traffic(START, after(1), quality=GOOD, rows=5))

    removed = prune(ride, days=6)

    assert removed["grains"] == 24
    assert oldest_s(ride, GRAIN_S) == START.timestamp()
    assert prune(ride, days=6) == {"grains": 0, "hours": 0, "days": 0}


def test_hours_are_summed_into_days_before_they_go(ride: Ride) -> None:
    hour = traffic(START, START + timedelta(minutes=5), quality=GOOD, rows=5)
    ride.given.ledger.aggregates.replace_windows(HOUR_S, [int(START.timestamp())], hour, clean={})

    prune(ride, days=2)
    removed = prune(ride, days=40)

    assert removed["hours"] == 2
    days = ride.given.ledger.aggregates.load(DAY_S, start_s=0, end_s=1 << 40)
    assert days["n"].sum() == hour["n"].sum()


@pytest.mark.slow
def test_the_evidence_of_what_is_in_flight_is_kept(ride: Ride) -> None:
    decision = ride.to("canary")

    assert prune(ride, days=12)["grains"] == 0

    ride.step(decision, START + 12 * DAY)  # it has expired by then
    assert ride.get(decision).state.is_final
    assert prune(ride, days=12)["grains"] > 0


def pulled(ride: Ride, *minutes: int) -> None:
    """A file for each pull, a row in each."""
    target_ = target()
    rows = [
        call(
            minute,
            target=TARGET,
            ts=(START + timedelta(minutes=minute)).isoformat(),
        )
        for minute in minutes
    ]
    source = ListedSource([batch(frame([row])) for row in rows])
    observe.pull(
        source,
        ledger=ride.given.ledger,
        engine=ride.given.engine,
        targets={TARGET: target_},
        prices={},
        now=after(2),
    )


def test_small_files_of_a_closed_day_are_merged_and_old_rows_forgotten(ride: Ride) -> None:
    pulled(ride, *range(10))

    merged = keep.compact(ride.given, START + DAY)
    again = keep.compact(ride.given, START + DAY)
    waiting = keep.compact(ride.given, START + 10 * DAY)
    engine, ledger = ride.given.engine, ride.given.ledger
    observe.aggregate(ledger, engine, as_of=START + DAY, lateness=timedelta(0))
    forgotten = keep.compact(ride.given, START + 10 * DAY)

    assert (merged["merged"], merged["forgotten"]) == (9, 0)
    assert (again["merged"], again["forgotten"]) == (0, 0)
    assert waiting["forgotten"] == 0  # its windows were never aggregated
    assert forgotten["forgotten"] == 1
    assert ride.given.ledger.intake.files("calls", start_s=0, end_s=1 << 40) == ()


def test_merged_files_hold_the_same_rows(ride: Ride) -> None:
    pulled(ride, *range(10))
    observe.aggregate(
        ride.given.ledger, ride.given.engine, as_of=after(2), lateness=timedelta(minutes=5)
    )
    before = ride.given.ledger.aggregates.load(GRAIN_S, start_s=0, end_s=1 << 40)

    keep.compact(ride.given, START + DAY)
    ride.given.ledger.intake.mark_dirty([int(start) for start in before["window_start_s"]])
    observe.aggregate(
        ride.given.ledger, ride.given.engine, as_of=after(3), lateness=timedelta(minutes=5)
    )

    after_ = ride.given.ledger.aggregates.load(GRAIN_S, start_s=0, end_s=1 << 40)
    assert after_.equals(before)
    assert before["n"].sum() == 10


TAMPERINGS = {
    "reason": "UPDATE decision_events SET reason = 'nothing happened' WHERE seq = 2",
    "actor": "UPDATE decision_events SET actor = 'somebody else' WHERE seq = 1",
    "evidence": "UPDATE decision_events SET evidence = '{}' WHERE seq = 2",
    "middle": "DELETE FROM decision_events WHERE seq = 2",
    "first": "DELETE FROM decision_events WHERE seq = 1",
    "end": "DELETE FROM decision_events WHERE seq >= 5",
    "all": "DELETE FROM decision_events",
}


def tamper(ride: Ride, statement: str) -> None:
    with sqlite3.connect(ride.directory / "ledger.db") as connection:
        triggers = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'decision_events'"
        ).fetchall()
        assert triggers
        for (name,) in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement).rowcount > 0


@pytest.mark.parametrize("kind", TAMPERINGS)
def test_a_changed_record_is_reported(ride: Ride, kind: str) -> None:
    decision = ride.to("deployed")
    assert keep.broken_chains(ride.given) == []

    tamper(ride, TAMPERINGS[kind])

    assert keep.broken_chains(ride.given) == [decision]


def test_the_record_cannot_be_changed_by_accident(ride: Ride) -> None:
    ride.to("canary")

    with (
        sqlite3.connect(ride.directory / "ledger.db") as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        connection.execute(TAMPERINGS["reason"])
