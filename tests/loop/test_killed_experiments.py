"""kill -9 at every step of an experiment's way, with real processes, then the next run."""

import os
import shutil
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import one_trial
from experiment_scene import served, store, trial
from one_trial import ASKED, take
from optimizer.loop.keep import broken_experiments
from optimizer.loop.reconcile import reconcile
from optimizer.storage.codec import encode
from rollout_scene import HOUR, START, TARGET, acting

SUPPORT = Path(one_trial.__file__).parent
POINTS = [
    (f"{when}:{call}", nth)
    for call, times in (("update", 2), ("begin", 1), ("apply", 1), ("finish", 1))
    for when in ("before", "after")
    for nth in range(1, times + 1)
]
# The walk: what its grains are, and when its last run is; the runs before are each hour from START.
WALKS: dict[str, tuple[dict[str, Any], datetime]] = {
    "start": ({"quality": dict.fromkeys(("large", "small", "mini"), 0.8)}, START),
    "shift": ({"quality": {"large": 0.8, "small": 0.8, "mini": 0.4}}, START + 2 * HOUR),
    "drop": (
        {
            "quality": dict.fromkeys(("large", "small", "mini"), 0.8),
            "failures": {"mini": 0.3},
        },
        START + HOUR,
    ),
    "complete": ({"quality": {"large": 0.6, "small": 0.9, "mini": 0.6}}, START + 2 * HOUR),
}
TIMES = {"started_at", "running_since", "evidence_from", "ended_at"}
"""What a later run may stamp later; a retry of the same run stamps the same."""


def kill(directory: Path, now: datetime, run_id: str, point: str, nth: int) -> int:
    """Let a process of its own take the run and die at that point; its return code."""
    command = [sys.executable, one_trial.__file__, str(directory), now.isoformat(), run_id]
    path = os.pathsep.join([str(SUPPORT.parents[1]), str(SUPPORT)])
    done = subprocess.run(
        [*command, point, str(nth)],
        check=False,
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    return done.returncode


def end_state(place: Path) -> dict[str, Any]:
    """Everything that must be the same: the experiment, its log, intents, gateway."""
    given = trial(place, ASKED)
    ledger = given.ledger
    (found,) = ledger.experiments.find(target=TARGET)
    assert broken_experiments(given) == []
    held = given.gateway(TARGET).read(TARGET)
    assert held is not None
    log = ledger.experiments.entries(found.id)
    return {
        "experiment": {k: v for k, v in encode(found).items() if k not in TIMES},
        "log": [(e.kind, e.from_state, e.to_state, e.reason) for e in log],
        "open": [intent.key for intent in ledger.effects.open_intents()],
        "split": (held.salt, held.slices, held.generation),
        "desired": ledger.effects.desired(TARGET),
    }


@pytest.fixture(scope="module", params=list(WALKS))
def walked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, datetime, dict[str, Any]]:
    """A walk before its last run, and the end state of an undisturbed one."""
    grains, last = WALKS[request.param]
    place = tmp_path_factory.mktemp(request.param) / "walk"
    place.mkdir()
    given = trial(place, ASKED)
    store(given, served(3, **grains))
    moment = START
    reconcile(given, acting=acting(START, "first"))
    while moment < last:
        take(place, moment, f"run-{moment:%H}")
        moment += HOUR
    untouched = shutil.copytree(place, place.parent / "undisturbed")
    take(untouched, last, "last")
    wanted = end_state(untouched)
    assert wanted["open"] == []
    assert len(wanted["log"]) > 1
    return place, last, wanted


@pytest.mark.slow
@pytest.mark.parametrize(("point", "nth"), POINTS)
def test_the_next_run_ends_where_an_undisturbed_one_does(
    tmp_path: Path, walked: tuple[Path, datetime, dict[str, Any]], point: str, nth: int
) -> None:
    before, last, wanted = walked
    place = shutil.copytree(before, tmp_path / "killed")
    kill(place, last, "last", point, nth)
    other = shutil.copytree(place, tmp_path / "other")

    # A retry is the same run and holds its own lease; another run has to wait the lease out.
    take(place, last, "last")
    take(other, last + timedelta(minutes=10), "next", as_of=last)

    assert end_state(place) == wanted
    assert end_state(other) == wanted
