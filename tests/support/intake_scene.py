"""A small installation for intake tests: two targets, an engine, rows by the handful."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from optimizer.engine import Engine, EngineLimits, Ingested, Spool
from optimizer.errors import UnavailableError
from optimizer.observations import Kind
from optimizer.ports import Batch, FileInput, FrameInput, Json, Mapped, Reject
from optimizer.targets import Arm, ModelConfig, Price, Target

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
"""When every batch of these tests comes in."""

NOON_S = int(NOON.timestamp())

TARGETS = {
    name: Target(
        name=name,
        arms=(
            Arm(
                name="large",
                config=ModelConfig(model="gpt-large"),
                price=Price(
                    input_usd_per_mtok=2.5, output_usd_per_mtok=10, cached_input_usd_per_mtok=0.25
                ),
            ),
            Arm(name="small", config=ModelConfig(model="gpt-small")),
        ),
        baseline="large",
    )
    for name in ("chat", "search")
}


def engine_at(folder: Path) -> Engine:
    return Engine(spool=Spool(folder), limits=EngineLimits(memory_limit_mb=256, threads=1))


def call(number: int = 1, **changes: object) -> dict[str, Any]:
    """A good call, ten minutes before noon; a change to None leaves the column out."""
    row = {
        "request_id": f"r{number}",
        "ts": (NOON - timedelta(minutes=10)).isoformat(),
        "target": "chat",
        "arm": "large",
        "status": "ok",
        "latency_ms": 250.0,
        **changes,
    }
    return {name: value for name, value in row.items() if value is not None}


def batch(
    *inputs: FileInput | FrameInput,
    kind: Kind = Kind.CALLS,
    mapped: Mapped | None = None,
    rejects: Sequence[Reject] = (),
    source: str = "app",
    cursor: Mapping[str, Json] | None = None,
) -> Batch:
    return Batch(
        source=source,
        kind=kind,
        mapped=mapped or Mapped(),
        inputs=inputs,
        cursor=cursor or {},
        rejects=tuple(rejects),
    )


def frame(rows: Sequence[Mapping[str, Any]], origin: str = "table") -> FrameInput:
    return FrameInput(frame=pd.DataFrame(list(rows), dtype="object"), origin=origin)


def jsonl(path: Path, lines: Sequence[Mapping[str, Any] | str | bytes]) -> FileInput:
    """A JSON Lines file; text and bytes go in as they are."""
    with path.open("wb") as file:
        for line in lines:
            text = line if isinstance(line, str | bytes) else json.dumps(line)
            file.write((text if isinstance(text, bytes) else text.encode()) + b"\n")
    return FileInput(path=path, format="jsonl", origin=path.name)


def csv_file(path: Path, text: str | bytes, first_line: int = 2) -> FileInput:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return FileInput(path=path, format="csv", origin=path.name, first_line=first_line)


def ingest(engine: Engine, given: Batch, **known: Any) -> Ingested:  # noqa: ANN401 - what it is compared with
    return engine.ingest(given, targets=TARGETS, received_at=NOON, **known)


def of(found: Ingested, dataset: str) -> list[Any]:
    return [file for file in found.files if file.dataset == dataset]


def bad_rows(engine: Engine, found: Ingested) -> list[dict[str, Any]]:
    """The quarantined rows, by origin and line."""
    rows = engine.quarantine_rows(of(found, "quarantine"), source=None, reason=None, limit=10_000)
    return [row for _, row in rows]


def spooled(engine: Engine, found: Ingested, dataset: str = "calls") -> pd.DataFrame:
    """The kept rows as they lie in the spool, in its order."""
    from optimizer.engine.duck import connect  # noqa: PLC0415 - only here

    files = of(found, dataset)
    with connect(engine.limits, engine.temporary) as connection:
        return connection.execute(
            "SELECT * EXCLUDE (ts) FROM read_parquet(?)", [engine.spool.patterns(files)]
        ).df()


@dataclass
class ListedSource:
    """A source that has a list of batches; the cursor counts those that were taken."""

    batches: list[Batch]
    name: str = "app"
    fails_at: int | None = None
    closed: list[int] = field(default_factory=list)

    def pull(self, cursor: Mapping[str, Json], *, until: datetime) -> Iterator[Batch]:
        taken = int(cursor.get("taken", 0))
        try:
            for number, given in enumerate(self.batches[taken:], start=taken):
                if number == self.fails_at:
                    raise UnavailableError("the listed source is away")
                yield Batch(
                    source=self.name,
                    kind=given.kind,
                    mapped=given.mapped,
                    inputs=given.inputs,
                    cursor={"taken": number + 1},
                    rejects=given.rejects,
                )
        finally:
            self.closed.append(taken)
