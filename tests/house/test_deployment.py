"""The image and the compose file fit the project: paths, commands, variables and names."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings.models.root import Settings
from pydantic import AliasChoices, BaseModel

from deployments import provision
from documents import blocks
from house import ROOT
from optimizer import settings

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (ROOT / "deployments" / "Dockerfile").read_text(encoding="utf-8")
GIVEN_BY_THE_OPERATOR = {"./optimizer.yaml"}


def environment(service: str) -> dict[str, str]:
    return {name: str(value) for name, value in SERVICES[service].get("environment", {}).items()}


def test_the_image_copies_paths_that_exist() -> None:
    copied = [
        source
        for line in re.findall(r"^COPY (.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]

    assert copied
    assert [source for source in copied if not (ROOT / source).exists()] == []


def test_the_image_holds_every_package_that_is_installed() -> None:
    for package in ("optimizer", "tasks", "flows", "prefect.yaml"):
        assert re.search(rf"^COPY {re.escape(package)} ", DOCKERFILE, re.MULTILINE), package


def test_services_are_built_from_files_that_exist_and_wait_for_services_that_exist() -> None:
    for name, service in SERVICES.items():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file(), name
        assert set(service.get("depends_on", {})) <= set(SERVICES), name


def test_mounted_files_exist_and_volumes_are_declared() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    sources = {mount.partition(":")[0] for mount in mounts}

    files = {source for source in sources if source.startswith(".")} - GIVEN_BY_THE_OPERATOR
    assert [source for source in sorted(files) if not (ROOT / source).exists()] == []
    assert {source for source in sources if not source.startswith(".")} == set(COMPOSE["volumes"])


def command(service: str) -> list[str]:
    return [*SERVICES[service]["entrypoint"], *SERVICES[service]["command"]]


@pytest.mark.parametrize("service", [n for n in OURS if command(n)[0] == "prefect"])
def test_prefect_knows_the_commands_and_options_that_services_give(
    monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    words = command(service)[1:]
    verbs = words[: next(i for i, word in enumerate(words) if word.startswith("-"))]

    monkeypatch.setenv("COLUMNS", "200")
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *verbs, "--help"],
        capture_output=True,
        text=True,
        check=True,
    )

    options = [word for word in words if word.startswith("-")]
    assert options
    assert [option for option in options if option not in done.stdout] == []


def test_modules_that_services_run_exist() -> None:
    modules = [command(name)[2] for name in OURS if command(name)[:2] == ["python", "-m"]]

    assert modules == ["deployments.provision"]
    assert all(importlib.util.find_spec(module) for module in modules)


def variables(model: type[BaseModel]) -> Iterator[str]:
    """Every environment variable that Prefect's settings are read from."""
    prefix = str(model.model_config.get("env_prefix", ""))
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from variables(field.annotation)
            continue
        yield f"{prefix}{name}".upper()
        if isinstance(field.validation_alias, AliasChoices):
            yield from (str(choice).upper() for choice in field.validation_alias.choices)


def test_every_prefect_variable_is_a_setting_of_prefect() -> None:
    names = {name for service in OURS for name in environment(service)}
    known = set(variables(Settings))
    image = set(re.findall(r"\b(PREFECT_\w+)=", DOCKERFILE))

    assert {name for name in names | image if name.startswith("PREFECT_")} - known == set()


def test_every_variable_of_ours_is_a_setting(tmp_path: Path) -> None:
    (text,) = blocks(ROOT / "README.md", "yaml")
    path = tmp_path / "optimizer.yaml"
    path.write_text(text, encoding="utf-8")
    given = {
        name: value
        for service in OURS
        for name, value in environment(service).items()
        if name.startswith("OPTIMIZER_")
    }

    loaded = settings.load(path, given)

    assert given
    url = loaded.settings.database.connection_string.get_secret_value()
    assert url == given["OPTIMIZER_DATABASE__CONNECTION_STRING"]


def test_names_and_addresses_agree() -> None:
    server = command("server")
    port = server[server.index("--port") + 1]
    worker = command("worker")
    definitions = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))

    for client in ("provision", "worker"):
        assert environment(client)["PREFECT_API_URL"] == f"http://server:{port}/api"
    assert SERVICES["server"]["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert worker[worker.index("--pool") + 1] == provision.POOL
    assert {d["work_pool"]["name"] for d in definitions["deployments"]} == {provision.POOL}
    ledger = (ROOT / "deployments" / "create-ledger.sql").read_text(encoding="utf-8")
    assert "CREATE DATABASE ledger" in ledger
    assert environment("worker")["OPTIMIZER_DATABASE__CONNECTION_STRING"].endswith("/ledger")


def test_drivers_of_the_database_addresses_are_installed() -> None:
    drivers = set(re.findall(r"postgresql\+(\w+)://", json.dumps(COMPOSE)))

    assert drivers == {"asyncpg", "psycopg"}
    assert all(importlib.util.find_spec(driver) for driver in drivers)


def test_secrets_are_asked_for_and_nothing_is_published_beyond_this_machine() -> None:
    assert "${POSTGRES_PASSWORD:?" in SERVICES["postgres"]["environment"]["POSTGRES_PASSWORD"]
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []
