"""What a backtest tells: decisions with their ends, what was refused, and all of it together."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from optimizer.report.backtest.curves import Series
from optimizer.report.backtest.figures import TargetFigures, TotalFigures
from optimizer.report.backtest.scenarios import Outlook

UNKNOWABLE: Final = "unknown"
"""The outcome of a canary of whose arm the log holds nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A decision: when and what, how it ended on the log, and what the arm saved while it served.

    outcome: promoted, rolled back and by what, not proven, unknown, in flight, or how it ended;
    canary_requests: that the log could play at most.
    """

    id: str
    at: datetime
    target: str
    baseline: str
    candidate: str
    strategy: str
    outcome: str
    why: str
    promoted_at: datetime | None
    ended_at: datetime | None
    canary_requests: int
    worth: Outlook


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Proposals or arms that came to nothing for one reason: hours, and the last words on it."""

    target: str
    arm: str
    reason: str
    hours: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """All of it; curves: by target, all together under the empty name."""

    start: datetime
    end: datetime
    rows: int
    duplicates: int
    set_aside: Mapping[str, int]
    targets: tuple[TargetFigures, ...]
    total: TotalFigures
    decisions: tuple[Made, ...]
    refused: tuple[Refused, ...]
    left: tuple[Refused, ...]
    failed: Mapping[str, str]
    notes: tuple[str, ...]
    curves: Mapping[str, Series] = field(repr=False)
