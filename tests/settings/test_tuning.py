"""The section of tuning: what it becomes, and what is refused with its place."""

from pathlib import Path

import pytest

from optimizer import wiring
from optimizer.errors import ConfigError
from optimizer.experiment.grid import Axis
from optimizer.settings import load_text, tunings_of

PATH = Path("/etc/llmopt/optimizer.yaml")
LARGE = "{name: large, model: m, temperature: 0.7}"
PARAMETER = "{name: temperature, low: 0, high: 1, step: 0.1}"


def text(
    *parameters: str, more: str = "", arms: str = LARGE, goal: str = "quality", top: str = ""
) -> str:
    asked = ", ".join(parameters or (PARAMETER,))
    return f"""
integrations: {{gateways: [{{kind: file, name: files, directory: out}}]}}
database: {{connection_string: "sqlite:///ledger.db", spool_directory: spool}}
{top}
targets:
  - name: t
    baseline: large
    goal: {{metric: {goal}}}
    arms: [{arms}]
    tuning: {{parameters: [{asked}]{more}}}
"""


def test_a_section_becomes_a_grid_around_the_baseline_decided_by_the_target_s_goal() -> None:
    top_p = "{name: top_p, low: 0.5, high: 1, step: 0.25}"
    settings = load_text(
        text(top_p, PARAMETER, more=", share: 0.2, max_trials: 5", goal="failure_rate"), PATH, {}
    ).settings

    (found,) = tunings_of(settings)

    assert (found.target, found.base, found.metric) == ("t", "large", "failure_rate")
    assert (found.share, found.max_trials) == (0.2, 5)
    assert found.axes == (
        Axis(name="temperature", low=0, high=1, step=0.1),
        Axis(name="top_p", low=0.5, high=1, step=0.25),
    )
    assert sum(1 for _ in found.points()) == 33


@pytest.mark.parametrize(
    ("wrong", "place", "words"),
    [
        (text("{name: temperature, low: 1, high: 0, step: 0.1}"), ".parameters[0]", "low = 1"),
        (text("{name: temperature, low: 0, high: 1, step: 2}"), ".parameters[0]", "step = 2"),
        (text("{name: a+b, low: 0, high: 1, step: 0.5}"), ".parameters[0]", "a+b"),
        (text("{name: max_tokens, low: 1, high: 9, step: 0.5}"), ".parameters[0]", "whole"),
        (text(PARAMETER, PARAMETER), ".parameters[1].name", "two parameters"),
        (text("{name: temperature, low: 0, high: 3, step: 0.5}"), "", "temperature = 3"),
        (text("{name: max_tokens, low: 0, high: 9, step: 1}"), "", "max_tokens = 0"),
        (
            text(PARAMETER, "{name: top_k, low: 1, high: 100, step: 1}"),
            "",
            "1100 points (temperature 11 x top_k 100), above 1000",
        ),
        (text(more=", base: small"), "", "'small' is none of the target's arms ['large']"),
        (text(goal="cost_usd"), "", "the goal of t is cost_usd"),
        (text(more=", min_duration: 2d"), "", "max_duration"),
        (
            text(arms=f'{LARGE}, {{name: "large@temperature:0.3", model: m, temperature: 0.4}}'),
            "",
            "large@temperature:0.3 is named as a point",
        ),
        (text(more=", share: 0.6"), ".share", "less than or equal to 0.5"),
        (text(more=", shares: 0.1"), ".shares", "did you mean 'share'?"),
    ],
)
def test_what_cannot_be_tuned_is_refused_with_its_place(wrong: str, place: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load_text(wrong, PATH, {})

    assert f"targets[0].tuning{place}" in str(refused.value)
    assert words in str(refused.value)


def test_a_promoted_point_may_be_written_down_as_an_arm() -> None:
    arm = '{name: "large@temperature:0.3", model: m, temperature: 0.3}'

    assert load_text(text(arms=f"{LARGE}, {arm}"), PATH, {}).settings.targets


@pytest.mark.parametrize(
    ("top", "asks"), [("", True), ("strategies: {enabled: [threshold]}", False)]
)
def test_trials_are_asked_for_while_the_strategy_is_enabled(
    tmp_path: Path, top: str, *, asks: bool
) -> None:
    given = wiring.equip(load_text(text(top=top), tmp_path / "optimizer.yaml", {}))

    assert (given.suggest is not None) is asks
    assert ("tuning" in given.strategies) is asks
    assert len(given.tunings) == 1
    wiring.close(given)


def test_without_a_section_the_strategy_is_not_built(tmp_path: Path) -> None:
    plain = text().replace(text().splitlines()[-1], "")

    given = wiring.equip(load_text(plain, tmp_path / "optimizer.yaml", {}))

    assert "tuning" not in given.strategies
    wiring.close(given)
