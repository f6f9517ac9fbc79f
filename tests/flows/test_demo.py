"""The demonstration, as a user runs it: in a process of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flows.demo import prepared
from optimizer.errors import ConfigError

CALL = """
import sys
from pathlib import Path
from flows.demo import demo
sys.exit(demo(hours=int(sys.argv[1]), directory=Path(sys.argv[2]), seed=7))
"""


def run(hours: int, directory: Path) -> "subprocess.CompletedProcess[str]":
    clean = {
        name: value
        for name, value in os.environ.items()  # noqa: TID251 - without the tests' own Prefect
        if not name.startswith("PREFECT_")
    }
    return subprocess.run(
        [sys.executable, "-c", CALL, str(hours), str(directory)],
        env={**clean, "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_it_shows_a_saving_a_rollback_and_agreeing_books(tmp_path: Path) -> None:
    done = run(48, tmp_path / "demo")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ledger and traffic log agree on every sum." in done.stdout
    assert "MISSING" not in done.stdout
    assert re.search(r"rolled back .*quality fell", done.stdout)
    page = (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    assert "hash chain intact" in page
    assert not any(mark in page for mark in ("<script", "src=", "url(", "CHAIN BROKEN"))


@pytest.mark.slow
def test_it_says_what_it_could_not_show(tmp_path: Path) -> None:
    done = run(2, tmp_path / "demo")

    assert done.returncode == 1
    assert "MISSING: no saving was promoted and settled" in done.stdout


def test_it_removes_nothing_but_an_earlier_demonstration(tmp_path: Path) -> None:
    precious = tmp_path / "work" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("mine")

    with pytest.raises(ConfigError, match="something else"):
        prepared(precious.parent)

    assert precious.read_text() == "mine"


def test_a_new_run_starts_from_nothing(tmp_path: Path) -> None:
    home = prepared(tmp_path / "demo")
    (home / "optimizer.db").write_text("old")

    again = prepared(tmp_path / "demo")

    assert [path.name for path in again.iterdir()] == [".llmopt-demo"]
