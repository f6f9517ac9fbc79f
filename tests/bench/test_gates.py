"""One command prints every gate and fails if one is broken."""

from pathlib import Path

import pytest

from bench import gates
from bench.__main__ import HERE, benches

HOLDS = ("-c", "print('## Table'); print('- holds: G1 first'); print('holds: second')")
BREAKS = ("-c", "print('- FAILS: third'); print('- broken: fourth'); raise SystemExit(1)")
UNSAID = ("-c", "print('before'); print('12 passed'); print()")


@pytest.mark.parametrize(
    ("command", "holds", "says"),
    [
        (HOLDS, True, ["- holds: G1 first", "holds: second"]),
        (BREAKS, False, ["- FAILS: third", "- broken: fourth"]),
        (UNSAID, True, ["12 passed"]),
    ],
)
def test_a_part_is_told_by_its_gates_or_else_by_its_last_line(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...], says: list[str], *, holds: bool
) -> None:
    assert gates.part_holds("title", command, None) is holds

    assert capsys.readouterr().out.split("\n")[1:] == ["title", *says, *([""] * (2 - holds))]


@pytest.mark.parametrize("broken", ["canary", "replay", ""])
def test_one_broken_part_breaks_the_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    run: list[tuple[str, ...]] = []

    def holds(title: str, command: tuple[str, ...], data: Path) -> bool:
        assert data == Path("sets")
        run.append(command)
        return title.partition(":")[0] != broken

    monkeypatch.setattr(gates, "part_holds", holds)

    assert gates.main(["--data", "sets", "--quick"]) == int(bool(broken))
    assert broken in capsys.readouterr().out.splitlines()[-1]
    stating = {
        name for name in benches() if "gate" in (HERE / f"{name}.py").read_text(encoding="utf-8")
    }
    assert {command[2] for command in run if command[1] == "bench"} == stating - {"gates"}


def test_what_needs_data_is_named_as_not_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gates, "part_holds", lambda *_: True)

    gates.main([])

    assert capsys.readouterr().out.count("NOT RUN: no --data") == 4
