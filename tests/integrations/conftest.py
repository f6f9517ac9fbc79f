"""What the tests of the integrations share: a fixed time, readers of inputs, small HTTP servers."""

import csv
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from answering import Answering, answering
from file_pulls import Puller, source_of
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


@pytest.fixture
def server() -> Iterator[Answering]:
    """An HTTP server of this test's own."""
    with answering() as running:
        yield running


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


@pytest.fixture
def puller(data: Path, ids: Callable[[Batch], list[str]]) -> Puller:
    return Puller(source_of(data), ids)
