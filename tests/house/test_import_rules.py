"""The import rules are kept, and each kind of breach turns them red."""

import ast
import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from house import ROOT, python_files

LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
CORE = "importlinter:contract:core-does-no-io"
ROOMS = "importlinter:contract:rooms"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the packages and their rules, to break."""
    for package in ("optimizer", "tasks", "flows"):
        shutil.copytree(
            ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shutil.copy(ROOT / ".importlinter", tmp_path)
    return tmp_path


def lint(tree: Path) -> subprocess.CompletedProcess[str]:
    """What lint-imports says about the tree, which is found before this checkout."""
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"],
        cwd=tree,
        capture_output=True,
        text=True,
        check=False,
    )


def rules() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / ".importlinter")
    return parser


def imported_modules(node: ast.AST) -> list[str]:
    """The modules that a statement imports; none for any other node."""
    match node:
        case ast.Import(names=names):
            return [alias.name for alias in names]
        case ast.ImportFrom(module=str(module)):
            return [module]
        case _:
            return []


def test_the_tree_keeps_its_rules(tree: Path) -> None:
    result = lint(tree)

    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("victim", "line", "contract"),
    [
        ("optimizer/errors.py", "import prefect", "The optimizer knows no Prefect"),
        ("optimizer/errors.py", "from prefect.client import orchestration", "knows no Prefect"),
        ("optimizer/policy.py", "import os", "Below ports: no I/O"),
        ("optimizer/evidence.py", "from time import monotonic", "Below ports: no I/O"),
        ("optimizer/metrics.py", "import optimizer.policy", "The rooms of the optimizer"),
        ("optimizer/errors.py", "import optimizer.bucket_edges", "The rooms of the optimizer"),
        ("optimizer/errors.py", "import tasks", "flows > tasks > optimizer"),
        ("optimizer/client/__init__.py", "import numpy", "The client imports the standard"),
        ("tasks/__init__.py", "import optimizer.storage", "Only the wiring chooses an adapter"),
    ],
)
def test_a_breach_turns_the_rules_red(tree: Path, victim: str, line: str, contract: str) -> None:
    path = tree / victim
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")

    result = lint(tree)

    assert result.returncode == 1
    broken = [text for text in result.stdout.splitlines() if text.endswith("BROKEN")]
    assert any(contract in text for text in broken), result.stdout


def test_a_module_without_a_place_turns_the_rules_red(tree: Path) -> None:
    (tree / "optimizer" / "helpers.py").touch()

    result = lint(tree)

    assert result.returncode == 1
    assert "optimizer.helpers" in result.stdout


def test_every_room_of_the_core_is_kept_from_io() -> None:
    config = rules()
    lines = config[ROOMS]["layers"].split()
    names = [name.strip("()") for name in lines if name != "|"]
    core = set(names[names.index("cycle") :]) - {"client"}
    there = {
        f"optimizer.{name}"
        for name in core
        if any((ROOT / "optimizer").glob(f"{name}.py"))
        or any((ROOT / "optimizer" / name).glob("*.py"))
    }

    kept = {name.removesuffix(".*") for name in config[CORE]["source_modules"].split()}
    assert there - kept == set()


def test_the_client_imports_the_standard_library_alone() -> None:
    imported = {
        name
        for path in python_files("optimizer/client")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for name in imported_modules(node)
    }

    foreign = {
        name
        for name in imported
        if name.partition(".")[0] not in sys.stdlib_module_names
        and not f"{name}.".startswith("optimizer.client.")
    }

    assert imported
    assert foreign == set()
