"""The chain of a log: its stored bytes stay what they are, and no entry changes unseen."""

from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.decision import Event, State, event_hash
from optimizer.evidence import DecisionId
from optimizer.experiment.life import Entry, ExperimentId, ExperimentState
from optimizer.recorded import IllegalTransitionError, chain_hash, check_arrow, is_chain

NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
EVENT = Event(
    decision_id=DecisionId("d-1"),
    seq=2,
    at=NOW,
    kind="transition",
    from_state=State.PENDING,
    to_state=State.VALIDATING,
    actor="optimize",
    reason="because",
    run_id="run-1",
    evidence=MappingProxyType({"shares": {"large": 0.5}}),
    prev_hash="ab",
)
ENTRY = Entry(
    experiment_id=ExperimentId("x-1"),
    seq=2,
    at=NOW,
    kind="transition",
    from_state=ExperimentState.DRAFT,
    to_state=ExperimentState.RUNNING,
    actor="optimize",
    reason="because",
    run_id="run-1",
    evidence={"shares": {"large": 0.5}},
    prev_hash="ab",
)


def test_what_earlier_releases_stored_still_hashes_to_itself() -> None:
    stored = "a4806cbac1e9d84effa99544f5179719f48adb2589c0745630b492f198ced852"
    assert event_hash(EVENT) == event_hash(replace(EVENT, hash=stored)) == stored
    stored = "98a4fcef8984b5d60f04e00bade74f5384ec7619df768e3e400baf85099e18ee"
    assert chain_hash(ENTRY) == stored


def test_what_is_no_entry_has_no_hash() -> None:
    with pytest.raises(TypeError, match="no log entry"):
        chain_hash({"seq": 1})


def log_of(reasons: list[str]) -> list[Event]:
    log: list[Event] = []
    for seq, reason in enumerate(reasons, 1):
        before = log[-1].hash if log else ""
        placed = replace(EVENT, seq=seq, reason=reason, prev_hash=before)
        log.append(replace(placed, hash=event_hash(placed)))
    return log


LOGS = st.lists(st.text(max_size=5), min_size=2, max_size=5).map(log_of)


@given(LOGS, st.data())
def test_an_entry_altered_or_left_out_is_seen(log: list[Event], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(log) - 1))
    altered = [*log[:place], replace(log[place], actor="ada"), *log[place + 1 :]]
    without = [*log[: min(place, len(log) - 2)], *log[min(place, len(log) - 2) + 1 :]]

    assert is_chain(log, ends_in=State.VALIDATING)
    assert not is_chain(altered, ends_in=State.VALIDATING)
    assert not is_chain(without, ends_in=State.VALIDATING)


@pytest.mark.parametrize("log", [[], log_of(["a", "b"])])
def test_a_log_that_stops_before_the_state_reached_is_seen(log: list[Event]) -> None:
    assert not is_chain(log, ends_in=State.COMPLETED)


def test_a_state_changes_only_along_an_arrow() -> None:
    class Light(Enum):
        RED = "red"
        GREEN = "green"

    arrows = {Light.RED: frozenset({Light.GREEN}), Light.GREEN: frozenset[Light]()}
    check_arrow("light 1", Light.RED, Light.GREEN, arrows)
    with pytest.raises(IllegalTransitionError, match="light 1: green -> red"):
        check_arrow("light 1", Light.GREEN, Light.RED, arrows)
