"""The part of the ledger that remembers what was observed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pandas as pd

from optimizer.ports.sources import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolFile:
    """One immutable Parquet file of checked rows; its name is unique and content-derived.

    min_s and max_s bound the rows' own time, Unix seconds.
    """

    name: str
    dataset: str
    source: str
    n_rows: int
    min_s: int
    max_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """Everything one batch changes, committed in one transaction."""

    source: str
    expected_version: int
    cursor: Mapping[str, Json]
    files: tuple[SpoolFile, ...]
    dirty_windows: frozenset[int]
    n_rows: int
    n_duplicates: int
    n_quarantined: int
    n_late: int
    newest_s: int | None
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CursorState:
    """A source's stored position, its version for compare-and-set, and the newest row seen."""

    cursor: Mapping[str, Json]
    version: int
    newest_s: int | None
    pulled_at: datetime | None


class IntakeStore(Protocol):
    """Cursors, spool manifest and windows waiting to be aggregated."""

    def cursor(self, source: str) -> CursorState:
        """Where the source stands; an empty cursor with version 0 at first."""
        ...

    def commit(self, intake: Intake) -> None:
        """Store cursor, manifest and dirty windows together.

        Raises:
            ConflictError: the cursor moved since ``expected_version``.
        """
        ...

    def files(self, dataset: str, *, start_s: int, end_s: int) -> tuple[SpoolFile, ...]:
        """Manifest of the files that may hold rows of ``[start_s, end_s)``, oldest first."""
        ...

    def forget(self, names: Sequence[str]) -> None:
        """Take files out of the manifest."""
        ...

    def replace(self, old: Sequence[str], new: Sequence[SpoolFile]) -> None:
        """Swap files for others that hold the same rows, in one transaction."""
        ...

    def dirty(self, *, until_s: int) -> Mapping[int, int]:
        """Windows that end at or before ``until_s`` and need aggregating: start -> mark version."""
        ...

    def mark_dirty(self, windows: Sequence[int]) -> None:
        """Ask for windows to be aggregated again."""
        ...


class AggregateStore(Protocol):
    """Grains and roll-ups."""

    def replace_windows(
        self, width_s: int, windows: Sequence[int], frame: pd.DataFrame, *, clean: Mapping[int, int]
    ) -> None:
        """Make ``frame`` all there is for those windows; unmark dirty windows whose version holds.

        One transaction; schema of ``frame``: :mod:`optimizer.aggregates`.
        """
        ...

    def load(
        self,
        width_s: int,
        *,
        start_s: int,
        end_s: int,
        targets: Sequence[str] | None = None,
        slices: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Aggregates whose window starts in ``[start_s, end_s)``, sorted by key."""
        ...

    def history(self, width_s: int, *, start_s: int, end_s: int) -> pd.DataFrame:
        """Sums of each target, arm and window, slices added up; sorted by those three.

        Columns: target, arm, window_start_s and :data:`optimizer.evidence.HISTORY_SUMS`.
        """
        ...

    def newest_s(self, width_s: int) -> int | None:
        """Start of the newest stored window."""
        ...

    def prune(self, width_s: int, *, before_s: int) -> int:
        """Delete older windows; returns how many rows went."""
        ...
