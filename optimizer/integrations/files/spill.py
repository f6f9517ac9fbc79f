"""Where bounded, clean pieces of files lie while the engine reads them.

Each pull has a directory of its own and holds a lock in it. A directory whose lock is free belonged
to a process that was killed; the next pull removes it.
"""

import contextlib
import fcntl
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from optimizer.errors import UnavailableError

_LOCK = "lock"
_DRAFT = ".new-"


class Spill:
    """A directory of pieces that exists for one pull; use it in a with statement."""

    def __init__(self, parent: Path) -> None:
        self._parent = parent
        self._directory: Path | None = None
        self._lock: BinaryIO | None = None
        self._n_pieces = 0
        self._pieces: list[Path] = []

    def __enter__(self) -> Self:
        try:
            self._parent.mkdir(parents=True, exist_ok=True)
            _sweep(self._parent)
            # Locked before it gets the name that a sweep looks for.
            draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self._parent))
            self._lock = (draft / _LOCK).open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._directory = draft.rename(draft.with_name(draft.name.replace(_DRAFT, "pull-")))
        except OSError as error:
            raise UnavailableError(f"cannot write to {self._parent}: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def new_path(self, file_format: str) -> Path:
        """A name nobody has used in this pull."""
        if self._directory is None:
            raise RuntimeError("a spill is used in a with statement")
        self._n_pieces += 1
        path = self._directory / f"piece-{self._n_pieces:06d}.{file_format}"
        self._pieces.append(path)
        return path

    def clear(self) -> None:
        """Remove the pieces made so far; one that is still to be written is not touched."""
        for path in self._pieces:
            path.unlink(missing_ok=True)
        self._pieces.clear()


class Piece:
    """One file in a spill; it comes into being with the first record that is written."""

    def __init__(self, path: Path, header: bytes) -> None:
        self.path = path
        self.n_bytes = 0
        self._header = header
        self._file: BinaryIO | None = None

    def write(self, records: bytes) -> None:
        """Append records, behind the header when they are the first."""
        if not records:
            return
        if self._file is None:
            self._file = self.path.open("xb")
            self._file.write(self._header)
        self._file.write(records)
        self.n_bytes += len(records)

    def close(self) -> Path | None:
        """Complete the file; None when nothing was written."""
        if self._file is None:
            return None
        self._file.close()
        return self.path


def _sweep(parent: Path) -> None:
    for directory in parent.glob("pull-*"):
        with contextlib.suppress(OSError), (directory / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
