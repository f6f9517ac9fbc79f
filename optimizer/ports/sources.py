"""The port through which observations come in."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import pandas as pd

from optimizer.observations import SIGNALS, Kind, QuarantineReason, ScoreScale

Json = Any
"""What the json module can write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """How a source's own columns become canonical ones.

    columns: canonical name -> the source's column (JSON: dotted path); constants: canonical name ->
    fixed value; timezone: IANA name for timestamps written without one, None = such rows are
    refused; scale: how quality is written; signals: score in [0, 1] of each word, for that scale.
    """

    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    constants: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    timezone: str | None = None
    scale: ScoreScale = ScoreScale.UNIT
    signals: Mapping[str, float] = field(default_factory=lambda: SIGNALS)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileInput:
    """A file for the engine to read: ``format`` is csv, jsonl or parquet.

    ``path`` is a bounded, line-clean copy or the original; ``origin`` is what people know it as;
    ``first_line`` is the number of its first data line in the origin (for messages).
    """

    path: Path
    format: str
    origin: str
    first_line: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameInput:
    """Rows already in memory, under the source's own column names."""

    frame: pd.DataFrame
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reject:
    """A row or file that the source itself could not hand over."""

    origin: str
    line: int | None
    reason: QuarantineReason
    detail: str
    raw: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One bounded piece of a source, and the cursor that stands behind it."""

    source: str
    kind: Kind
    mapped: Mapped
    inputs: tuple[FileInput | FrameInput, ...]
    cursor: Mapping[str, Json]
    rejects: tuple[Reject, ...] = ()


class Source(Protocol):
    """Where observations are pulled from."""

    @property
    def name(self) -> str:
        """Unique name from the configuration."""
        ...

    def pull(self, cursor: Mapping[str, Json], *, until: datetime) -> Iterator[Batch]:
        """Batches behind ``cursor`` (empty at first), oldest first; none when nothing is new.

        Rows later than ``until`` may be delivered; they wait for their window to close.

        Raises:
            UnavailableError: the source does not answer.
        """
        ...
