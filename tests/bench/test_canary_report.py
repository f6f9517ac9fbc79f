import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from bench.canary import finish, main, simulate
from bench.rollouts import gates
from bench.rollouts.cells import Group, cells, quick
from bench.rollouts.coverage import Coverage
from bench.rollouts.gates import Gate, Results, checked
from bench.rollouts.report import markdown, plot
from bench.rollouts.running import OURS, run
from bench.rollouts.tally import Tally

KEPT = {
    (Group.ONE, "Ramp A, independent, 2,000/h, x1"),
    (Group.ONE, "Ramp A, independent, 2,000/h, x2"),
    (Group.HARMLESS, "independent, 200/h"),
    (Group.SCALE, "cost of 1 USD, 10 % higher, 200/h"),
    (Group.SCALE, "cost of 1e-06 USD, 10 % higher, 200/h"),
    (Group.CHEAPER, "30 % cheaper, independent, 2,000/h"),
    (Group.NO_DATA, "no canary traffic"),
    (Group.PROMOTION, "m 0.01, 2,000/h, true harm m"),
}
COVERED = Coverage(name="limits", always=True, rollouts=100, held=97)


@pytest.fixture(scope="module")
def found() -> Results:
    chosen = [
        replace(cell, rollouts=40, points=min(cell.points, 2))
        for cell in quick(cells())
        if (cell.group, cell.name) in KEPT
    ]
    assert len(chosen) == len(KEPT)
    return Results(
        tallies=tuple(t for cell in chosen for t in run(cell)), coverage=(COVERED,), quick=True
    )


def _changed(found: Results, group: Group, **changes: float) -> Results:
    tallies = [
        replace(t, **changes) if t.group == group.name and t.rule == OURS else t  # type: ignore[arg-type]
        for t in found.tallies
    ]
    return replace(found, tallies=tuple(tallies))


def _broken(found: Results) -> set[str]:
    return {gate.id for gate in checked(found) if not gate.holds}


def test_the_gates_hold(found: Results, capsys: pytest.CaptureFixture[str]) -> None:
    status = finish(found, write=None, results=None)

    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "holds: G1 independent, 200/h: false rollbacks" in printed


@pytest.mark.parametrize(
    ("gate", "group", "changes"),
    [
        ("G1", Group.HARMLESS, {"rolled_back": 8}),
        ("P1", Group.ONE, {"caught_3000": 20}),
        ("P1", Group.ONE, {"requests": 1_500.0}),
        ("G3", Group.NO_DATA, {"promoted": 1}),
        ("G3", Group.CHEAPER, {"unfounded": 1}),
        ("G3", Group.CHEAPER, {"reverted": -1}),
        ("G4", Group.PROMOTION, {"promoted": 8}),
        ("P6", Group.CHEAPER, {"promoted": 0, "extended": 0}),
        ("P6", Group.CHEAPER, {"plan_check": False}),
    ],
)
def test_a_report_with_a_broken_gate_exits_1(
    found: Results, gate: str, group: Group, changes: dict[str, float]
) -> None:
    worse = _changed(found, group, **changes)

    assert gate in _broken(worse)
    assert finish(worse, write=None, results=None) == 1


def test_a_scale_that_changes_decisions_breaks_its_gate(found: Results) -> None:
    first = next(t for t in found.tallies if t.group == Group.SCALE.name)
    other = tuple(replace(t, requests=t.requests + 1.0) if t is first else t for t in found.tallies)

    assert _broken(replace(found, tallies=other)) == {"P7"}


def test_limits_that_miss_the_truth_break_their_gate(found: Results) -> None:
    poor = replace(COVERED, held=85)

    assert _broken(replace(found, coverage=(poor,))) == {"G8"}
    assert _broken(replace(found, coverage=(replace(poor, always=False, held=88),))) == set()


def test_a_simulator_that_shows_no_broken_rule_breaks_its_gate(found: Results) -> None:
    tame = tuple(
        replace(t, rolled_back=2) if t.rule == "z test every hour" else t for t in found.tallies
    )

    assert _broken(replace(found, tallies=tame)) == {"S1"}


def test_ten_guardrails_that_roll_back_too_often_break_their_gate(found: Results) -> None:
    many = Tally(
        **{
            **{each.name: getattr(found.tallies[0], each.name) for each in fields(Tally)},
            "cell": "10 guardrails, 2,000/h, x1",
            "group": Group.SEVERAL.name,
            "rollouts": 2_000,
            "rolled_back": 110,
        }
    )

    full = replace(found, tallies=(many,), quick=False)

    assert [gate.holds for gate in gates.family(full)] == [False]
    assert [gate.holds for gate in gates.family(replace(full, quick=True))] == [True]


def test_a_full_run_must_have_its_cells(found: Results) -> None:
    with pytest.raises(KeyError, match="no cell"):
        checked(replace(found, quick=False))


def test_further_gates_are_a_list(found: Results) -> None:
    extra = [*gates.GATES, lambda _: [Gate(id="G9", text="vectors agree", holds=False)]]

    assert markdown(found, extra).endswith("- broken: G9 vectors agree")


def test_what_is_written_is_the_same_every_time(tmp_path: Path, found: Results) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        finish(
            found,
            write=tmp_path / name / "performance.md",
            results=tmp_path / name / "canary.json",
        )

    for name in ("performance.md", "canary.svg", "canary.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    stored = json.loads((tmp_path / "one" / "canary.json").read_text(encoding="utf-8"))
    assert len(stored["cells"]) == len(found.tallies)
    assert all(gate["holds"] for gate in stored["gates"])


def test_the_picture_needs_only_the_cells_it_has(tmp_path: Path, found: Results) -> None:
    plot(replace(found, tallies=()), tmp_path / "empty.svg")

    assert (tmp_path / "empty.svg").stat().st_size > 0


def test_simulating_gives_the_tallies_of_its_cells() -> None:
    cell = next(c for c in quick(cells()) if c.group is Group.NO_DATA)
    said: list[str] = []

    found = simulate([replace(cell, rollouts=5)], covered=5, jobs=1, quickly=True, say=said.append)

    assert [t.cell for t in found.tallies] == [cell.name]
    assert {each.rollouts for each in found.coverage} == {5}
    assert any(cell.name in line for line in said)


@pytest.mark.slow
def test_the_quick_run_passes_its_gates(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["--quick"])

    assert status == 0, capsys.readouterr().out
