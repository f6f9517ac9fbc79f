from pathlib import Path

import pytest

from optimizer.errors import ConfigError
from optimizer.settings import load, load_text, prefect_server

PATH = Path("/etc/llmopt/optimizer.yaml")
FILE = """
service: {port: 4300}
strategies: {enabled: [threshold]}
integrations:
  sources:
    - {kind: file, name: a, paths: [x]}
    - {kind: sql, name: b, url: "sqlite:////a", table: t, cursor_column: c, id_column: i}
"""


def refusal(environment: dict[str, str], text: str = FILE) -> str:
    with pytest.raises(ConfigError) as found:
        load_text(text, PATH, environment)
    return str(found.value)


def test_a_variable_counts_more_than_the_file() -> None:
    settings = load_text(FILE, PATH, {"OPTIMIZER_SERVICE__PORT": "4400"}).settings

    assert settings.service.port == 4400


def test_the_process_s_own_variables_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "o.yaml").write_text("")
    monkeypatch.setenv("OPTIMIZER_SERVICE__PORT", "4500")

    assert load(tmp_path / "o.yaml").settings.service.port == 4500


def test_items_of_a_list_are_named_by_their_index() -> None:
    variables = {
        "OPTIMIZER_INTEGRATIONS__SOURCES__1__URL": "sqlite:////b",
        "OPTIMIZER_INTEGRATIONS__SOURCES__0__PATHS": "[y, z]",
        "OPTIMIZER_INTEGRATIONS__SOURCES__0__NAME": "123",
    }

    file, table = load_text(FILE, PATH, variables).settings.integrations.sources

    assert table.model_dump()["url"].get_secret_value() == "sqlite:////b"
    assert file.model_dump()["paths"] == ["y", "z"]
    assert file.name == "123"


def test_a_variable_may_make_a_section_the_file_does_not_have() -> None:
    settings = load_text("", PATH, {"OPTIMIZER_DEFAULTS__GOAL__MIN_GAIN": "0.1"}).settings

    assert settings.defaults.goal is not None
    assert settings.defaults.goal.min_gain == 0.1


def test_a_variable_may_hold_a_whole_section() -> None:
    settings = load_text(FILE, PATH, {"OPTIMIZER_SERVICE": "{host: h}"}).settings

    assert (settings.service.host, settings.service.port) == ("h", 4200)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "OPTIMIZER_SERVICE__PORT",
            "0",
            "OPTIMIZER_SERVICE__PORT: service.port = 0: input should be greater than or equal to 1",
        ),
        (
            "OPTIMIZER_SERVICE__PROT",
            "1",
            "OPTIMIZER_SERVICE__PROT: service.prot: unknown key; did you mean 'port'?",
        ),
        (
            "OPTIMIZER_STRATEGIES__ENABLED",
            "[oracle]",
            "OPTIMIZER_STRATEGIES__ENABLED: strategies.enabled[0] = 'oracle': input should be",
        ),
        (
            "OPTIMIZER_DATABSE__PORT",
            "1",
            "OPTIMIZER_DATABSE__PORT: databse: unknown key; did you mean 'database'?",
        ),
        (
            "OPTIMIZER_DATABASE_CONNECTION_STRING",
            "x",
            "two underscores stand between steps: OPTIMIZER_DATABASE__CONNECTION_STRING",
        ),
        (
            "OPTIMIZER_INTEGRATIONS__SOURCES__7__NAME",
            "x",
            "integrations.sources has 2 items, there is no 7 among them",
        ),
        (
            "OPTIMIZER_SERVICE__PORT__X",
            "x",
            "OPTIMIZER_SERVICE__PORT__X: service.port is a single value, there is no 'x' in it",
        ),
        ("OPTIMIZER_SERVICE____PORT", "1", "an empty step"),
    ],
)
def test_a_wrong_variable_is_refused_by_its_own_name(name: str, value: str, message: str) -> None:
    assert message in refusal({name: value})


def test_variables_of_others_are_left_alone() -> None:
    loaded = load_text(FILE, PATH, {"OPTIMIZER_HOME": "/x", "OTHER__THING": "1"})

    assert loaded.settings.service.port == 4300


def test_the_prefect_server_is_told_without_its_password() -> None:
    server = prefect_server(
        {"PREFECT_API_URL": "http://h:1/api", "PREFECT_API_AUTH_STRING": "u:geheim"}
    )

    assert server is not None
    assert (server.api_url, server.auth) == ("http://h:1/api", "u:geheim")
    assert "geheim" not in repr(server)
    assert prefect_server({}) is None
