"""The dispatcher asks Prefect's API in its own words; a real HTTP server listens here."""

import base64
import json
import socket

import pytest

from answering import Answering
from optimizer.errors import ConfigError, OptimizerError, UnavailableError
from optimizer.integrations.prefect_dispatch import PrefectDispatcher

FIND = ("GET", "/api/deployments/name/rollout/step%20one")
START = ("POST", "/api/deployments/dep-1/create_flow_run")


@pytest.fixture
def api(server: Answering) -> Answering:
    server.answers[FIND] = (200, {"id": "dep-1", "name": "step one"})
    server.answers[START] = (201, {"id": "run-1"})
    return server


def test_a_run_is_asked_for_with_parameters_and_key(api: Answering) -> None:
    dispatcher = PrefectDispatcher(api_url=f"{api.url}/api/")

    run = dispatcher.start("rollout/step one", {"decision": "d-1", "look": 3}, "d-1:3")

    assert run == "run-1"
    assert [(method, path) for method, path, _, _ in api.asked] == [FIND, START]
    assert json.loads(api.asked[1][3]) == {
        "parameters": {"decision": "d-1", "look": 3},
        "idempotency_key": "d-1:3",
    }
    assert "authorization" not in api.asked[1][2]


def test_the_auth_string_is_sent_and_never_shown(api: Answering) -> None:
    dispatcher = PrefectDispatcher(api_url=f"{api.url}/api", auth_string="admin:hunter:2")

    dispatcher.start("rollout/step one", {}, "k")

    expected = "Basic " + base64.b64encode(b"admin:hunter:2").decode()
    assert [headers["authorization"] for _, _, headers, _ in api.asked] == [expected] * 2
    assert "hunter" not in repr(dispatcher)


@pytest.mark.parametrize(
    ("asked", "answer", "error", "told"),
    [
        (FIND, (404, {}), ConfigError, "no such deployment"),
        (FIND, (401, {}), ConfigError, "auth string"),
        (FIND, (503, {}), UnavailableError, "503"),
        (FIND, (200, b"<html>"), UnavailableError, "is the URL its API"),
        (FIND, (200, []), UnavailableError, "is the URL its API"),
        (START, (409, {"detail": "look: not an integer"}), ConfigError, "not an integer"),
        (START, (422, {"detail": "look: missing"}), ConfigError, "look: missing"),
        (START, (429, {}), UnavailableError, "429"),
        (START, (500, {}), UnavailableError, "500"),
    ],
)
def test_answers_are_told_apart(
    api: Answering,
    asked: tuple[str, str],
    answer: tuple[int, object],
    error: type[OptimizerError],
    told: str,
) -> None:
    api.answers[asked] = answer

    with pytest.raises(error, match=told):
        PrefectDispatcher(api_url=f"{api.url}/api").start("rollout/step one", {}, "k")


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/api"

    with pytest.raises(UnavailableError, match="does not answer"):
        PrefectDispatcher(api_url=url).start("rollout/step", {}, "k")


@pytest.mark.parametrize("name", ["rollout", "/step", "rollout/", ""])
def test_a_deployment_is_named_by_flow_and_name(name: str) -> None:
    with pytest.raises(ConfigError, match="flow/deployment"):
        PrefectDispatcher(api_url="http://127.0.0.1:1/api").start(name, {}, "k")


@pytest.mark.parametrize(
    ("url", "auth"), [("127.0.0.1:4200/api", None), ("http://127.0.0.1:1/api", "token")]
)
def test_settings_are_checked_at_once(url: str, auth: str | None) -> None:
    with pytest.raises(ConfigError):
        PrefectDispatcher(api_url=url, auth_string=auth)
