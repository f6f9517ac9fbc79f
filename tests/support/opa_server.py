"""A server on a real socket that speaks Open Policy Agent's data API, and misbehaves as told.

What it answers follows OPA's documentation: 200 with ``{"result": …}``; 200 without ``result``
where the document is undefined; errors as ``{"code": …, "message": …}``. The policy itself is a
Python function here, because what is tested is the conversation, not Rego.

Source: https://www.openpolicyagent.org/docs/latest/rest-api/#get-a-document-with-input
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

UNDEFINED = object()
"""Of a rule that has no value for the input."""

Rule = Callable[[Mapping[str, Any]], object]


@dataclass
class Opa:
    """rules: by path, ``optimizer/allow``; a body of bytes is sent as it stands.

    status: of every answer; asked: path, headers (lower-case names) and input of each question;
    going: cleared while answers are kept back.
    """

    port: int
    rules: dict[str, Rule] = field(default_factory=dict)
    status: int = 200
    asked: list[tuple[str, dict[str, str], dict[str, Any]]] = field(default_factory=list)
    going: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def answer(self, path: str, facts: Mapping[str, Any]) -> bytes:
        """The body of an answer."""
        if self.status != 200:
            return json.dumps({"code": "internal_error", "message": "as told"}).encode()
        rule = self.rules.get(path)
        result = UNDEFINED if rule is None else rule(facts)
        if isinstance(result, bytes):
            return result
        return json.dumps({} if result is UNDEFINED else {"result": result}).encode()


@contextlib.contextmanager
def opa(port: int = 0) -> Iterator[Opa]:
    """A running server; port 0 = a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            path = self.path.removeprefix("/v1/data/")
            state.asked.append((self.path, headers, body["input"]))
            state.going.wait(timeout=10)
            payload = state.answer(path, body["input"])
            with contextlib.suppress(ConnectionError):  # who asked may not have waited
                self.send_response(state.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

        def log_message(self, *_: object) -> None:
            """Say nothing on the terminal."""

    running = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    state = Opa(port=running.server_address[1])
    state.going.set()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        state.going.set()
        running.shutdown()
        running.server_close()
        thread.join()
