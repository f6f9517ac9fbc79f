"""What holds for every source. A new adapter joins by one entry in ORIGINS."""

import gzip
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

import duckdb
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.integrations.files import FileSource
from optimizer.integrations.sql import SqlSource
from optimizer.observations import Kind
from optimizer.ports.sources import Batch, Json, Source

START = datetime(2026, 3, 1, tzinfo=UTC)
UNTIL = datetime(2026, 3, 2, tzinfo=UTC)

ReadIds = Callable[[Batch], list[str]]


class Origin(Protocol):
    """A place that rows are written to, and the source that pulls from it."""

    source: Source

    def write(self, names: list[str]) -> None: ...


class Files:
    """A file that grows, or, of Parquet, files that are added."""

    def __init__(self, directory: Path, suffix: str) -> None:
        self._data = directory / "data"
        self._data.mkdir(parents=True)
        self._suffix = suffix
        self._n_files = 0
        self.source: Source = FileSource(
            name="calls",
            kind=Kind.CALLS,
            roots=[self._data],
            paths=["**/*"],
            spill_directory=directory / "spill",
            clock=lambda: UNTIL,
            batch_bytes=64,
        )

    def write(self, names: list[str]) -> None:
        if self._suffix == ".parquet":
            self._n_files += 1
            path = self._data / f"{self._n_files}.parquet"
            values = ", ".join(f"('{name}')" for name in names)
            table = duckdb.sql(f"SELECT * FROM (VALUES {values}) AS t(request_id)")  # noqa: S608
            assert table is not None
            table.write_parquet(str(path))
            return
        path = self._data / f"calls{self._suffix}"
        if ".csv" in self._suffix:
            header = "" if path.exists() else "note,request_id\n"
            text = header + "".join(f'"two\nlines, ""quoted""",{name}\n' for name in names)
        else:
            text = "".join(json.dumps({"request_id": name}) + "\n" for name in names)
        data = text.encode()
        with path.open("ab") as file:
            file.write(gzip.compress(data) if path.suffix == ".gz" else data)


class Database:
    """A table that rows are inserted into, several of them at the same second."""

    def __init__(self, url: str, name: str, *, as_query: bool) -> None:
        self._url, self._n_rows = url, 0
        engine = sa.create_engine(url)
        self._table = sa.Table(
            name,
            sa.MetaData(),
            sa.Column("request_id", sa.String(20), primary_key=True),
            sa.Column("created at", sa.DateTime(timezone=not as_query)),
        )
        self._table.create(engine)
        engine.dispose()
        place: dict[str, Json] = (
            {"query": f"SELECT request_id, \"created at\" FROM {name} WHERE request_id <> ':x';"}  # noqa: S608
            if as_query
            else {"table": name}
        )
        self.source: Source = SqlSource(
            name="calls",
            kind=Kind.CALLS,
            url=url,
            cursor_column="created at",
            id_column="request_id",
            overlap=timedelta(seconds=2),
            page_rows=3,
            **place,
        )

    def write(self, names: list[str]) -> None:
        engine = sa.create_engine(self._url)
        with engine.begin() as connection:
            for name in names:
                at = START + timedelta(seconds=self._n_rows // 4)
                self._n_rows += 1
                row = {"request_id": name, "created at": at}
                connection.execute(self._table.insert().values(row))
        engine.dispose()


ORIGINS = (
    *(".csv", ".jsonl", ".csv.gz", ".jsonl.gz", ".parquet"),
    *("sqlite table", "sqlite query", "postgres table", "postgres query"),
)


@pytest.fixture(params=ORIGINS)
def new_origin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Origin]]:
    """Makes an empty origin, another one at every call."""
    kind: str = request.param
    numbers = itertools.count()
    if kind.startswith("."):
        yield lambda: Files(tmp_path / f"{next(numbers)}", kind)
        return
    backend, shape = kind.split()
    url = f"sqlite:///{tmp_path / 'calls.db'}"
    if backend == "postgres":
        url = request.getfixturevalue("postgres_database_url")
    yield lambda: Database(url, f"calls_{next(numbers)}", as_query=shape == "query")


def drained(origin: Origin, cursor: Mapping[str, Json], ids: ReadIds) -> tuple[list[str], Json]:
    """All that a pull gives, and the cursor behind it, as a database would have kept it."""
    found: list[str] = []
    for batch in origin.source.pull(cursor, until=UNTIL):
        found += ids(batch)
        assert batch.rejects == ()
        cursor = json.loads(json.dumps(batch.cursor))
    return found, cursor


def test_an_empty_origin_gives_nothing(new_origin: Callable[[], Origin]) -> None:
    assert list(new_origin().source.pull({}, until=UNTIL)) == []


def test_a_first_pull_gives_every_row_once(new_origin: Callable[[], Origin], ids: ReadIds) -> None:
    origin = new_origin()
    names = [f"r{number:03d}" for number in range(20)]
    origin.write(names)

    found, _ = drained(origin, {}, ids)

    assert sorted(found) == names


def test_a_second_pull_gives_nothing_new(new_origin: Callable[[], Origin], ids: ReadIds) -> None:
    origin = new_origin()
    origin.write([f"r{number:03d}" for number in range(20)])
    first, cursor = drained(origin, {}, ids)

    second, again = drained(origin, cursor, ids)

    assert set(second) <= set(first)
    assert len(second) < len(first)
    assert again == cursor


def test_a_batch_is_bounded(new_origin: Callable[[], Origin], ids: ReadIds) -> None:
    origin = new_origin()
    for number in range(20):
        origin.write([f"r{number:03d}"])

    sizes = [len(ids(batch)) for batch in origin.source.pull({}, until=UNTIL)]

    assert len(sizes) >= 5
    assert max(sizes) <= 6


@given(
    steps=st.lists(
        st.tuples(st.integers(min_value=1, max_value=9), st.integers(min_value=0, max_value=4)),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pulls_broken_off_anywhere_lose_nothing(
    new_origin: Callable[[], Origin], ids: ReadIds, steps: list[tuple[int, int]]
) -> None:
    """Each step writes some rows, then takes some batches of a pull and dies."""
    origin = new_origin()
    numbers = itertools.count()
    written: list[str] = []
    found: list[str] = []
    cursor: Json = {}
    for n_rows, n_batches in steps:
        names = [f"r{next(numbers):03d}" for _ in range(n_rows)]
        origin.write(names)
        written += names
        for batch in itertools.islice(origin.source.pull(cursor, until=UNTIL), n_batches):
            found += ids(batch)
            cursor = json.loads(json.dumps(batch.cursor))

    rest, _ = drained(origin, cursor, ids)

    assert set(found + rest) == set(written)
