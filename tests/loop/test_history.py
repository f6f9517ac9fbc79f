"""What an hour reads of the weeks before: their sums, and never more rows than can be borne."""

from datetime import timedelta
from pathlib import Path

import pytest

from optimizer.aggregates import SUMS, rollup
from optimizer.evidence import HISTORY_SUMS
from optimizer.loop import decide
from optimizer.metrics import HOUR_S
from rides import Ride
from rollout_scene import START, traffic

GOOD = {"small": 0.8, "large": 0.8}


@pytest.fixture
def ride(tmp_path: Path) -> Ride:
    """An hour of two arms twenty days ago, and one an hour ago."""
    ride = Ride(tmp_path)
    for age in (timedelta(days=20), timedelta(hours=1)):
        begin = START - age
        hour = rollup(traffic(begin, begin + timedelta(hours=1), quality=GOOD), HOUR_S)
        starts = hour["window_start_s"].unique().tolist()
        ride.given.ledger.aggregates.replace_windows(HOUR_S, starts, hour, clean={})
    return ride


def test_the_history_reaches_weeks_further_back_than_the_hours(ride: Ride) -> None:
    scene = decide.gather(ride.given, as_of=START)

    assert scene.history is not None
    assert list(scene.history.columns) == ["target", "arm", "window_start_s", *HISTORY_SUMS]
    assert len(scene.history) == 2 * len(scene.hours) == 4
    assert scene.history["n"].sum() == 2 * scene.hours["n"].sum()
    assert set(HISTORY_SUMS) < set(SUMS)


def test_a_history_too_large_to_bear_is_shorter(
    ride: Ride, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two rows in seven days: one a day and less is counted as one.
    monkeypatch.setattr(decide, "HISTORY_ROWS", 15)
    shorter = decide.gather(ride.given, as_of=START)
    monkeypatch.setattr(decide, "HISTORY_ROWS", 7)
    nothing = decide.gather(ride.given, as_of=START)

    assert shorter.history is not None
    assert len(shorter.history) == 2
    assert nothing.history is None
