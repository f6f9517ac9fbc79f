"""The source that pulls observations from files below configured directories.

Law: whatever point a pull is broken off at, pulling on from the last cursor gives every complete
line at least once. A file whose read part is unchanged goes on from where it was left; any other
change of it is a new file.

To rotate a log without loss, let the paths match the rotated name too (``app.log*``): what was
written between the last pull and the rotation is read there, and what had been read already comes
a second time, which the intake tells by its request id.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from optimizer.errors import ConfigError
from optimizer.integrations.files.places import Found, Places
from optimizer.integrations.files.position import position_of
from optimizer.integrations.files.reader import Limits, Part, Reader
from optimizer.integrations.files.spill import Spill
from optimizer.observations import Kind
from optimizer.ports.sources import Batch, FileInput, Json, Mapped, Reject

_MAX_INPUTS = 256
_MAX_REJECTS = 10_000


@dataclass(slots=True)
class _Gathered:
    """Parts that go into one batch."""

    inputs: list[FileInput] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    n_bytes: int = 0
    saves_reading: bool = False

    def add(self, found: Found, part: Part) -> None:
        if part.path is not None:
            self.inputs.append(
                FileInput(
                    path=part.path,
                    format=found.format,
                    origin=found.origin,
                    first_line=part.first_line,
                )
            )
        self.rejects += part.rejects
        self.n_bytes += part.n_bytes
        # A file that was touched but says nothing new: keeping that spares reading it again.
        self.saves_reading |= part.position.done and part.position.offset > 0

    @property
    def worth_a_batch(self) -> bool:
        return bool(self.inputs or self.rejects or self.saves_reading)


class FileSource:
    """Pulls CSV, JSON Lines (either may be gzipped) and Parquet files.

    The path of a CSV or JSON Lines input is a copy in the spill directory that holds complete lines
    only, each copy with its file's header; it is deleted when the next batch is asked for or the
    iterator is closed. Parquet files are handed on where they are, again whenever they change.
    """

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        *,
        name: str,
        kind: Kind,
        roots: Sequence[Path],
        paths: Sequence[str],
        spill_directory: Path,
        clock: Callable[[], datetime],
        format: str = "auto",  # noqa: A002 - the setting's name
        mapped: Mapped | None = None,
        idle: timedelta = timedelta(minutes=15),
        max_line_bytes: int = 1 << 20,
        batch_bytes: int = 256 << 20,
        max_unpacked_bytes: int = 64 << 30,
    ) -> None:
        """Nothing is read before the first pull.

        Args:
            name: unique name from the configuration.
            kind: what the rows are.
            roots: directories that files must lie below, symbolic links followed.
            paths: glob patterns, relative to each root or absolute; ``**`` reaches into folders.
            spill_directory: where copies lie for as long as they are read.
            clock: the present time, aware; compared with the files' times.
            format: csv, jsonl or parquet; auto = by the files' names.
            mapped: how columns become canonical ones.
            idle: a file nobody has written to for so long has a complete last line.
            max_line_bytes: longer lines are refused, never held in memory.
            batch_bytes: about the most text in one batch.
            max_unpacked_bytes: a gzipped file is read up to so many unpacked bytes.

        Raises:
            ConfigError: a pattern that leads out of the roots, an unknown format, a bound below 1.
        """
        bounds = {
            "max_line_bytes": max_line_bytes,
            "batch_bytes": batch_bytes,
            "max_unpacked_bytes": max_unpacked_bytes,
        }
        for bound, value in bounds.items():
            if value < 1:
                raise ConfigError(f"source {name}: {bound} = {value} is below 1")
        self._name = name
        self._kind = kind
        self._places = Places(roots=tuple(roots), patterns=tuple(paths), format=format)
        self._spill_directory = spill_directory
        self._clock = clock
        self._mapped = mapped or Mapped()
        self._limits = Limits(
            max_line_bytes=max_line_bytes,
            piece_bytes=batch_bytes,
            max_unpacked_bytes=max_unpacked_bytes,
            idle=idle,
        )

    @property
    def name(self) -> str:
        """Unique name from the configuration."""
        return self._name

    def pull(self, cursor: Mapping[str, Json], *, until: datetime) -> Iterator[Batch]:
        """Batches of what the files hold behind ``cursor``, oldest file first.

        Read a batch's files before asking for the next batch.

        Raises:
            ConfigError: a symbolic link leads out of the roots.
            DataError: the cursor is not one of this source's.
            UnavailableError: a root is not there, or the file system does not answer.
        """
        files = self._places.find()
        known = _entries(cursor)
        # Files that have gone are forgotten, so that the cursor does not grow for ever.
        entries = {f.origin: known[f.origin] for f in files if f.origin in known}
        gathered = _Gathered()
        with Spill(self._spill_directory) as spill:
            reader = Reader(self._limits, spill, self._clock)
            for found in files:
                for part in reader.read(found, position_of(entries.get(found.origin))):
                    entries[found.origin] = part.position.as_json()
                    gathered.add(found, part)
                    if self._full(gathered):
                        yield self._batch(gathered, entries)
                        spill.clear()
                        gathered = _Gathered()
            if gathered.worth_a_batch:
                yield self._batch(gathered, entries)

    def _full(self, gathered: _Gathered) -> bool:
        return (
            gathered.n_bytes >= self._limits.piece_bytes
            or len(gathered.inputs) >= _MAX_INPUTS
            or len(gathered.rejects) >= _MAX_REJECTS
        )

    def _batch(self, gathered: _Gathered, entries: Mapping[str, Json]) -> Batch:
        return Batch(
            source=self._name,
            kind=self._kind,
            mapped=self._mapped,
            inputs=tuple(gathered.inputs),
            cursor={"files": dict(entries)},
            rejects=tuple(gathered.rejects),
        )


def forget(cursor: Mapping[str, Json], origin: str) -> dict[str, Json]:
    """The cursor without one file, which is then read again from its start.

    Examples:
        >>> forget({"files": {"a.csv": {"offset": 7}, "b.csv": {"offset": 9}}}, "a.csv")
        {'files': {'b.csv': {'offset': 9}}}
    """
    return {"files": {name: at for name, at in _entries(cursor).items() if name != origin}}


def _entries(cursor: Mapping[str, Json]) -> dict[str, dict[str, Json]]:
    return dict(cursor.get("files", {}))
