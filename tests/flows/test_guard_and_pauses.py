"""The guard only protects; a pause or a freeze stops everything but protection."""

from datetime import timedelta
from pathlib import Path

import pytest

from flow_scene import LIMITS, Installation, installed
from optimizer.evidence import DecisionId
from rollout_scene import HOUR, START, TARGET, propose, put, traffic

pytestmark = pytest.mark.usefixtures("prefect_harness", "closed_afterwards")

GOOD = {"small": 0.8, "large": 0.8}
BAD = {"small": 0.5, "large": 0.8}


def in_canary(place: Path, *, limits: str = LIMITS) -> tuple[Installation, DecisionId]:
    """A canary in its first stage, started by the hourly flow."""
    given = installed(place, limits=limits)
    given.optimize(START)
    decision = propose(given.equipment, START).id
    given.optimize(START)
    assert given.shares() == {"small": 0.1, "large": 0.9}
    return given, decision


def test_the_guard_returns_a_harmful_canary_to_the_snapshot(tmp_path: Path) -> None:
    given, decision = in_canary(tmp_path)
    put(given.equipment, traffic(START, START + HOUR, quality=BAD))
    before = given.held().generation

    result = given.guard(START + HOUR)

    assert result["started"] == {decision: "rolled_back"}
    assert given.shares() == {"large": 1.0}
    assert given.held().generation > before
    assert given.transitions(decision)[-2:] == ["rolling_back", "rolled_back"]
    assert given.equipment.ledger.effects.baselines() == {}
    assert "quality" in given.decision(decision).reason


def test_the_guard_never_advances(tmp_path: Path) -> None:
    given, decision = in_canary(tmp_path)
    put(given.equipment, traffic(START, START + 2 * HOUR, quality=GOOD))

    result = given.guard(START + 2 * HOUR)

    assert (result["moves"], result["started"]) == ({"hold": 1}, {})
    assert given.shares() == {"small": 0.1, "large": 0.9}
    given.optimize(START + 2 * HOUR)
    assert given.shares() == {"small": 0.5, "large": 0.5}
    assert given.decision(decision).stage == 1


@pytest.mark.parametrize("paused", [TARGET, pytest.param(None, marks=pytest.mark.slow)])
def test_a_pause_stops_a_start_until_it_is_taken_back(tmp_path: Path, paused: str | None) -> None:
    given = installed(tmp_path)
    given.optimize(START)
    decision = propose(given.equipment, START).id
    effects = given.equipment.ledger.effects
    effects.pause(paused, at=START, actor="ada", reason="audit")

    result = given.optimize(START)

    assert (result["moves"], result["started"]) == ({"hold": 1}, {})
    assert given.shares() == {"large": 1.0}
    effects.resume(paused, at=START, actor="ada", reason="done")
    assert given.optimize(START)["started"] == {decision: "deploying"}


@pytest.mark.parametrize("paused", [None, pytest.param(TARGET, marks=pytest.mark.slow)])
def test_a_pause_stops_an_advance_and_a_promotion_but_no_rollback(
    tmp_path: Path, paused: str | None
) -> None:
    given, decision = in_canary(tmp_path)
    effects = given.equipment.ledger.effects
    put(given.equipment, traffic(START, START + 5 * HOUR, quality=GOOD))
    effects.pause(paused, at=START, actor="ada", reason="audit")
    assert given.optimize(START + 1.5 * HOUR)["moves"] == {"hold": 1}
    effects.resume(paused, at=START, actor="ada", reason="done")
    assert given.optimize(START + 1.5 * HOUR)["moves"] == {"advance": 1}
    effects.pause(paused, at=START, actor="ada", reason="audit")

    held = given.optimize(START + 3 * HOUR)
    put(given.equipment, traffic(START, START + 5 * HOUR, quality=BAD))
    saved = given.guard(START + 3.5 * HOUR)

    assert held["moves"] == {"hold": 1}
    assert saved["started"] == {decision: "rolled_back"}
    assert given.shares() == {"large": 1.0}


@pytest.mark.slow
def test_a_freeze_stops_an_advance_but_no_rollback(tmp_path: Path) -> None:
    frozen = f"""{LIMITS}
  freezes:
    - start: {(START + timedelta(minutes=30)).isoformat()}
      end: {(START + 9 * HOUR).isoformat()}
      reason: peak season
"""
    given, decision = in_canary(tmp_path, limits=frozen)
    put(given.equipment, traffic(START, START + 5 * HOUR, quality=GOOD))

    held = given.optimize(START + 2 * HOUR)
    put(given.equipment, traffic(START, START + 5 * HOUR, quality=BAD))
    saved = given.guard(START + 3 * HOUR)

    assert held["moves"] == {"hold": 1}
    assert saved["started"] == {decision: "rolled_back"}


def test_a_dry_run_writes_no_decision_takes_no_look_and_moves_nothing(tmp_path: Path) -> None:
    given, decision = in_canary(tmp_path)
    put(given.equipment, traffic(START, START + 2 * HOUR, quality=GOOD))
    looks = given.equipment.ledger.decisions.looks
    before = (given.decision(decision), given.held(), given.messages(), looks(decision))

    result = given.optimize(START + 2 * HOUR, dry_run=True)

    assert (result["moves"], result["started"]) == ({"advance": 1}, {})
    after = (given.decision(decision), given.held(), given.messages(), looks(decision))
    assert after == before
    assert len(given.equipment.ledger.decisions.find()) == 1
