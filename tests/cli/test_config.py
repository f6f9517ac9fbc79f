import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flows.cli import ENTRIES
from house import ROOT
from optimizer.cli import group
from optimizer.settings import load


def run(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(group(), ["config", *arguments], env=variables)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LLMOPT_CONFIG", raising=False)
    return tmp_path


def test_init_writes_a_file_that_is_valid(folder: Path) -> None:
    written = run("init")

    assert written.exit_code == 0
    assert run("validate").exit_code == 0
    assert load(folder / "optimizer.yaml", {}).settings.targets


def test_init_leaves_an_existing_file_as_it_is(folder: Path) -> None:
    (folder / "optimizer.yaml").write_text("# mine\n")

    result = run("init")

    assert result.exit_code == 2
    assert "is left as it is" in result.stderr
    assert (folder / "optimizer.yaml").read_text() == "# mine\n"


@pytest.mark.usefixtures("folder")
def test_init_says_where_it_cannot_write() -> None:
    result = run("init", "none/optimizer.yaml")

    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


@pytest.mark.usefixtures("folder")
def test_a_missing_file_is_a_configuration_error() -> None:
    result = run("validate")

    assert result.exit_code == 2
    assert "llmopt config init" in result.stderr


def test_every_problem_of_a_wrong_file_is_told(folder: Path) -> None:
    (folder / "optimizer.yaml").write_text("service: {port: 0}\ndatabse: {}\n")

    result = run("validate", "--json")

    assert result.exit_code == 2
    assert "service.port = 0" in result.stderr
    assert "did you mean 'database'?" in result.stderr


def test_the_file_is_named_by_option_before_variable(folder: Path) -> None:
    for name, port in (("a", 4301), ("b", 4302)):
        (folder / f"{name}.yaml").write_text(f"service: {{port: {port}}}\n")
    shown = {}
    for arguments in (
        ("config", "show", "service.port", "--json"),
        ("--config", "a.yaml", "config", "show", "service.port", "--json"),
        ("config", "show", "service.port", "--json", "--config", "a.yaml"),
    ):
        result = CliRunner().invoke(group(), arguments, env={"LLMOPT_CONFIG": "b.yaml"})
        assert result.exit_code == 0, result.output
        shown[arguments[0], len(arguments)] = json.loads(result.stdout)[0]["value"]

    assert list(shown.values()) == [4302, 4301, 4301]


def test_show_tells_value_and_origin_and_masks_secrets(folder: Path) -> None:
    (folder / "optimizer.yaml").write_text("service:\n  port: 4301\n")
    url = "postgresql://u:geheim@h/d"

    result = run("show", "--json", OPTIMIZER_DATABASE__CONNECTION_STRING=url)

    found = {row["setting"]: row for row in json.loads(result.stdout)}
    assert found["service.port"] == {
        "setting": "service.port",
        "value": 4301,
        "origin": "optimizer.yaml:2",
    }
    assert found["database.connection_string"]["value"] == "postgresql://u:***@h/d"
    assert found["database.connection_string"]["origin"] == "OPTIMIZER_DATABASE__CONNECTION_STRING"
    assert found["database.max_connections"]["origin"] == "default"


def test_show_of_nothing_is_a_usage_error(folder: Path) -> None:
    (folder / "optimizer.yaml").write_text("")

    assert run("show", "colour").exit_code == 2


def test_diff_tells_what_differs_and_its_exit_code_says_whether(folder: Path) -> None:
    (folder / "optimizer.yaml").write_text("service: {port: 4301}\n")
    (folder / "other.yaml").write_text("service: {port: 4302}\n")
    (folder / "same.yaml").write_text("service:\n  port: 4301\n")

    against_defaults, other, same = (
        run("diff", "--json"),
        run("diff", "other.yaml"),
        run("diff", "same.yaml"),
    )

    assert against_defaults.exit_code == 1
    assert json.loads(against_defaults.stdout) == [
        {"setting": "service.port", "before": 4200, "after": 4301}
    ]
    assert other.exit_code == 1
    assert "4302" in other.stdout
    assert same.exit_code == 0
    assert "nothing differs" in same.stdout


def test_the_schema_is_json_and_the_page_is_the_one_in_the_docs() -> None:
    assert json.loads(run("schema").stdout)["title"] == "optimizer.yaml"
    page = run("schema", "--format", "markdown").stdout
    assert page == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_serving_without_definitions_is_a_configuration_error(folder: Path) -> None:
    (folder / "optimizer.yaml").write_text("")

    result = CliRunner().invoke(group(ENTRIES), ["serve", "--definitions", "none.yaml"])

    assert result.exit_code == 2
    assert "none.yaml: no such file" in result.stderr
    assert not (folder / ".llmopt").exists()
