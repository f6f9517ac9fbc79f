"""The spool: immutable Parquet files of checked rows, each named after its content.

A file appears whole or not at all: it is written under a temporary name, synced, and renamed. Only
the ledger's manifest makes a file count; what is not in it is an orphan, which a sweep removes.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from optimizer.engine.duck import exact
from optimizer.errors import UnavailableError
from optimizer.ports.intake_store import SpoolFile

CALLS: Final = "calls"
FEEDBACK: Final = "feedback"
QUARANTINE: Final = "quarantine"
DATASETS: Final = (CALLS, FEEDBACK, QUARANTINE)

_NAME: Final = re.compile(r"(calls|feedback|quarantine)_(-?\d+)_(-?\d+)_[0-9a-f]{32}\.parquet")
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Spool:
    """Files below ``root``: one folder per dataset, and ``tmp`` for what is not finished."""

    root: Path

    @property
    def temporary(self) -> Path:
        """Where unfinished files and DuckDB's spill lie; on the same file system as the files."""
        return self.root / "tmp"

    def path(self, name: str) -> Path:
        """Where a file of that name lies.

        Raises:
            ValueError: the name is none that the spool gives.
        """
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} is no name of a spool file")
        return self.root / match[1] / name

    def patterns(self, files: Sequence[SpoolFile]) -> list[str]:
        """The files' paths as DuckDB's readers must get them."""
        return [exact(self.path(file.name)) for file in files]

    def publish(
        self,
        dataset: str,
        *,
        source: str,
        n_rows: int,
        min_s: int,
        max_s: int,
        write: Callable[[Path], None],
    ) -> SpoolFile:
        """Write a file and give it its name; the same content again is the same file.

        Raises:
            UnavailableError: the file system refused.
        """
        self.temporary.mkdir(parents=True, exist_ok=True)
        draft = self.temporary / f"{uuid.uuid4().hex}.parquet"
        try:
            write(draft)
            name = f"{dataset}_{min_s}_{max_s}_{_digest(draft)}.parquet"
            final = self.path(name)
            final.parent.mkdir(parents=True, exist_ok=True)
            _sync(draft)
            draft.replace(final)
            _sync(final.parent)
        except OSError as reason:
            raise UnavailableError(f"cannot write to the spool {self.root}: {reason}") from reason
        finally:
            draft.unlink(missing_ok=True)
        return SpoolFile(
            name=name, dataset=dataset, source=source, n_rows=n_rows, min_s=min_s, max_s=max_s
        )

    def discard(self, names: Collection[str]) -> None:
        """Delete files that no manifest names; missing ones are passed over."""
        for name in names:
            self.path(name).unlink(missing_ok=True)

    def touch(self, names: Collection[str]) -> None:
        """Note that the manifest has just let go of files: a sweep's grace begins now."""
        for name in names:
            with suppress(FileNotFoundError):
                os.utime(self.path(name))

    def sweep(self, manifest: Collection[str], *, now: datetime, grace: timedelta) -> list[str]:
        """Delete what the manifest does not name and nobody wrote to for ``grace``; their names.

        ``grace`` must exceed the longest intake: a file is published before it is committed.
        """
        known = set(manifest)
        limit = (now - grace).timestamp()
        return [
            path.name
            for path in self._files()
            if path.name not in known and _remove(path, older_than=limit)
        ]

    def _files(self) -> Iterator[Path]:
        """Everything, also what a killed run left in its folders under ``tmp``."""
        for folder in (*DATASETS, self.temporary.name):
            yield from sorted(path for path in (self.root / folder).rglob("*") if path.is_file())


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()[:32]


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove(path: Path, *, older_than: float = float("inf")) -> bool:
    """Whether the file was there, old enough, and now is not."""
    with suppress(FileNotFoundError):
        if path.stat().st_mtime < older_than:
            path.unlink()
            return True
    return False
