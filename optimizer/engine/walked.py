"""A log as it was read, and as it was walked: what the walk hands to whoever values it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from optimizer.engine.past import Past
from optimizer.metrics import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What the sources held.

    targets: those that are run again; period: whole hours that are decided and valued anew;
    n_rows = kept, n_duplicates and by_reason's rows together; history_s: Unix seconds from which on
    rows before the period are there.
    """

    past: Past
    targets: tuple[str, ...]
    period: Window
    history_s: int
    n_rows: int
    n_duplicates: int
    by_reason: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """What was in force, and what was left, beside what the ledger holds.

    in_force: the arm of each target at the start; offered: its arms; shares: target, arm, cell_s
    (the hour's start) and share of the target's calls, one row each, for arms that decisions
    brought; all other calls are served as the log says. left: hours in which a strategy left an
    arm, by target, arm and reason; details: what it said of that the last time; failed: targets
    that could not be decided on, and why.
    """

    read: Read
    in_force: Mapping[str, str]
    offered: Mapping[str, Sequence[str]]
    shares: pd.DataFrame
    left: Mapping[tuple[str, str, str], int]
    details: Mapping[tuple[str, str, str], str]
    failed: Mapping[str, str]
