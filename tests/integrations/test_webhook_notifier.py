"""A message reaches its receiver once, signed, and nobody else."""

import hashlib
import hmac
import json
import logging
import socket
import traceback

import pytest

from answering import Answering
from optimizer.errors import ConfigError, UnavailableError
from optimizer.integrations.webhook_notifier import WebhookNotifier

SECRET = "s3cr3t-of-the-hook"
MESSAGE = {
    "title": "Rolled back",
    "body": "support-bot: failure rate 0.09 > 0.05 – °",
    "severity": "critical",
    "decision_id": "d-1",
}


def test_the_message_arrives_with_its_signature(server: Answering) -> None:
    server.answers["POST", "/hook?token=t"] = (204, {})
    url = f"http://localhost:{server.port}/hook?token=t"
    notifier = WebhookNotifier(url=url, secret=SECRET, headers={"X-Team": "llm"})

    notifier.notify(**MESSAGE)

    ((_, _, headers, body),) = server.asked
    assert json.loads(body) == MESSAGE
    expected = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers["x-signature-256"] == f"sha256={expected}"
    assert headers["content-type"] == "application/json"
    assert headers["host"] == f"localhost:{server.port}"
    assert headers["x-team"] == "llm"


def test_equal_messages_have_equal_keys_and_others_have_others(server: Answering) -> None:
    server.answers["POST", "/"] = (200, {})
    notifier = WebhookNotifier(url=f"{server.url}/")

    notifier.notify(**MESSAGE)
    notifier.notify(**MESSAGE)
    notifier.notify(**(MESSAGE | {"body": "another"}))

    keys = [headers["idempotency-key"] for _, _, headers, _ in server.asked]
    assert keys[0] == keys[1] != keys[2]
    assert all("x-signature-256" not in headers for _, _, headers, _ in server.asked)


@pytest.mark.parametrize("status", [400, 404, 500])
def test_an_answer_that_is_no_success_is_unavailable(server: Answering, status: int) -> None:
    server.answers["POST", "/"] = (status, {})

    with pytest.raises(UnavailableError, match=f"answered {status}"):
        WebhookNotifier(url=f"{server.url}/").notify(**MESSAGE)


def test_redirects_are_not_followed(server: Answering) -> None:
    server.answers["POST", "/"] = (307, f"{server.url}/elsewhere")
    server.answers["POST", "/elsewhere"] = (200, {})

    with pytest.raises(UnavailableError, match="answered 307"):
        WebhookNotifier(url=f"{server.url}/").notify(**MESSAGE)

    assert [path for _, path, _, _ in server.asked] == ["/"]


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "[fe80::1]",
        "[::ffff:169.254.169.254]",
        "0.0.0.0",  # noqa: S104 - an address to refuse
        "100.100.100.200",
        "[fd00:ec2::254]",
        "224.0.0.1",
        "2852039166",  # 169.254.169.254 as one number
    ],
)
def test_metadata_and_link_local_addresses_are_not_called(host: str) -> None:
    with pytest.raises(ConfigError, match="not called"):
        WebhookNotifier(url=f"http://{host}/latest", timeout_s=0.2).notify(**MESSAGE)


def test_a_link_local_address_is_called_where_that_is_allowed() -> None:
    notifier = WebhookNotifier(url="http://169.254.1.1:9/", timeout_s=0.05, allow_link_local=True)

    with pytest.raises(UnavailableError):
        notifier.notify(**MESSAGE)


def test_nobody_listening_is_unavailable_and_no_secret_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/services/T0KEN"
    notifier = WebhookNotifier(url=url, secret=SECRET)

    with pytest.raises(UnavailableError) as caught:
        notifier.notify(**MESSAGE)

    told = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(notifier)
    assert SECRET not in told
    assert "T0KEN" not in told


def test_a_host_that_nobody_knows_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="not known"):
        WebhookNotifier(url="http://no-such-host.invalid/").notify(**MESSAGE)


def test_a_receiver_that_does_not_answer_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"

        with pytest.raises(UnavailableError, match="Timeout"):
            WebhookNotifier(url=url, timeout_s=0.05).notify(**MESSAGE)


@pytest.mark.parametrize("url", ["ftp://host/", "host/hook", "http://", "http://[::1", ""])
def test_what_is_no_web_address_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError):
        WebhookNotifier(url=url)


def test_a_timeout_must_be_above_zero() -> None:
    with pytest.raises(ConfigError, match="timeout_s"):
        WebhookNotifier(url="http://host/", timeout_s=0)
