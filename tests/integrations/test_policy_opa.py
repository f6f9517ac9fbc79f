"""A policy point behind HTTP: what is an answer, what silence means, and how long it is borne."""

import contextlib
import logging
import socket
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from opa_server import UNDEFINED, Opa, opa
from optimizer.cycle import Ruling
from optimizer.errors import ConfigError
from optimizer.evidence import ProposalId
from optimizer.integrations.policy_opa import LONGEST_ANSWER, OpaPoint, Silence
from optimizer.policy import FACTS, Facts

ONE = ProposalId("p-1")
TOKEN = "s3cr3t-bearer"


def facts(**changed: Any) -> Facts:  # noqa: ANN401 - any fact
    known = {
        "now": datetime(2026, 3, 6, 17, tzinfo=UTC),
        "target.name": "support/answer",
        "target.labels": {"residency": "eu"},
        "candidate.regions": ("eu-1",),
        "urgent": False,
    }
    return dict.fromkeys(FACTS) | known | changed


@pytest.fixture
def server() -> Iterator[Opa]:
    with opa() as running:
        yield running


def point(url: str, **parts: Any) -> OpaPoint:  # noqa: ANN401 - of the point
    return OpaPoint(**({"name": "gov", "url": url, "path": "optimizer/decision"} | parts))


def ruling(server: Opa, result: object, **parts: Any) -> Ruling:  # noqa: ANN401 - of the point
    server.rules["optimizer/decision"] = lambda _: result
    return point(server.url, **parts).rule({ONE: facts()})[ONE]


def test_the_facts_arrive_nested_and_the_unknown_are_named(server: Opa) -> None:
    ruling(server, result=True, token=TOKEN)

    ((path, headers, given),) = server.asked
    assert path == "/v1/data/optimizer/decision"
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert given["target"] == {"name": "support/answer", "labels": {"residency": "eu"}}
    assert given["now"] == "2026-03-06T17:00:00+00:00"
    assert given["candidate"] == {"regions": ["eu-1"]}
    assert "expected" not in given
    assert "expected.daily_saving_usd" in given["unknown"]
    assert "urgent" not in given["unknown"]


@pytest.mark.parametrize("path", ["optimizer.decision", "/optimizer/decision/"])
def test_a_path_may_be_written_with_dots(server: Opa, path: str) -> None:
    assert ruling(server, result=True, path=path) == Ruling()


@pytest.mark.parametrize(
    ("result", "denials", "warnings"),
    [
        (True, [], []),
        (False, ["not allowed"], []),
        (UNDEFINED, ["undefined"], []),
        ([], [], []),
        (["a", "b"], ["a", "b"], []),
        ({"allow": True}, [], []),
        ({"allow": False}, ["not allowed"], []),
        ({"allow": False, "deny": ["a"]}, ["a"], []),
        ({"allow": True, "deny": ["a"]}, ["a"], []),
        ({"deny": [], "warn": ["w"]}, [], ["w"]),
        ({"allow": True, "warn": ["w"], "other": 1}, [], ["w"]),
    ],
)
def test_what_an_answer_says(
    server: Opa, result: object, denials: list[str], warnings: list[str]
) -> None:
    found = ruling(server, result)

    assert found.unavailable == ()
    for said, expected in ((found.denials, denials), (found.warnings, warnings)):
        assert len(said) == len(expected)
        assert all(word in text for text, word in zip(said, expected, strict=True))
        assert all(text.startswith("policy point gov ") for text in said)


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("yes", "no list of text"),
        (1, "no list of text"),
        (None, "no list of text"),
        ([1], "no list of text"),
        ({}, "neither allow nor deny"),
        ({"allow": "true"}, "neither allow nor deny"),
        ({"allow": True, "deny": "no"}, "no list of text"),
        ({"deny": [], "warn": [2]}, "no list of text"),
        (b"<html>", "no JSON"),
        (b"[true]", "no object"),
        (b'{"result": true', "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b" " * (LONGEST_ANSWER + 1), "bytes"),
    ],
)
def test_what_is_not_understood_is_no_answer(server: Opa, result: object, told: str) -> None:
    found = ruling(server, result)

    assert found == Ruling(unavailable=found.unavailable)
    assert told in found.unavailable[0]


@pytest.mark.parametrize("status", [400, 401, 404, 500, 503])
def test_another_status_than_200_is_no_answer(server: Opa, status: int) -> None:
    server.status = status

    assert f"answered {status}" in ruling(server, result=True).unavailable[0]


@pytest.mark.parametrize(
    ("silence", "field"),
    [(Silence.HOLD, "unavailable"), (Silence.DENY, "denials"), (Silence.WARN, "warnings")],
)
def test_silence_means_what_is_configured_and_never_nothing(silence: Silence, field: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"

        found = point(url, silence=silence).rule({ONE: facts()})[ONE]

    (text,) = getattr(found, field)
    assert "did not answer: ConnectError" in text
    assert found == Ruling(**{field: (text,)})


def test_many_questions_to_a_silent_server_end_at_the_deadline(server: Opa) -> None:
    server.going.clear()
    asked = {ProposalId(f"p-{i}"): facts() for i in range(200)}

    found = point(server.url, timeout_s=0.05, deadline_s=0.2).rule(asked)

    assert set(found) == set(asked)
    texts = [text for each in found.values() for text in each.unavailable]
    assert len(texts) == 200
    # Most were never sent: 8 at a time, each for 0.05 s, would have taken more than a second.
    assert sum("was not asked" in text for text in texts) > 100
    assert len(server.asked) < 100


def test_an_answer_that_trickles_without_end_is_not_waited_for() -> None:
    sent = 0

    def trickle(listening: socket.socket) -> None:
        nonlocal sent
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            for _ in range(1000):
                connection.sendall(b"y")
                sent += 1
                threading.Event().wait(0.02)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=trickle, args=(listening,))
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        found = point(url, timeout_s=0.1, deadline_s=0.2).rule({ONE: facts()})

        thread.join()
    assert "in time" in found[ONE].unavailable[0]
    assert sent < 1000


def test_one_that_fails_changes_no_other_answer(server: Opa) -> None:
    server.rules["optimizer/decision"] = lambda given: b"broken" if given["urgent"] else True
    asked = {ProposalId(f"p-{i}"): facts(urgent=i % 2 == 0) for i in range(6)}

    found = point(server.url).rule(asked)

    assert [bool(each.unavailable) for each in found.values()] == [True, False] * 3


def test_nobody_is_asked_about_nothing() -> None:
    before = threading.active_count()

    assert point("http://127.0.0.1:1").rule({}) == {}
    assert threading.active_count() == before


def test_a_redirect_is_not_followed(server: Opa) -> None:
    server.status = 307

    assert "answered 307" in ruling(server, result=True).unavailable[0]


def test_the_token_is_never_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    asking = point("http://127.0.0.1:1", token=TOKEN)

    found = asking.rule({ONE: facts()})
    try:
        point("nowhere", token=TOKEN)
    except ConfigError as error:
        told = "".join(traceback.format_exception(error))
    else:
        told = TOKEN

    assert TOKEN not in told + caplog.text + repr(asking) + repr(found)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ftp://host"},
        {"url": "host:8181"},
        {"url": "http://"},
        {"url": "http://[::1"},
        {"path": "/"},
        {"timeout_s": 0},
        {"deadline_s": -1.0},
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="gov"):
        point(**({"url": "http://127.0.0.1:8181"} | wrong))
