from pathlib import Path

import pytest

from flows import prefect_settings
from optimizer.settings.model import Observability


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    variables: dict[str, str] = {}
    monkeypatch.setattr("flows.prefect_settings.os.environ", variables)
    return variables


def test_prefect_is_private_unless_the_operator_says_otherwise(
    environment: dict[str, str],
) -> None:
    environment["PREFECT_SERVER_UI_V2_ENABLED"] = "true"

    prefect_settings.prepare()

    assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert environment["PREFECT_SERVER_UI_V2_ENABLED"] == "true"
    assert "memory" not in environment["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"]


def test_prefect_s_home_is_made_beside_the_configuration_unless_it_is_set(
    environment: dict[str, str], tmp_path: Path
) -> None:
    prefect_settings.prepare(prefect_settings.home_of(tmp_path / "etc"))
    first = environment["PREFECT_HOME"]
    prefect_settings.prepare(prefect_settings.home_of(tmp_path / "other"))

    assert Path(first) == tmp_path / "etc" / ".llmopt" / "prefect"
    assert Path(first).is_dir()
    assert environment["PREFECT_HOME"] == first


def test_logging_follows_the_configuration(environment: dict[str, str]) -> None:
    chosen = Observability(log_level="warning", json_logging=True)

    prefect_settings.prepare(observability=chosen)

    assert environment["PREFECT_LOGGING_LEVEL"] == "WARNING"
    assert environment["PREFECT_LOGGING_HANDLERS_CONSOLE_FORMATTER"] == "json"
    assert "optimizer" in environment["PREFECT_LOGGING_EXTRA_LOGGERS"]
