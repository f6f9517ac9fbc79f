"""From logged chances to a refusal: calls come in, are summed, and the next proposal is told."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from intake_scene import ListedSource, batch
from optimizer.evidence import DecisionId, Impact, Proposal, ProposalId, Scene
from optimizer.loop import observe
from optimizer.loop.decide import gather
from optimizer.loop.equipment import Equipment
from optimizer.loop.explored import with_explored
from optimizer.metrics import HOUR_S
from optimizer.ports import FrameInput
from rollout_scene import HOUR, START, TARGET, acting, equipment
from tasks.decide import decide

PROPOSAL = Proposal(
    id=ProposalId("p-1"),
    strategy="cost_performance",
    target=TARGET,
    candidate="small",
    rationale="half the cost at equal quality",
    expected=Impact(cost_reduction_pct=50.0, daily_saving_usd=10.0, confidence=0.9),
    exploratory=True,
)
CALLS = 1500
"""An hour."""


def calls(
    quality: dict[str, float], *, chance: float = 0.25, hours: int = 6, stated: bool = True
) -> pd.DataFrame:
    """Calls of the hours before the start, in sessions of three."""
    rng = np.random.default_rng(1)
    size = CALLS * hours
    session = np.arange(size) // 3
    arm = np.where(rng.random(session.max() + 1) < chance, "small", "large")[session]
    hit = rng.random(size) < np.vectorize(quality.get)(arm)
    begin = START - hours * HOUR
    frame = pd.DataFrame(
        {
            "request_id": [f"r{number}" for number in range(size)],
            "ts": [
                (begin + timedelta(seconds=hours * HOUR_S * number / size)).isoformat()
                for number in range(size)
            ],
            "target": TARGET,
            "arm": arm,
            "session_id": [f"s{number}" for number in session],
            "slice": np.where(arm == "small", "canary", "baseline"),
            "status": "ok",
            "latency_ms": 300.0,
            "cost_usd": 0.002,
            "quality": hit.astype(float),
            "propensity": np.where(arm == "small", chance, 1 - chance),
        }
    )
    return frame if stated else frame.drop(columns="propensity")


def observed(directory: Path, frame: pd.DataFrame | None) -> Equipment:
    """An installation that has seen those calls."""
    given = equipment(directory)
    if frame is None:
        return given
    source = ListedSource([batch(FrameInput(frame=frame.astype("object"), origin="log"))])
    observe.pull(
        source,
        ledger=given.ledger,
        engine=given.engine,
        targets=given.targets,
        prices={},
        now=START,
    )
    observe.aggregate(given.ledger, given.engine, as_of=START, lateness=timedelta())
    return given


def decided(given: Equipment) -> tuple[str, str, int]:
    """Outcome, reason and the number of decisions of one hour's run."""
    scene = gather(given, as_of=START)
    found = decide.fn(given, scene, [PROPOSAL], acting(START), dry_run=False)
    ((_, outcome, reason),) = given.ledger.decisions.proposals(since=START)
    return outcome, reason, len(found.created)


def test_a_candidate_that_logs_show_to_be_worse_is_refused_and_the_refusal_kept(
    tmp_path: Path,
) -> None:
    outcome, reason, started = decided(observed(tmp_path, calls({"large": 0.9, "small": 0.7})))

    assert (outcome, started) == ("safety", 0)
    assert reason.startswith("in logs the quality of small is worse than that of large: gain -0.")
    assert "from 9,000 requests" in reason


def test_one_that_holds_in_logs_starts_and_says_so(tmp_path: Path) -> None:
    given = observed(tmp_path, calls({"large": 0.8, "small": 0.82}))

    outcome, reason, started = decided(given)

    assert (outcome, started) == ("accepted", 1)
    assert reason.startswith("in logs the quality of small holds against large: gain +0.")
    (decision,) = given.ledger.decisions.find()
    assert decision.reason == reason
    assert not decision.state.holds_traffic


@pytest.mark.parametrize(
    ("log", "lack"),
    [
        ({"hours": 1}, "ESS 3"),
        ({"stated": False}, "propensity unknown in 9,000 of 9,000"),
    ],
    ids=["few", "without chances"],
)
def test_one_that_logs_do_not_tell_of_starts_and_says_what_they_lack(
    tmp_path: Path, log: dict[str, Any], lack: str
) -> None:
    given = observed(tmp_path, calls({"large": 0.9, "small": 0.7}, **log))

    outcome, reason, started = decided(given)

    assert (outcome, started) == ("accepted", 1)
    assert lack in reason
    assert "more explored requests would do" in reason


def test_one_that_never_served_starts_without_a_word(tmp_path: Path) -> None:
    assert decided(observed(tmp_path, None)) == ("accepted", "", 1)


def test_the_same_hour_twice_says_the_same(tmp_path: Path) -> None:
    given = observed(tmp_path, calls({"large": 0.9, "small": 0.7}))

    assert decided(given) == decided(given)


def seen(
    given: Equipment, scene: Scene, proposals: tuple[Proposal, ...] = (PROPOSAL,)
) -> list[int]:
    """Hours back from the start that were read."""
    found = with_explored(given, scene, proposals).explored
    starts = {int(start) for rows in found.values() for start in rows["hour_start_s"]}
    return [int((START.timestamp() - start) / HOUR_S) for start in sorted(starts)]


def test_nothing_is_read_that_cannot_matter(tmp_path: Path) -> None:
    given = observed(tmp_path, calls({"large": 0.9, "small": 0.7}, hours=4))
    scene = gather(given, as_of=START)
    busy = replace(scene, in_flight={TARGET: DecisionId("d-1")})

    assert seen(given, scene) == [4, 3, 2, 1]
    assert seen(given, scene, ()) == []
    assert seen(given, busy) == []
    assert seen(given, replace(scene, paused=frozenset({TARGET}))) == []
    assert seen(given, scene, (replace(PROPOSAL, target="elsewhere"),)) == []


def test_labels_that_are_not_mature_and_rows_the_spool_may_have_dropped_are_not_read(
    tmp_path: Path,
) -> None:
    given = observed(tmp_path, calls({"large": 0.9, "small": 0.7}, hours=4))
    scene = gather(given, as_of=START)
    young = replace(scene.policies[TARGET], label_maturity=2 * HOUR)

    assert seen(given, replace(scene, policies={TARGET: young})) == [4, 3]
    assert seen(replace(given, feedback_horizon=2 * HOUR), scene) == [2, 1]
