"""Which files a source may read, and what is in them.

Law: a file that is handed on lies below one of the roots, also after symbolic links are followed.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from optimizer.errors import ConfigError, UnavailableError

_FORMATS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file below a root; ``format`` is csv, jsonl or parquet, "" where the name does not tell."""

    path: Path
    format: str
    gzipped: bool

    @property
    def origin(self) -> str:
        """What people, and the cursor, know the file as."""
        return str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Glob patterns below roots; relative patterns are looked for in every root.

    Raises:
        ConfigError: no root, no pattern, or a pattern that leads out of the roots.
    """

    roots: tuple[Path, ...]
    patterns: tuple[str, ...]
    format: str

    def __post_init__(self) -> None:
        """Refuse what could reach outside before anything is read."""
        if not self.roots or not self.patterns:
            raise ConfigError("a file source needs at least one root directory and one path")
        if self.format not in {"auto", *_FORMATS.values()}:
            raise ConfigError(f"format {self.format!r} is none of auto, csv, jsonl, parquet")
        for pattern in self.patterns:
            if ".." in Path(pattern).parts:
                raise ConfigError(f"path {pattern!r} must not hold '..'")
            if Path(pattern).is_absolute():
                _below(pattern, self.roots)

    def find(self) -> list[Found]:
        """The files there are, longest unchanged first; directories are passed over.

        Raises:
            ConfigError: a match lies outside the roots, by a symbolic link.
            UnavailableError: a root is not there.
        """
        matches = {path for pattern in self.patterns for path in self._matches(pattern)}
        inside = tuple(root.resolve() for root in self.roots)
        for path in matches:
            leads_to = _resolved(path)
            if not any(leads_to.is_relative_to(root) for root in inside):
                raise ConfigError(f"{path} leads out of the directories allowed: {leads_to}")
        return [self._found(path) for path in sorted(matches, key=_age)]

    def _matches(self, pattern: str) -> Iterator[Path]:
        for root in self.roots:
            if not root.is_dir():
                raise UnavailableError(f"directory {root} is not there")
            relative = pattern
            if Path(pattern).is_absolute():
                if not Path(pattern).is_relative_to(root):
                    continue
                relative = str(Path(pattern).relative_to(root))
            try:
                yield from (path for path in root.glob(relative) if not path.is_dir())
            except OSError as error:
                raise UnavailableError(f"cannot list {root}: {error.strerror}") from error

    def _found(self, path: Path) -> Found:
        gzipped = path.suffix.lower() == ".gz"
        suffix = (path.with_suffix("") if gzipped else path).suffix.lower()
        by_name = _FORMATS.get(suffix, "")
        return Found(
            path=path, format=by_name if self.format == "auto" else self.format, gzipped=gzipped
        )


def _below(pattern: str, roots: Sequence[Path]) -> None:
    fixed = Path(*_fixed_parts(pattern))
    if not any(fixed.is_relative_to(root) for root in roots):
        allowed = ", ".join(map(str, roots))
        raise ConfigError(f"path {pattern!r} is not below a directory allowed: {allowed}")


def _fixed_parts(pattern: str) -> Iterator[str]:
    for part in Path(pattern).parts:
        if _MAGIC.search(part):
            return
        yield part


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError) as error:
        raise ConfigError(f"{path} is a symbolic link that leads nowhere") from error


def _age(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_mtime_ns, str(path)
    except OSError:  # gone, or a link to nowhere: whoever opens it says so
        return 0, str(path)
