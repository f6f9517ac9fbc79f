import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from flows.cli import ENTRIES
from house import ROOT
from optimizer.cli import Entry, LazyGroup, group
from optimizer.cli.main import OWN
from optimizer.errors import ConfigError, UnavailableError


def imported_by(arguments: Sequence[str], folder: Path) -> set[str]:
    """The modules that a command leaves imported, in a fresh interpreter."""
    script = (
        "import sys, json, runpy\n"
        f"sys.argv = ['llmopt', *{list(arguments)!r}]\n"
        "try:\n    runpy.run_module('flows.cli', run_name='__main__')\n"
        "except SystemExit as end:\n    code = end.code\n"
        "print('|' + json.dumps([code, sorted(sys.modules)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    code, modules = json.loads(done.stdout.rpartition("|")[2])
    assert not code, done.stdout
    return set(modules)


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["config", "init"], ["config", "validate"], ["config", "show"]],
)
def test_quick_commands_import_neither_prefect_nor_the_engine(
    arguments: list[str], tmp_path: Path
) -> None:
    if arguments[-1] in {"validate", "show"}:
        (tmp_path / "optimizer.yaml").write_text("")

    modules = imported_by(arguments, tmp_path)

    assert not {"prefect", "duckdb", "pandas", "sqlalchemy", "numpy"} & modules


@pytest.mark.parametrize("entry", [*OWN, *ENTRIES], ids=lambda entry: entry.name)
def test_every_command_is_where_its_entry_says_and_explains_itself(entry: Entry) -> None:
    result = CliRunner().invoke(group(ENTRIES), [entry.name, "--help"])

    assert result.exit_code == 0, result.output
    assert "Usage: llmopt" in result.output


def every_command(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command)
    return [
        found
        for name in command.list_commands(context)
        if (inner := command.get_command(context, name)) is not None
        for found in every_command(inner, (*path, name))
    ]


@pytest.mark.parametrize("path", every_command(group(ENTRIES)), ids=" ".join)
def test_every_option_of_every_command_has_a_meaning(path: tuple[str, ...]) -> None:
    command: click.Command = group(ENTRIES)
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found

    options = [part for part in command.params if isinstance(part, click.Option)]
    assert [option.name for option in options if not option.help] == []
    assert command.help


@click.command()
def available() -> None:
    raise UnavailableError("the database does not answer")


@click.command()
def configured() -> None:
    raise ConfigError("the file is wrong")


@click.command()
def sound() -> None:
    raise ZeroDivisionError("oh")


def failing() -> LazyGroup:
    names = ("available", "configured", "sound")
    module = sys.modules[__name__].__name__
    return group([Entry(name=n, where=f"{module}:{n}", help=n) for n in names])


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("available", 1, "Error: the database does not answer\n"),
        ("configured", 2, "Error: the file is wrong\n"),
        ("sound", 1, "Error: unexpected ZeroDivisionError: oh; run again with --debug"),
    ],
)
def test_an_error_is_one_message_and_a_code(name: str, code: int, message: str) -> None:
    result = CliRunner().invoke(failing(), [name])

    assert result.exit_code == code
    assert result.stderr.startswith(message)
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_debug_shows_where_an_error_came_from() -> None:
    result = CliRunner().invoke(failing(), ["--debug", "sound"])

    assert isinstance(result.exception, ZeroDivisionError)


def test_an_unknown_command_is_a_usage_error() -> None:
    assert CliRunner().invoke(group(), ["frobnicate"]).exit_code == 2
