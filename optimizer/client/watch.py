"""Keeps one target's last good allocation in step with its file.

The law: what was seen only moves forward. A sight is replaced whole, so that a thread which reads
it holds one valid allocation; a file that is missing, unreadable, corrupt or older leaves the
allocation as it was and states the fault.
"""

import contextlib
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from optimizer.client.document import AllocationError, Document
from optimizer.client.wire import MAX_BYTES, parse

_SETTLED_AFTER_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What is known of one target at one moment.

    Attributes:
        document: the newest valid allocation ever seen, None before the first.
        fault: why the file is not that allocation, else "".
        cache_fault: why the allocation is not kept on disk, else "".
        signature: mtime_ns, inode and size of the file read; None when the file must be read again.
        checked_at_s: monotonic seconds.
    """

    document: Document | None
    fault: str
    cache_fault: str
    signature: tuple[int, int, int] | None
    checked_at_s: float


class Watch:
    """One target's file, looked at no more often than every `check_every_s` seconds."""

    def __init__(
        self,
        target: str,
        path: Path,
        *,
        cache_path: Path | None,
        check_every_s: float,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """Nothing is read before the first look."""
        self._target = target
        self._path = path
        self._cache_path = cache_path
        self._check_every_s = check_every_s
        self._clock = clock
        self._monotonic = monotonic
        self._sight: Sight | None = None
        self._lock = threading.Lock()

    def look(self) -> Sight:
        """What is known now; reads the file when a check is due and nobody else is at it.

        Only the first look ever waits for another thread, for the length of one small read: before
        it there is nothing to answer from, and an answer from the baseline would break stickiness.
        """
        sight = self._sight
        if sight is None:
            with self._lock:
                if self._sight is None:
                    self._sight = self._looked_again(self._recalled())
                return self._sight
        due = self._monotonic() - sight.checked_at_s >= self._check_every_s
        if due and self._lock.acquire(blocking=False):
            try:
                # From the newest sight, not the one read above: seen only moves forward.
                sight = self._sight = self._looked_again(self._sight or sight)
            finally:
                self._lock.release()
        return sight

    def after_fork(self) -> None:
        """Makes a child process independent of a thread that was reading in its parent."""
        self._lock = threading.Lock()

    def _looked_again(self, before: Sight) -> Sight:
        faulty = replace(before, signature=None, checked_at_s=self._monotonic())
        try:
            status = os.stat(self._path)  # noqa: PTH116  (Path.stat is the same call, slower)
            signature = (status.st_mtime_ns, status.st_ino, status.st_size)
            if signature == before.signature:
                return replace(before, checked_at_s=faulty.checked_at_s)
            data = _read(self._path, status)
        except FileNotFoundError:
            return replace(faulty, fault=f"missing: there is no file {self._path.name}")
        except OSError as error:
            return replace(faulty, fault=f"unreadable: {error.strerror or error}")
        return replace(self._taken(faulty, data), signature=self._settled(signature))

    def _settled(self, signature: tuple[int, int, int]) -> tuple[int, int, int] | None:
        """None while the file is young: a successor may then share its signature.

        An inode freed by one replacement is given to the next, and times advance in ticks.
        """
        age_s = self._clock() - signature[0] / 1e9
        return None if abs(age_s) < _SETTLED_AFTER_S else signature

    def _taken(self, before: Sight, data: bytes) -> Sight:
        """The sight after a read: the file's allocation, or a fault and the one before."""
        try:
            document = _parsed(data, self._target)
        except AllocationError as error:
            return replace(before, fault=f"corrupt: {error}")
        known = before.document
        if known is not None and document.generation < known.generation:
            fault = f"older: generation {document.generation}, seen was {known.generation}"
            return replace(before, fault=fault)
        if known is not None and document.checksum == known.checksum:
            return replace(before, fault="")
        return replace(before, document=document, fault="", cache_fault=self._kept(data))

    def _recalled(self) -> Sight:
        """What an earlier process kept, or nothing."""
        sight = Sight(
            document=None, fault="", cache_fault="", signature=None, checked_at_s=self._monotonic()
        )
        if self._cache_path is None:
            return sight
        try:
            data = _read(self._cache_path, os.stat(self._cache_path))  # noqa: PTH116
            return replace(sight, document=_parsed(data, self._target))
        except FileNotFoundError:
            return sight
        except (OSError, AllocationError) as error:
            return replace(sight, cache_fault=f"last good copy not read: {error}")

    def _kept(self, data: bytes) -> str:
        """Why the bytes could not be kept, else "".

        Not synced to the disk: a copy torn by a power cut fails its checksum and is passed over.
        """
        if self._cache_path is None:
            return ""
        mark = f"{os.getpid()}-{threading.get_ident()}"
        draft = self._cache_path.with_name(f".{self._cache_path.name}.{mark}")
        try:
            self._cache_path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(data)
            draft.replace(self._cache_path)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink()
            return f"last good copy not written: {error.strerror or error}"
        return ""


def _read(path: Path, status: os.stat_result) -> bytes:
    """Content of a file, cut one byte above the limit, so that `parse` refuses an oversized one.

    Raises:
        OSError: when it cannot be read, or is not a regular file: opening a pipe would block.
    """
    if not stat.S_ISREG(status.st_mode):
        message = "not a regular file"
        raise OSError(message)
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)


def _parsed(data: bytes, target: str) -> Document:
    document = parse(data)
    if document.target != target:
        raise AllocationError("target", document.target, f"{target!r}, as its file is named")
    return document
