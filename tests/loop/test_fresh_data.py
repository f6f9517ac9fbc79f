"""How far the data of each target reach: a source that lags must not pass for a quiet hour."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from intake_scene import ListedSource
from optimizer.aggregates import empty
from optimizer.decision import Decision
from optimizer.evidence import Reason
from optimizer.loop.evaluate import assess, complete_until
from optimizer.ports import Intake
from rides import GOOD, Ride, after
from rollout_scene import START, TARGET, acting, put, traffic

OTHER = "other/target"


@pytest.fixture
def ride(tmp_path: Path) -> Ride:
    return Ride(tmp_path)


def source(name: str) -> ListedSource:
    listed = ListedSource([])
    listed.name = name
    return listed


def delivered(ride: Ride, name: str, newest: datetime) -> None:
    """The source exists, and its newest row is that old."""
    ride.given = replace(ride.given, sources=(*ride.given.sources, source(name)))
    ride.given.ledger.intake.commit(
        Intake(
            source=name,
            expected_version=0,
            cursor={"taken": 1},
            files=(),
            dirty_windows=frozenset(),
            n_rows=1,
            n_duplicates=0,
            n_quarantined=0,
            n_late=0,
            newest_s=int(newest.timestamp()),
            at=newest,
        )
    )


def canary(ride: Ride, *, traffic_until: datetime) -> Decision:
    """A canary whose own traffic ends there, while another target's goes on for ten hours."""
    decision = ride.to("validating")
    ride.step(decision, START)
    windows = range(int(START.timestamp()), int(after(10).timestamp()), 300)
    ride.given.ledger.aggregates.replace_windows(300, list(windows), empty(), clean={})
    own = traffic(START, traffic_until, quality=GOOD)
    other = traffic(START, after(10), quality=GOOD, rows=5).assign(target=OTHER)
    put(ride.given, pd.concat([own, other], ignore_index=True))
    return ride.get(decision)


def until(ride: Ride, decision: Decision, hours: float) -> datetime:
    return complete_until(ride.given, [decision], after(hours))[TARGET]


def test_with_fresh_sources_the_data_reach_to_the_last_closed_window(ride: Ride) -> None:
    decision = canary(ride, traffic_until=after(1))
    delivered(ride, "a", after(4))
    delivered(ride, "b", after(5))

    assert until(ride, decision, 4) == after(4) - timedelta(minutes=5)


def test_a_source_that_never_delivered_is_not_waited_for(ride: Ride) -> None:
    decision = canary(ride, traffic_until=after(1))
    delivered(ride, "a", after(4))
    ride.given = replace(ride.given, sources=(*ride.given.sources, source("new")))

    assert until(ride, decision, 4) == after(4) - timedelta(minutes=5)


def test_behind_a_lagging_source_only_a_targets_own_rows_count(ride: Ride) -> None:
    decision = canary(ride, traffic_until=after(2))
    delivered(ride, "fresh", after(4))
    delivered(ride, "lagging", after(1) + timedelta(minutes=7))

    assert until(ride, decision, 4) == after(2)


def test_a_target_without_rows_reaches_as_far_as_the_slowest_source(ride: Ride) -> None:
    decision = canary(ride, traffic_until=after(1))
    delivered(ride, "fresh", after(6))
    delivered(ride, "lagging", after(2) + timedelta(minutes=7))

    assert until(ride, decision, 6) == after(2) + timedelta(minutes=5)


def test_a_canary_behind_a_source_that_stays_away_is_held_as_stale(ride: Ride) -> None:
    decision = canary(ride, traffic_until=after(1))
    delivered(ride, "fresh", after(6))
    delivered(ride, "away", after(1))

    (found,) = assess(ride.given, acting=acting(after(6), "run"), as_of=after(6))

    assert found.verdict is not None
    assert found.verdict.reason is Reason.STALE
    assert not found.is_due
    assert ride.get(decision.id) == decision


def test_targets_with_other_reaches_are_judged_apart(ride: Ride) -> None:
    decision = canary(ride, traffic_until=after(1))
    delivered(ride, "fresh", after(1.5))
    delivered(ride, "away", after(0.5))

    (found,) = assess(ride.given, acting=acting(after(1.5), "run"), as_of=after(1.5))

    assert found.verdict is not None
    assert found.verdict.data_until == after(1)
    assert found.verdict.decision_id == decision.id
