"""Experiments from a terminal."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from optimizer import settings, wiring
from optimizer.experiment.life import ExperimentState
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.tuning import ask
from terminal import Terminal

EXPERIMENTS = """
    experiments:
      - {name: which, arms: [large, small], share: 0.5}
"""

TUNING = """
    goal: {metric: quality}
    tuning: {parameters: [{name: temperature, low: 0.1, high: 0.7, step: 0.6}]}
"""


def refused(terminal: Terminal, *arguments: str) -> str:
    """What a command that is refused says."""
    result = terminal.run(*arguments)
    assert result.exit_code != 0
    return result.output


@pytest.fixture(autouse=True)
def asked(terminal: Terminal) -> Path:
    """The installation's target has an experiment."""
    config = terminal.folder / "optimizer.yaml"
    config.write_text(config.read_text().rstrip() + EXPERIMENTS)
    return config


def test_one_is_started_shown_paused_resumed_and_stopped(
    terminal: Terminal, equipment: Equipment
) -> None:
    started = terminal.json("experiments", "start", "which", "--as", "ada")
    assert started["state"] == "running"
    held = equipment.gateway("support").read("support")
    assert held is not None
    assert {part.arm for part in held.slices} == {"large", "small"}
    (row,) = terminal.json("experiments", "list")
    assert (row["name"], row["state"], row["arms"]) == ("which", "running", "large, small")

    shown = terminal.json("experiments", "show", row["id"])
    assert shown["standing"]["outcome"] == "no_data"
    assert shown["log"][1]["actor"] == "ada"
    assert "share of the traffic" in terminal.ok("experiments", "show", row["id"])

    terminal.ok("experiments", "pause", row["id"], "--reason", "a demonstration")
    held = equipment.gateway("support").read("support")
    assert held is not None
    assert {part.arm for part in held.slices} == {"large"}
    terminal.ok("experiments", "resume", row["id"])
    text = terminal.ok("experiments", "stop", row["id"], "--reason", "not worth it")

    assert "is cancelled: not worth it" in text
    (found,) = equipment.ledger.experiments.find()
    assert found.state is ExperimentState.CANCELLED
    assert terminal.json("experiments", "list", "--state", "running") == []
    assert "all hold" in terminal.ok("audit", "verify")


def test_strategies_that_propose_winners_are_built_where_an_experiment_is_configured(
    asked: Path,
) -> None:
    without = asked.read_text().replace(EXPERIMENTS, "")

    for text, built in ((asked.read_text(), True), (without, False)):
        opened = wiring.equip(settings.load_text(text, asked, {}))
        assert ({"ab_test", "bandit"} <= opened.strategies.keys()) is built
        assert "threshold" in opened.strategies
        wiring.close(opened)


def test_an_unknown_name_or_id_and_a_wrong_state_are_refused(
    terminal: Terminal, equipment: Equipment
) -> None:
    assert equipment.ledger.experiments.find() == []
    assert "nothing" in refused(terminal, "experiments", "start", "nothing")
    assert "x-0" in refused(terminal, "experiments", "show", "x-0")
    terminal.ok("experiments", "start", "which")
    (row,) = terminal.json("experiments", "list")

    assert "is running, not paused" in refused(terminal, "experiments", "resume", row["id"])
    assert "is running" in refused(terminal, "experiments", "start", "which")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("arms: [large, tiny]", "tiny"),
        ("arms: [large, small], keep_running: true", "top_two"),
        ("arms: [large, small], min_duration: 8d", "min_duration"),
        ("arms: [large, large]", "different"),
    ],
)
def test_a_wrong_design_is_refused_with_its_place(
    terminal: Terminal, asked: Path, wrong: str, words: str
) -> None:
    asked.write_text(asked.read_text().replace("arms: [large, small]", wrong))

    said = refused(terminal, "config", "validate")

    assert words in said
    assert "experiments[0]" in said


def test_a_trial_of_tuning_is_listed_shown_and_stopped(terminal: Terminal, asked: Path) -> None:
    asked.write_text(asked.read_text().replace(EXPERIMENTS, TUNING))
    opened = wiring.equip(settings.load(asked, {}))
    acting = Acting(actor="optimize", run_id="r-1", now=datetime.now(UTC))  # noqa: TID251 - commands act now
    (drafted,) = ask(opened, acting)
    wiring.close(opened)

    (row,) = terminal.json("experiments", "list")
    assert (row["rule"], row["name"]) == ("tuning", "tuning temperature:0.1")
    assert row["arms"] == "large, large@temperature:0.1"
    assert "large@temperature:0.1" in terminal.ok("experiments", "show", drafted.id)
    text = terminal.ok("experiments", "stop", drafted.id, "--reason", "not this one")

    assert "is cancelled: not this one" in text
