"""The engine as the loop sees it: ingest a batch, aggregate windows, replay, compact."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pandas as pd

from optimizer.engine import grains, intake, quarantine, replaying
from optimizer.engine.checks import Prices, arms_table, check
from optimizer.engine.columns import Plan
from optimizer.engine.duck import EngineLimits, connect, count
from optimizer.engine.explored import explored
from optimizer.engine.intake import Known
from optimizer.engine.readers import Loader
from optimizer.engine.spool import QUARANTINE, Spool
from optimizer.ports.intake_store import SpoolFile
from optimizer.ports.sources import Batch, Mapped
from optimizer.targets import Target

NO_PRICES: Prices = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ingested:
    """What became of a batch: ``n_rows = n_kept + n_duplicates + n_quarantined``.

    A whole file that was refused counts as one row. by_reason counts the quarantined rows;
    newest_s is the newest kept row's time, Unix seconds.
    """

    files: tuple[SpoolFile, ...]
    dirty_windows: frozenset[int]
    n_rows: int
    n_duplicates: int
    n_quarantined: int
    n_late: int
    newest_s: int | None
    by_reason: Mapping[str, int]

    @property
    def n_kept(self) -> int:
        """Rows that went into the spool."""
        return self.n_rows - self.n_duplicates - self.n_quarantined


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay would change: ``n_tried = n_passed + n_duplicates + n_failed``.

    kept are the files of rows that passed, quarantine the file of all rows that stay.
    """

    kept: tuple[SpoolFile, ...]
    quarantine: tuple[SpoolFile, ...]
    dirty_windows: frozenset[int]
    n_tried: int
    n_duplicates: int
    n_failed: int

    @property
    def n_passed(self) -> int:
        """Rows that went into the spool."""
        return self.n_tried - self.n_duplicates - self.n_failed


@dataclass(frozen=True, slots=True)
class Engine:
    """Checks and aggregates; what it writes counts only once the ledger's manifest names it."""

    spool: Spool
    limits: EngineLimits

    @property
    def temporary(self) -> Path:
        """Where the engine spills."""
        return self.limits.temp_dir or self.spool.temporary / "spill"

    def ingest(
        self,
        batch: Batch,
        *,
        targets: Mapping[str, Target],
        received_at: datetime,
        prices: Prices = NO_PRICES,
        known_calls: Sequence[SpoolFile] = (),
        known_feedback: Sequence[SpoolFile] = (),
        known_quarantine: Sequence[SpoolFile] = (),
        closed_s: int | None = None,
    ) -> Ingested:
        """Read and check a batch, and write its new rows and its quarantined rows as files.

        Args:
            batch: what the source handed over; its files are read before this returns.
            targets: configured targets by name.
            received_at: when the batch came, aware; what is old or ahead is told by it.
            prices: (target, arm) -> price, where the arm names none itself.
            known_calls: calls in the spool: ids to leave out, and calls that feedback judges.
            known_feedback: feedback in the spool, to leave out what is delivered again.
            known_quarantine: quarantine in the spool, to leave out what is delivered again.
            closed_s: windows that start before it have been aggregated; their rows are late.

        Raises:
            ConfigError: the mapping names a time zone that does not exist.
            UnavailableError: the disk or the memory did not suffice, or a spool file is gone.
        """
        plan = Plan(kind=batch.kind, mapped=batch.mapped)
        known = Known(calls=known_calls, feedback=known_feedback, quarantine=known_quarantine)
        self.temporary.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=self.temporary) as scratch,
            connect(self.limits, self.temporary) as connection,
        ):
            loader = Loader(connection=connection, plan=plan, scratch=Path(scratch))
            for given in batch.inputs:
                loader.load(given)
            arms_table(connection, targets, prices)
            check(connection, plan, self.limits, source=batch.source, received_at=received_at)
            kept = intake.keep(
                connection,
                self.spool,
                plan,
                self.limits,
                source=batch.source,
                known=known,
                closed_s=closed_s,
            )
            files, n_again, by_reason = quarantine.collect(
                connection,
                self.spool,
                plan,
                source=batch.source,
                loaded=loader.loaded,
                rejects=batch.rejects,
                known=known.quarantine,
                received_s=int(received_at.timestamp()),
            )
            n_rows = count(connection, "raw") + len(batch.rejects)
        return Ingested(
            files=kept.files + files,
            dirty_windows=kept.dirty_windows,
            n_rows=n_rows,
            n_duplicates=kept.n_duplicates + n_again,
            n_quarantined=sum(by_reason.values()),
            n_late=kept.n_late,
            newest_s=kept.newest_s,
            by_reason=MappingProxyType(by_reason),
        )

    def aggregate(
        self,
        windows: Sequence[int],
        *,
        calls: Sequence[SpoolFile],
        feedback: Sequence[SpoolFile],
    ) -> pd.DataFrame:
        """Grains of the windows (starts, Unix seconds) from the files that may hold their rows.

        Returns:
            A frame in the schema of :mod:`optimizer.aggregates`, sorted by key.

        Raises:
            UnavailableError: the disk or the memory did not suffice, or a spool file is gone.
        """
        with connect(self.limits, self.temporary) as connection:
            return grains.aggregate(
                connection, self.spool, self.limits, windows, calls=calls, feedback=feedback
            )

    def explored(
        self,
        hours: Mapping[str, Sequence[int]],
        *,
        calls: Sequence[SpoolFile],
        feedback: Sequence[SpoolFile],
    ) -> dict[str, pd.DataFrame]:
        """The scored calls of those hours (starts, Unix seconds) by target, summed by their chance.

        Columns: :data:`optimizer.observations.EXPLORED`; a target without any is left out.

        Raises:
            UnavailableError: the disk or the memory did not suffice, or a spool file is gone.
        """
        with connect(self.limits, self.temporary) as connection:
            return explored(
                connection, self.spool, self.limits, hours, calls=calls, feedback=feedback
            )

    def quarantine_groups(self, files: Sequence[SpoolFile]) -> list[quarantine.Group]:
        """Source, reason, rows, newest receipt (Unix seconds) and an example, largest first."""
        with connect(self.limits, self.temporary) as connection:
            return quarantine.groups(connection, self.spool, files)

    def quarantine_rows(
        self, files: Sequence[SpoolFile], *, source: str | None, reason: str | None, limit: int
    ) -> list[tuple[int, dict[str, Any]]]:
        """Receipt (Unix seconds) and fields of quarantined rows, newest first; None = any."""
        with connect(self.limits, self.temporary) as connection:
            return quarantine.rows(
                connection, self.spool, files, source=source, reason=reason, limit=limit
            )

    def replay(  # noqa: PLR0913 - rows, and all they are compared with
        self,
        files: Sequence[SpoolFile],
        *,
        targets: Mapping[str, Target],
        received_at: datetime,
        prices: Prices = NO_PRICES,
        known_calls: Sequence[SpoolFile] = (),
        known_feedback: Sequence[SpoolFile] = (),
        mapped: Mapping[str, Mapped] = MappingProxyType({}),
        sources: Sequence[str] | None = None,
        reasons: Sequence[str] | None = None,
    ) -> Replayed:
        """Try quarantined rows again and write files of what passes and of what stays.

        ``mapped`` holds present mappings by source; a source that is not in it is read as it was
        then. ``sources`` and ``reasons`` narrow what is tried.

        Raises:
            UnavailableError: the disk or the memory did not suffice, or a spool file is gone.
        """
        known = Known(calls=known_calls, feedback=known_feedback)
        kept: list[intake.Kept] = []
        tried = failed = 0
        with connect(self.limits, self.temporary) as connection:
            groups = replaying.load_quarantine(
                connection, self.spool, files, sources=sources, reasons=reasons
            )
            arms_table(connection, targets, prices)
            for group in groups:
                plan = replaying.plan_of(group, mapped)
                replaying.load_group(connection, plan, group)
                check(connection, plan, self.limits, source=group.source, received_at=received_at)
                tried += count(connection, "raw")
                failed += count(connection, "judged WHERE problem IS NOT NULL")
                replaying.settle_group(connection)
                # What an earlier group let in is known to the next one.
                fresh = tuple(file for earlier in kept for file in earlier.files)
                kept.append(
                    intake.keep(
                        connection,
                        self.spool,
                        plan,
                        self.limits,
                        source=group.source,
                        known=known.with_files(fresh),
                        closed_s=None,
                    )
                )
            stays = quarantine.publish(connection, self.spool, "held")
        return Replayed(
            kept=tuple(file for part in kept for file in part.files),
            quarantine=stays,
            dirty_windows=frozenset[int]().union(*(part.dirty_windows for part in kept)),
            n_tried=tried,
            n_duplicates=sum(part.n_duplicates for part in kept),
            n_failed=failed,
        )

    def without_origin(
        self, files: Sequence[SpoolFile], *, source: str, origin: str
    ) -> tuple[SpoolFile, ...]:
        """Quarantine files without the rows that speak of a whole file of that origin."""
        with connect(self.limits, self.temporary) as connection:
            return quarantine.without_origin(
                connection, self.spool, files, source=source, origin=origin
            )

    def compact(self, files: Sequence[SpoolFile]) -> tuple[SpoolFile, ...]:
        """The rows of several files of one dataset as one file; the old files stay on the disk."""
        with connect(self.limits, self.temporary) as connection:
            if all(file.dataset == QUARANTINE for file in files):
                return quarantine.compact(connection, self.spool, files)
            return intake.compact(connection, self.spool, files)
