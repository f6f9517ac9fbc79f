"""Pauses, targets, quarantine, evidence, audit, doctor: against a real ledger and real files."""

import json
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from optimizer.decision import Decision, State
from optimizer.evidence import Anchor, Check, Impact, Outcome, Reason, Verdict
from optimizer.loop import observe
from optimizer.loop.equipment import Equipment
from optimizer.ports import Look
from terminal import Terminal

Store = Callable[..., Decision]


@pytest.mark.usefixtures("equipment")
def test_a_pause_of_one_and_of_all_are_taken_back_apart(terminal: Terminal) -> None:
    terminal.ok("pause", "--target", "support", "--reason", "deploy")
    both = terminal.json("pause", "--all", "--reason", "incident")["paused"]
    left = terminal.json("resume", "--all")["paused"]
    none = terminal.json("resume", "--target", "support")["paused"]

    assert both == {"support": "deploy", "*": "incident"}
    assert left == {"support": "deploy"}
    assert none == {}
    acts = [row["operation"] for row in terminal.json("audit", "list")]
    assert acts == ["resume", "resume", "pause", "pause"]


@pytest.mark.parametrize("command", ["pause", "resume"])
@pytest.mark.parametrize("which", [[], ["--all", "--target", "support"], ["--target", "nope"]])
def test_a_pause_says_of_what(terminal: Terminal, command: str, which: list[str]) -> None:
    assert terminal.run(command, *which, "--reason", "x").exit_code == 2


def test_targets_show_split_flight_and_pause(terminal: Terminal, waiting: Store) -> None:
    waiting()
    terminal.ok("pause", "--all", "--reason", "incident")

    (row,) = terminal.json("targets", "list")

    assert row == {
        "target": "support",
        "baseline": "large",
        "split": "baseline large 100.0%",
        "generation": 1,
        "in_flight": "d-0001",
        "paused": "incident",
        "gateway": "files",
    }


def test_strategies_show_what_their_promises_were_worth(terminal: Terminal, waiting: Store) -> None:
    promised = Impact(
        cost_reduction_pct=40.0, cost_reduction_lower_pct=35.0, cost_reduction_upper_pct=45.0
    )
    measured = replace(
        promised,
        cost_reduction_pct=10.0,
        cost_reduction_lower_pct=8.0,
        cost_reduction_upper_pct=12.0,
    )
    ended = datetime.now(UTC) - timedelta(hours=1)  # noqa: TID251 - commands act now
    for n in range(6):
        waiting(f"d-{n}", expected=promised, actual=measured, ended_at=ended, state=State.COMPLETED)

    rows = {row["strategy"]: row for row in terminal.json("strategies", "list")}

    assert rows["cost_performance"] == {
        "strategy": "cost_performance",
        "enabled": True,
        "completed": 6,
        "rolled_back": 0,
        "measured": 6,
        "missed": 6,
        "saving_bias_points": -30.0,
        "acts_alone": False,
    }
    assert rows["threshold"]["acts_alone"] is True


def test_moving_the_anchor_forgets_what_ended_promotions_lost(
    terminal: Terminal, equipment: Equipment, waiting: Store
) -> None:
    decision = waiting("d-0001", State.COMPLETED)
    lost = Anchor(
        target="support", metric="quality", reference_arm="large", harm=0.01, promotions=1
    )
    equipment.ledger.decisions.charge_anchor(
        decision.id, lost, at=decision.created_at, settled=True
    )

    told = terminal.json("targets", "anchor", "support", "--reason", "reviewed by hand")

    assert told["forgotten"] == {"quality": 0.01}
    assert equipment.ledger.decisions.anchors() == {}
    assert terminal.run("targets", "anchor", "nope", "--reason", "x").exit_code == 2


def test_evidence_shows_every_look_and_the_newest_checks(
    terminal: Terminal, equipment: Equipment, waiting: Store
) -> None:
    decision = waiting()
    at = decision.created_at
    check = Check(metric="quality", role="guardrail", outcome=Outcome.PASS, harm=-0.01, margin=0.02)
    verdict = Verdict(
        decision_id=decision.id,
        at=at,
        outcome=Outcome.INCONCLUSIVE,
        stage_outcome=Outcome.PASS,
        reason=Reason.WIDE_INTERVAL,
        sentence="cost is not known well enough",
        checks=(check,),
        n_canary=10,
    )
    equipment.ledger.decisions.add_look(
        Look(decision_id=decision.id, at=at, run="r", verdict=verdict, move="hold", detail="wait")
    )

    text = terminal.ok("evidence", "show", decision.id)
    (look,) = terminal.json("evidence", "show", decision.id)

    assert "cost is not known well enough" in text
    assert "-0.01" in text
    assert look["verdict"]["checks"][0]["harm"] == -0.01


def test_a_changed_log_is_found(terminal: Terminal, waiting: Store) -> None:
    waiting()
    assert terminal.json("audit", "verify") == {"checked": 1, "broken": []}

    with sqlite3.connect(terminal.folder / "ledger.db") as connection:
        tables = connection.execute(
            "SELECT m.name FROM sqlite_master m JOIN pragma_table_info(m.name) c "
            "WHERE c.name = 'prev_hash'"
        ).fetchall()
        for trigger in connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            connection.execute(f'DROP TRIGGER "{trigger[0]}"')
        connection.execute(f"UPDATE \"{tables[0][0]}\" SET reason = 'it was always so'")  # noqa: S608 - the name is the schema's own
    connection.close()

    result = terminal.run("audit", "verify", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["broken"] == ["d-0001"]


def write_calls(terminal: Terminal, **changes: object) -> None:
    at = datetime.now(UTC) - timedelta(hours=1)  # noqa: TID251 - commands act now
    row = {"ts": at.isoformat(), "target": "support", "arm": "large", "request_id": "r1", **changes}
    file = terminal.folder / "logs" / "a.jsonl"
    with file.open("a") as out:
        out.write(json.dumps(row) + "\n")


def pull(equipment: Equipment) -> observe.PullReport:
    now = datetime.now(UTC)  # noqa: TID251 - commands act now
    (source,) = equipment.sources
    return observe.pull(
        source,
        ledger=equipment.ledger,
        engine=equipment.engine,
        targets=equipment.targets,
        prices={},
        now=now,
    )


def test_a_quarantined_row_is_listed_and_taken_in_once_its_target_is_known(
    terminal: Terminal, equipment: Equipment
) -> None:
    write_calls(terminal, target="sales")
    assert pull(equipment).n_quarantined == 1

    (group,) = terminal.json("quarantine", "list")
    (row,) = terminal.json("quarantine", "list", "--rows", "--reason", "unknown_target")
    still = terminal.json("quarantine", "replay")
    config = terminal.folder / "optimizer.yaml"
    config.write_text(config.read_text().replace("name: support", "name: sales"))
    now = terminal.json("quarantine", "replay", "--source", "calls")

    assert (group["source"], group["reason"], group["rows"]) == ("calls", "unknown_target", 1)
    assert json.loads(row["raw"])["target"] == "sales"
    assert (still["n_failed"], still["n_passed"]) == (1, 0)
    assert (now["n_failed"], now["n_passed"]) == (0, 1)
    assert terminal.json("quarantine", "list") == []


def test_a_mended_file_is_read_again(terminal: Terminal, equipment: Equipment) -> None:
    write_calls(terminal)
    file = terminal.folder / "logs" / "a.jsonl"
    pull(equipment)
    assert pull(equipment).n_rows == 0

    terminal.ok("quarantine", "reread", "calls", str(file))

    report = pull(equipment)
    assert (report.n_rows, report.n_duplicates) == (1, 1)
    assert terminal.run("quarantine", "reread", "nope", str(file)).exit_code == 2


@pytest.mark.parametrize("arguments", [["list", "--reason", "bad_line"], ["replay", "--source=x"]])
@pytest.mark.usefixtures("equipment")
def test_wrong_use_of_the_quarantine_is_refused(terminal: Terminal, arguments: list[str]) -> None:
    assert terminal.run("quarantine", *arguments).exit_code == 2


def about(terminal: Terminal, name: str) -> dict[str, Any]:
    result = terminal.run("doctor", "--json")
    rows = {row["about"]: row for row in json.loads(result.stdout)}
    bad = any(row["status"] == "problem" for row in rows.values())
    assert result.exit_code == (1 if bad else 0)
    found: dict[str, Any] = rows[name]
    return found


def test_doctor_finds_a_sound_installation_sound(terminal: Terminal, equipment: Equipment) -> None:
    write_calls(terminal)

    rows = terminal.json("doctor")

    assert {row["status"] for row in rows} == {"ok"}
    assert {row["about"] for row in rows} == {
        "configuration",
        "database",
        "spool",
        "clock",
        "source calls",
        "gateway of support",
    }
    assert pull(equipment).n_rows == 1, "looking moves no cursor"


@pytest.mark.usefixtures("equipment")
def test_doctor_finds_a_split_that_was_changed_by_hand(terminal: Terminal) -> None:
    for file in (terminal.folder / "allocations").glob("*.json"):
        file.write_text("{}")

    found = about(terminal, "gateway of support")

    assert found["status"] == "problem"
    assert "llmopt guard" in found["remedy"]


@pytest.mark.usefixtures("equipment")
def test_doctor_finds_a_source_that_is_not_there(terminal: Terminal) -> None:
    (terminal.folder / "logs").rmdir()
    config = terminal.folder / "optimizer.yaml"
    text = config.read_text().replace('paths: ["logs/*.jsonl"]', 'paths: ["*.jsonl"], root: logs')
    config.write_text(text)

    found = about(terminal, "source calls")

    assert found["status"] == "problem"
    assert "integrations.sources" in found["remedy"]


@pytest.mark.usefixtures("equipment")
def test_doctor_finds_a_clock_that_runs_behind_the_record(
    terminal: Terminal, equipment: Equipment
) -> None:
    ahead = datetime.now(UTC) + timedelta(hours=1)  # noqa: TID251 - commands act now
    equipment.ledger.runs.start_run("r", "optimize", as_of=ahead, at=ahead, config_hash="")

    assert about(terminal, "clock")["status"] == "problem"


def test_doctor_finds_a_database_that_is_not_there(terminal: Terminal) -> None:
    config = terminal.folder / "optimizer.yaml"
    config.write_text(config.read_text().replace("sqlite:///ledger.db", "sqlite:///none/ledger.db"))

    assert about(terminal, "database")["status"] == "problem"


def test_doctor_tells_that_nothing_was_published_yet(terminal: Terminal) -> None:
    found = about(terminal, "gateway of support")

    assert (found["status"], "llmopt run" in found["remedy"]) == ("warning", True)


def test_output_for_people_cannot_steer_their_terminal(terminal: Terminal, waiting: Store) -> None:
    waiting()

    terminal.ok("decisions", "cancel", "d-0001", "--reason", "\x1b]0;owned\x07")

    assert "\x1b" not in terminal.ok("decisions", "list")
    assert "\x1b" not in terminal.ok("decisions", "show", "d-0001")
