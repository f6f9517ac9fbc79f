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

from killing import POINTS
from optimizer.decision import State, event_hash
from optimizer.loop.reconcile import reconcile
from rollout_scene import HOUR, START, TARGET, acting, equipment, propose, put, traffic

SUPPORT = Path(__file__).parents[1] / "support"
ROOT = SUPPORT.parents[1]
GOOD = {"small": 0.8, "large": 0.8}
BAD = {"small": 0.5, "large": 0.8}


def run(directory: Path, decision: str, now: datetime, run_id: str, point: str = "") -> int:
    """Take one tick in a process of its own; its exit code, negative = the signal it died of."""
    command = [sys.executable, str(SUPPORT / "one_tick.py"), str(directory), decision]
    command += [now.isoformat(), run_id, *([point] if point else [])]
    path = os.pathsep.join([str(ROOT), str(SUPPORT)])
    done = subprocess.run(
        command, check=False, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    if done.returncode not in {0, 3, -signal.SIGKILL}:
        raise AssertionError(done.stderr)
    return done.returncode


# The walk: (name, moment, quality of the two arms until then).
WALKS: dict[str, list[datetime]] = {
    "start": [START],
    "advance": [START, START + 1.5 * HOUR],
    "promote": [START, START + 1.5 * HOUR, START + 3 * HOUR],
    "watch": [START + x * HOUR for x in (0, 1.5, 3, 4.5)],
    "settle": [START + x * HOUR for x in (0, 1.5, 3, 4.5, 6)],
    "roll_back": [START, START + 1.5 * HOUR],
}


def prepared(tmp_path: Path, walk: str) -> tuple[Path, str, datetime]:
    """A directory in which everything but the walk's last tick has happened."""
    place = tmp_path / "walk"
    place.mkdir()
    given = equipment(place)
    reconcile(given, acting=acting(START))
    decision = propose(given, START)
    quality = BAD if walk == "roll_back" else GOOD
    put(given, traffic(START, START + 8 * HOUR, quality=quality))
    *earlier, last = WALKS[walk]
    for index, moment in enumerate(earlier):
        assert run(place, decision.id, moment, f"earlier-{index}") == 0
    return place, decision.id, last


def end_state(place: Path, decision: str) -> dict[str, Any]:
    """Everything that must be the same: decision, events, intents, gateway; without chain and run."""
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
        "desired": asdict(ledger.effects.desired(TARGET)),  # type: ignore[call-overload] - not None
        "baselines": dict(ledger.effects.baselines()),
    }


TIMES = {"stage_entered_at", "evidence_from", "deployed_at", "ended_at"}
"""What a later run may stamp later; a retry of the same run stamps the same."""


@pytest.mark.slow
@pytest.mark.parametrize("later", [False, True], ids=["same-run-retried", "next-run"])
@pytest.mark.parametrize("walk", ["start", "advance", "promote", "settle", "roll_back"])
def test_the_next_run_ends_where_an_undisturbed_one_does(
    tmp_path: Path, walk: str, later: bool
) -> None:
    place, decision, last = prepared(tmp_path, walk)
    untouched = tmp_path / "undisturbed"
    shutil.copytree(place, untouched)
    assert run(untouched, decision, last, "last") == 0
    wanted = end_state(untouched, decision)
    assert wanted["open"] == []

    for point in POINTS:
        killed = tmp_path / point.replace(":", "-")
        shutil.copytree(place, killed)
        assert run(killed, decision, last, "last", point) == -signal.SIGKILL, point
        # A retry is the same run and holds its own lease; the next run waits the lease out.
        moment = last + timedelta(minutes=10) if later else last
        assert run(killed, decision, moment, "next" if later else "last") == 0

        assert end_state(killed, decision) == wanted, point
        shutil.rmtree(killed)


def test_a_killed_start_is_finished_by_the_next_run(tmp_path: Path) -> None:
    place, decision, last = prepared(tmp_path, "start")
    assert run(place, decision, last, "last", "after:apply") == -signal.SIGKILL
    given = equipment(place)
    assert len(given.ledger.effects.open_intents()) == 1

    assert run(place, decision, last, "last") == 0

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
    assert run(place, decision, last, "first", "after:begin") == -signal.SIGKILL

    assert run(place, decision, last + timedelta(minutes=1), "second") == 3
    assert run(place, decision, last + timedelta(minutes=10), "third") == 0

    assert equipment(place).ledger.effects.open_intents() == []
