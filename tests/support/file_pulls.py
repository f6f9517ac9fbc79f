"""A file source that is pulled from again and again, as the hours do."""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from optimizer.integrations.files import FileSource
from optimizer.observations import Kind, QuarantineReason
from optimizer.ports.sources import Batch, Json, Reject

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MAX_LINE_BYTES = 1000

ReadIds = Callable[[Batch], list[str]]


def source_of(data: Path, *, paths: Sequence[str] = ("**/*",), **settings: Json) -> FileSource:
    bounds: dict[str, Json] = {
        "max_line_bytes": MAX_LINE_BYTES,
        "spill_directory": data.parent / "spill",
    }
    return FileSource(
        name="calls",
        kind=Kind.CALLS,
        roots=[data],
        paths=paths,
        clock=lambda: NOW,
        **(bounds | settings),
    )


class Puller:
    """Pulls again and again, as the hours do; keeps the cursor."""

    def __init__(self, source: FileSource, ids: ReadIds) -> None:
        self.source = source
        self.cursor: Json = {}
        self._ids = ids
        self.rejects: list[Reject] = []

    def pull(self) -> list[str]:
        found: list[str] = []
        self.rejects = []
        for batch in self.source.pull(self.cursor, until=NOW):
            found += self._ids(batch)
            self.rejects += batch.rejects
            self.cursor = batch.cursor
        return found

    @property
    def reasons(self) -> list[tuple[int | None, QuarantineReason]]:
        return [(reject.line, reject.reason) for reject in self.rejects]


def json_lines(*names: str) -> str:
    return "".join(f'{{"request_id":"{name}"}}\n' for name in names)


def written_at(path: Path, at: datetime) -> None:
    os.utime(path, (at.timestamp(), at.timestamp()))
