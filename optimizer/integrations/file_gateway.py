"""A gateway that publishes one small file per target, which applications read with the client.

Law: generations only grow, also when two processes publish at once, when a run dies between any two
steps, and when the published file is lost or damaged. A small file beside the published one,
``.NAME.generation``, keeps the highest generation and a hash of its split; it is written first, so
that what was published is never newer than what is remembered. Were both damaged, any generation
is taken: a roll back must always be possible.
"""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

from optimizer.allocation import Allocation, Slice, SliceName
from optimizer.client import FORMAT, AllocationError, Document, file_name, parse, seal
from optimizer.errors import ConfigError, ConflictError, DataError, UnavailableError

_LOCK_WAIT_S = 10.0
_LOCK_RETRY_S = 0.02
_NAME_BYTES = 255
_LONGEST_ADDITION = len("..generation.draft")


class FileGateway:
    """Publishes allocations in a directory by atomic replacement."""

    def __init__(
        self,
        *,
        name: str,
        directory: Path,
        expires_after: timedelta,
        clock: Callable[[], datetime],
    ) -> None:
        """Nothing is written before the first allocation.

        Args:
            name: unique name from the configuration.
            directory: where applications look; made when it is not there.
            expires_after: how long readers may follow an allocation that is not renewed; then they
                go back to its baseline.
            clock: the present time, aware.

        Raises:
            ConfigError: ``expires_after`` is not above zero.
        """
        if expires_after <= timedelta(0):
            raise ConfigError(f"gateway {name}: expires_after = {expires_after} is not above 0")
        self._name = name
        self._directory = directory
        self._expires_after = expires_after
        self._clock = clock

    @property
    def name(self) -> str:
        """Unique name from the configuration."""
        return self._name

    def apply(self, allocation: Allocation, *, arms: Mapping[str, Mapping[str, object]]) -> None:
        """Publish the allocation, unless a newer one is; again = freshness stamps are renewed.

        Raises:
            ConfigError: an arm has no configuration, or one that no reader would accept.
            ConflictError: a newer generation was published, or another split under this one.
            UnavailableError: the file was not written.
        """
        document = self._sealed(allocation, arms)
        path = self._path(allocation.target)
        mark = _Mark(generation=allocation.generation, split=_split_hash(allocation))
        with _unavailable(f"gateway {self._name} cannot publish {allocation.target}"):
            self._directory.mkdir(parents=True, exist_ok=True)
            with _locked(_beside(path, "lock")):
                before = self._highest(allocation.target, path)
                if before is not None:
                    _fence(allocation.target, before, mark)
                if mark != before:
                    _replace(_beside(path, "generation"), mark.as_bytes())
                _replace(path, document)

    def read(self, target: str) -> Allocation | None:
        """The published allocation; None where nothing is published.

        Raises:
            DataError: the file was damaged, changed by hand, or holds another target's allocation.
            UnavailableError: the file cannot be read.
        """
        path = self._path(target)
        with _unavailable(f"gateway {self._name} cannot read {path}"):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                return None
        try:
            document = parse(data)
            if document.target != target:
                raise DataError(f"{path} holds the allocation of {document.target}, not {target}")
            return _allocation(document)
        except ValueError as error:
            raise DataError(f"{path} is not what was published: {error}") from error

    def _path(self, target: str) -> Path:
        name = file_name(target)
        if len(name) + _LONGEST_ADDITION > _NAME_BYTES:
            raise ConfigError(f"target {target} has too long a name to be a file's: {name}")
        return self._directory / name

    def _sealed(self, allocation: Allocation, arms: Mapping[str, Mapping[str, object]]) -> bytes:
        now = self._clock().astimezone(UTC)
        document = {
            "format": FORMAT,
            "target": allocation.target,
            "generation": allocation.generation,
            "salt": allocation.salt,
            "published_at": _in_words(now),
            "expires_at": _in_words(now + self._expires_after),
            "baseline": allocation.baseline,
            "slices": [
                {"slice": part.name.value, "arm": part.arm, "low": part.low, "high": part.high}
                for part in allocation.slices
            ],
            "arms": {arm: dict(config) for arm, config in arms.items()},
            "decision": allocation.decision_id,
        }
        try:
            return seal(document)
        except AllocationError as error:
            raise ConfigError(f"target {allocation.target} cannot be published: {error}") from error

    def _highest(self, target: str, path: Path) -> "_Mark | None":
        """The highest generation that the file or the one beside it knows of."""
        marks = [_mark(_beside(path, "generation"))]
        with contextlib.suppress(DataError):
            published = self.read(target)
            if published is not None:
                mark = _Mark(generation=published.generation, split=_split_hash(published))
                marks.append(mark)
        return max((mark for mark in marks if mark), key=lambda m: m.generation, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    """A generation and the hash of its split."""

    generation: int
    split: str

    def as_bytes(self) -> bytes:
        return json.dumps({"generation": self.generation, "split": self.split}).encode()


def _mark(path: Path) -> _Mark | None:
    """What was remembered; None when there is nothing, or nothing that can be understood."""
    try:
        kept = json.loads(path.read_bytes())
        return _Mark(generation=int(kept["generation"]), split=str(kept["split"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _fence(target: str, before: _Mark, new: _Mark) -> None:
    if new.generation < before.generation:
        raise ConflictError(
            f"target {target}: generation {new.generation} is older than {before.generation}, "
            "which was published"
        )
    if new.generation == before.generation and new.split != before.split:
        raise ConflictError(
            f"target {target}: generation {new.generation} was published with another split"
        )


def _split_hash(allocation: Allocation) -> str:
    """Equal when :meth:`Allocation.same_split` holds."""
    parts = [[p.name.value, p.arm, p.low, p.high] for p in allocation.slices]
    split = [allocation.target, allocation.salt, allocation.baseline, parts]
    return sha256(json.dumps(split).encode()).hexdigest()


def _allocation(document: Document) -> Allocation:
    slices = tuple(
        Slice(name=SliceName(part.name), arm=part.arm, low=part.low, high=part.high)
        for part in document.slices
    )
    return Allocation(
        target=document.target,
        generation=document.generation,
        salt=document.salt,
        baseline=document.baseline,
        slices=slices,
        decision_id=document.decision,
    )


def _in_words(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _beside(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}")


def _replace(path: Path, data: bytes) -> None:
    """The file holds ``data``, also after a power cut; a reader sees the old or the new, whole."""
    draft = path.with_name(f"{path.name}.draft")  # one writer at a time: the lock is held
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The target's lock, which the system gives back when a process dies."""
    deadline = time.monotonic() + _LOCK_WAIT_S
    with path.open("ab") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_LOCK_RETRY_S)
        yield


@contextlib.contextmanager
def _unavailable(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnavailableError(f"{what}: {error.strerror or error}") from error
