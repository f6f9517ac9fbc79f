"""kill -9 at every step of the effect protocol, with real processes, then the next run."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import one_tick
from killing import POINTS
from one_tick import take
from optimizer.decision import State, event_hash
from optimizer.errors import ConflictError
from optimizer.evidence import DecisionId
from optimizer.loop.reconcile import reconcile
from rides import split_traffic
from rollout_scene import HOUR, START, TARGET, acting, equipment, propose, put

SUPPORT = Path(one_tick.__file__).parent
GOOD = {"small": 0.8, "large": 0.8}
BAD = {"small": 0.5, "large": 0.8}


def kill(directory: Path, decision: str, now: datetime, run_id: str, point: str) -> int:
    """Let a process of its own take the tick and die at that point; the signal it died of."""
    command = [sys.executable, one_tick.__file__, str(directory), decision, now.isoformat()]
    path = os.pathsep.join([str(SUPPORT.parents[1]), str(SUPPORT)])
    done = subprocess.run(
        [*command, run_id, point],
        check=False,
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode < 0, done.stderr
    return -done.returncode


# The walk: (name, moment, quality of the two arms until then).
WALKS: dict[str, list[datetime]] = {
    "start": [START],
    "advance": [START, START + 1.5 * HOUR],
    "promote": [START, START + 1.5 * HOUR, START + 3 * HOUR],
    "watch": [START + x * HOUR for x in (0, 1.5, 3, 4.5)],
    "settle": [START + x * HOUR for x in (0, 1.5, 3, 4.5, 6)],
    "roll_back": [START, START + 1.5 * HOUR],
}


def prepared(tmp_path: Path, walk: str) -> tuple[Path, DecisionId, datetime]:
    """A directory in which everything but the walk's last tick has happened."""
    place = tmp_path / "walk"
    place.mkdir()
    given = equipment(place)
    reconcile(given, acting=acting(START))
    decision = propose(given, START)
    quality = BAD if walk == "roll_back" else GOOD
    promoted_at = 3 if walk == "settle" else 8
    put(given, split_traffic(quality, promoted_at=promoted_at, hours=8))
    *earlier, last = WALKS[walk]
    for index, moment in enumerate(earlier):
        take(place, decision.id, moment, f"earlier-{index}")
    return place, decision.id, last


def end_state(place: Path, decision: DecisionId) -> dict[str, Any]:
    """Everything that must be the same: decision, events, intents, gateway."""
    given = equipment(place)
    ledger = given.ledger
    events = ledger.decisions.events(decision)
    for before, after in zip([None, *events], events, strict=False):
        assert after.prev_hash == ("" if before is None else before.hash)
        assert after.hash == event_hash(after)
    held = given.gateway(TARGET).read(TARGET)
    assert held is not None
    found = asdict(ledger.decisions.get(decision))
    return {
        "decision": {k: v for k, v in found.items() if k not in TIMES},
        "events": [(e.kind, e.from_state, e.to_state, e.actor, e.reason) for e in events],
        "open": [intent.key for intent in ledger.effects.open_intents()],
        "gateway": asdict(held),
        "desired": ledger.effects.desired(TARGET),
        "baselines": dict(ledger.effects.baselines()),
    }


TIMES = {"stage_entered_at", "evidence_from", "deployed_at", "ended_at"}
"""What a later run may stamp later; a retry of the same run stamps the same."""


@pytest.fixture(scope="module", params=["start", "advance", "promote", "settle", "roll_back"])
def walked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, DecisionId, datetime, dict[str, Any]]:
    """A walk before its last tick, and the end state of an undisturbed one."""
    place, decision, last = prepared(tmp_path_factory.mktemp(request.param), request.param)
    untouched = shutil.copytree(place, place.parent / "undisturbed")
    take(untouched, decision, last, "last")
    wanted = end_state(untouched, decision)
    assert wanted["open"] == []
    return place, decision, last, wanted


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_the_next_run_ends_where_an_undisturbed_one_does(
    tmp_path: Path, walked: tuple[Path, DecisionId, datetime, dict[str, Any]], point: str
) -> None:
    before, decision, last, wanted = walked
    place = shutil.copytree(before, tmp_path / "killed")
    assert kill(place, decision, last, "last", point) == signal.SIGKILL
    other = shutil.copytree(place, tmp_path / "other")

    # A retry is the same run and holds its own lease; another run has to wait the lease out.
    take(place, decision, last, "last")
    take(other, decision, last + timedelta(minutes=10), "next", as_of=last)

    assert end_state(place, decision) == wanted
    assert end_state(other, decision) == wanted


def test_a_killed_start_is_finished_by_the_next_run(tmp_path: Path) -> None:
    place, decision, last = prepared(tmp_path, "start")
    assert kill(place, decision, last, "last", "after:apply") == signal.SIGKILL
    given = equipment(place)
    assert len(given.ledger.effects.open_intents()) == 1

    take(place, decision, last, "last")

    assert given.ledger.effects.open_intents() == []
    found = given.ledger.decisions.get(decision)
    assert (found.state, found.stage) == (State.DEPLOYING, 0)
    kinds = [(e.kind, e.to_state) for e in given.ledger.decisions.events(decision)]
    assert kinds == [
        ("transition", State.VALIDATING),
        ("transition", State.DEPLOYING),
        ("stage", State.DEPLOYING),
    ]


def test_another_run_waits_while_the_lease_of_a_killed_one_lasts(tmp_path: Path) -> None:
    place, decision, last = prepared(tmp_path, "start")
    assert kill(place, decision, last, "first", "after:begin") == signal.SIGKILL

    with pytest.raises(ConflictError, match="another run is acting"):
        take(place, decision, last + timedelta(minutes=1), "second")
    take(place, decision, last + timedelta(minutes=10), "third")

    assert equipment(place).ledger.effects.open_intents() == []
