"""What the tests of the integrations share: a fixed time, readers of inputs, small HTTP servers."""

import csv
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import duckdb
import pytest

from optimizer.ports.sources import Batch, FileInput

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def _ids(batch: Batch) -> list[str]:
    found: list[str] = []
    for given in batch.inputs:
        if not isinstance(given, FileInput):
            found += [str(value) for value in given.frame["request_id"]]
        elif given.format == "csv":
            with given.path.open(encoding="utf-8", newline="") as file:
                found += [row["request_id"] for row in csv.DictReader(file)]
        elif given.format == "jsonl":
            lines = given.path.read_text(encoding="utf-8").split("\n")
            found += [json.loads(line)["request_id"] for line in lines if line]
        else:
            table = duckdb.read_parquet(str(given.path))
            found += [str(row[0]) for row in table.project("request_id").fetchall()]
    return found


@pytest.fixture
def ids() -> Callable[[Batch], list[str]]:
    """Reads the request ids of a batch as any reader of its format would."""
    return _ids


@pytest.fixture
def noon() -> datetime:
    """The present, where a test needs none of its own."""
    return NOON


@dataclass
class Answering:
    """A real HTTP server: gives the answers it was told to, and keeps what it was asked."""

    port: int
    answers: dict[tuple[str, str], tuple[int, object]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def server() -> Iterator[Answering]:
    """An HTTP server on a free port; what it has no answer for is answered with 404."""

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
    yield state
    running.shutdown()
    running.server_close()
    thread.join()
