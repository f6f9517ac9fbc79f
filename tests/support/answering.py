"""A real HTTP server for tests of what calls one: answers as told, and keeps what it was asked."""

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answering:
    """answers: (method, path) -> status and body; what has none is answered with 404.

    asked: method, path, headers (lower-case names) and body of every request.
    """

    port: int
    answers: dict[tuple[str, str], tuple[int, object]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def answering() -> Iterator[Answering]:
    """A running server on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.asked.append((self.command, self.path, headers, body))
            status, answer = state.answers.get((self.command, self.path), (404, {}))
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", str(answer))
            payload = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = _answer  # noqa: N815 - the names that http.server looks for

        def log_message(self, *_: object) -> None:
            """Say nothing on the terminal."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Answering(port=running.server_address[1])
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        running.shutdown()
        running.server_close()
        thread.join()
