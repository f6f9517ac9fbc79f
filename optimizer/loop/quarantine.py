"""Quarantine: what was set aside and why, and another try for it.

A row that passes on another try is taken in and leaves the quarantine; one that fails again stays
with its newest reason. Rows are taken in first and leave afterwards: a run that dies in between
leaves rows in both places, and the next replay finds them to be duplicates and only removes them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Final

from optimizer.engine import Engine
from optimizer.engine.spool import CALLS, FEEDBACK, QUARANTINE
from optimizer.loop.observe import EVER_S
from optimizer.metrics import at
from optimizer.ports import Intake, Json, Ledger, Mapped, SpoolFile
from optimizer.targets import Price, Target

REPLAYS: Final = "(replay)"
"""The ledger's cursor that lets one replay in at a time; no source can have this name."""

Forget = Callable[[Mapping[str, Json], str], Mapping[str, Json]]
"""A source's cursor without one of its files, which is then read again from its start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineGroup:
    """Rows of one source that were set aside for one reason; ``example`` is one row's detail."""

    source: str
    reason: str
    n_rows: int
    newest: datetime
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRow:
    """A row that was set aside; ``raw`` holds the source's mapped columns as JSON."""

    source: str
    kind: str
    origin: str
    line: int | None
    reason: str
    detail: str
    raw: str
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """What a replay did: ``n_tried = n_passed + n_duplicates + n_failed``."""

    n_tried: int = 0
    n_passed: int = 0
    n_duplicates: int = 0
    n_failed: int = 0


def list_groups(ledger: Ledger, engine: Engine) -> tuple[QuarantineGroup, ...]:
    """What is in quarantine, by source and reason, the largest group first."""
    return tuple(
        QuarantineGroup(
            source=source, reason=reason, n_rows=n_rows, newest=at(newest_s), example=example
        )
        for source, reason, n_rows, newest_s, example in engine.quarantine_groups(_files(ledger))
    )


def list_rows(
    ledger: Ledger,
    engine: Engine,
    *,
    source: str | None = None,
    reason: str | None = None,
    limit: int = 100,
) -> tuple[QuarantinedRow, ...]:
    """Rows in quarantine, newest first; None = any source, any reason."""
    return tuple(
        QuarantinedRow(received_at=at(received_s), **row)
        for received_s, row in engine.quarantine_rows(
            _files(ledger), source=source, reason=reason, limit=limit
        )
    )


def replay(
    ledger: Ledger,
    engine: Engine,
    *,
    targets: Mapping[str, Target],
    prices: Mapping[tuple[str, str], Price],
    now: datetime,
    mapped: Mapping[str, Mapped] = MappingProxyType({}),
    sources: Sequence[str] | None = None,
    reasons: Sequence[str] | None = None,
) -> ReplayReport:
    """Put quarantined rows through the checks again.

    Args:
        ledger: holds the manifest.
        engine: holds the rows.
        targets: configured targets by name, as they are now.
        prices: (target, arm) -> price, for arms that name none themselves.
        now: what is old or ahead is told by it.
        mapped: the mapping of each source as it is now; one that is not here is read as it was.
        sources: which sources' rows; None = all.
        reasons: rows set aside for which reasons; None = all. Lines that could not be parsed, and
            whole files, are never tried: :func:`reread` reads a file again.

    Raises:
        ConflictError: another replay was faster.
        UnavailableError: the spool or the ledger does not answer.
    """
    files = _files(ledger)
    if not files:
        return ReplayReport()
    version = ledger.intake.cursor(REPLAYS).version
    found = engine.replay(
        files,
        targets=targets,
        received_at=now,
        prices=prices,
        known_calls=ledger.intake.files(CALLS, start_s=-EVER_S, end_s=EVER_S),
        known_feedback=ledger.intake.files(FEEDBACK, start_s=-EVER_S, end_s=EVER_S),
        mapped=mapped,
        sources=sources,
        reasons=reasons,
    )
    if found.kept:
        ledger.intake.commit(
            Intake(
                source=REPLAYS,
                expected_version=version,
                cursor={},
                files=found.kept,
                dirty_windows=found.dirty_windows,
                n_rows=found.n_tried,
                n_duplicates=found.n_duplicates,
                n_quarantined=found.n_failed,
                n_late=0,
                newest_s=None,
                at=now,
            )
        )
    if found.n_tried:
        _replace(ledger, files, found.quarantine)
    return ReplayReport(
        n_tried=found.n_tried,
        n_passed=found.n_passed,
        n_duplicates=found.n_duplicates,
        n_failed=found.n_failed,
    )


def reread(
    ledger: Ledger, engine: Engine, *, source: str, origin: str, forget: Forget, now: datetime
) -> None:
    """Have a file that could not be used read again by the next pull of its source.

    ``forget`` comes from the source's adapter, where it reads files. The cursor moves first: a run
    that dies before the quarantine is tidied leaves a note that another call removes.

    Raises:
        ConflictError: the source was pulled meanwhile.
    """
    state = ledger.intake.cursor(source)
    ledger.intake.commit(
        Intake(
            source=source,
            expected_version=state.version,
            cursor=forget(state.cursor, origin),
            files=(),
            dirty_windows=frozenset(),
            n_rows=0,
            n_duplicates=0,
            n_quarantined=0,
            n_late=0,
            newest_s=state.newest_s,
            at=now,
        )
    )
    files = [file for file in _files(ledger) if file.source in {source, "*"}]
    if files:
        _replace(ledger, files, engine.without_origin(files, source=source, origin=origin))


def _files(ledger: Ledger) -> tuple[SpoolFile, ...]:
    return ledger.intake.files(QUARANTINE, start_s=-EVER_S, end_s=EVER_S)


def _replace(ledger: Ledger, old: Sequence[SpoolFile], new: Sequence[SpoolFile]) -> None:
    """Swap manifest entries; a file that comes out as it was stays."""
    before = {file.name for file in old}
    after = {file.name for file in new}
    ledger.intake.replace(sorted(before - after), [file for file in new if file.name not in before])
