"""Which worlds are run with which rules, and how often."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from bench.races.capped import CappedThompson
from bench.races.changing import DROP, RISE, Change, Turn, change
from bench.races.peers import PLUG_IN, UNIFORM, FixedTest, Greedy
from bench.races.rules import AnyRule, EProcess
from bench.races.running import Played, play
from bench.races.scores import AsymptoticMeans
from bench.races.service import InService
from bench.races.worlds import Cell
from bench.races.yardsticks import ORACLE, SWAP

OURS, PLUGGED, EVEN, TESTED, GREEDY, CAPPED, SWAPPED, BEST = (
    "ours",
    "plug-in track-and-stop",
    "uniform + likelihood ratio",
    "uniform, test at 1,000",
    "epsilon-greedy",
    "capped Beta Thompson",
    "best single swap",
    "oracle",
)
_FOUR = (0.8, 0.85, 0.86, 0.9)
SUCCESSES: Final = (
    Cell(means=(0.5, 0.6), batch=20),
    Cell(means=(0.9, 0.95), batch=20),
    Cell(means=(0.95, 0.97), batch=20),
    Cell(means=(0.95, 0.97), batch=60),
    Cell(means=(0.95, 0.97), batch=200),
    Cell(means=(0.95, 0.97), batch=2_000),
    Cell(means=(0.98, 0.99), batch=20),
    Cell(means=(0.98, 0.99), batch=200),
    Cell(means=(0.7, 0.75, 0.85), batch=60),
    Cell(means=_FOUR, batch=20),
    Cell(means=_FOUR, batch=200),
    Cell(means=_FOUR, batch=2_000),
    Cell(means=(0.75, 0.8, 0.82, 0.84, 0.9), batch=60),
    Cell(means=(0.7, 0.74, 0.78, 0.8, 0.82, 0.9), batch=60),
    Cell(means=(0.7, 0.72, 0.74, 0.76, 0.78, 0.8, 0.82, 0.9), batch=200),
    Cell(means=(0.9, 0.95), batch=20, drifts=True),
    Cell(means=_FOUR, batch=200, drifts=True),
    Cell(means=(0.95, 0.97), batch=20, late=True),
    Cell(means=_FOUR, batch=200, drifts=True, late=True),
    Cell(means=(0.9, 0.95), batch=2_000, late=True),
)
REWARDS: Final = (
    Cell(means=(1.0, 1.3), log_sd=0.8, batch=20),
    Cell(means=(1.0, 1.2), log_sd=0.8, batch=200),
    Cell(means=(1.0, 1.3), log_sd=1.2, batch=200),
    Cell(means=(1.0, 1.3), log_sd=1.2, batch=2_000),
    Cell(means=(0.8, 1.0, 1.1, 1.3), log_sd=0.8, batch=200),
    Cell(means=(0.8, 0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.3), log_sd=0.8, batch=2_000),
    Cell(means=(1.0, 1.2), log_sd=0.8, batch=200, drifts=True),
    Cell(means=(0.8, 1.0, 1.1, 1.3), log_sd=0.8, batch=200, drifts=True, late=True),
)
TIES: Final = (
    Cell(means=(0.97, 0.97), batch=20),
    Cell(means=(0.9, 0.9, 0.9), batch=200),
    Cell(means=(1.0, 1.0), log_sd=0.8, batch=200),
)
QUICK: Final = (*SUCCESSES[1:3], SUCCESSES[4], *SUCCESSES[9:12], *SUCCESSES[17:19], *REWARDS[1:3])
QUICK_TIES: Final = tuple(replace(cell, limit=6_000) for cell in TIES)

RUNS, TIED_RUNS, QUICK_RUNS = 600, 2_000, 100
QUIET, QUICK_QUIET = 10_000, 5_000
SINCE: Final = 10_000
"""Units after a change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell with what each rule did there."""

    cell: Cell
    played: Mapping[str, Played]


@dataclass(frozen=True, slots=True, kw_only=True)
class Raced:
    """All that needs no data: cells, ties, and changes by turn and rule."""

    rows: tuple[Row, ...]
    ties: tuple[Row, ...]
    changes: Mapping[str, Mapping[str, Change]]
    quick: bool


def rules(cell: Cell) -> dict[str, AnyRule]:
    """Every rule, the project's by what the cell's outcomes are."""
    ours = AsymptoticMeans() if cell.log_sd else EProcess()
    return {OURS: ours, **_peers(), BEST: ORACLE}


def _peers() -> dict[str, AnyRule]:
    """The rules that others use."""
    return {
        PLUGGED: PLUG_IN,
        EVEN: UNIFORM,
        TESTED: FixedTest(),
        GREEDY: Greedy(),
        CAPPED: CappedThompson(),
        SWAPPED: SWAP,
    }


def raced(*, quick: bool) -> Raced:
    """Run every cell with every rule, the ties with those that declare, and the changes."""
    runs = QUICK_RUNS if quick else RUNS
    rows = [
        Row(cell=cell, played=_played(cell, rules(cell), runs, seed))
        for seed, cell in enumerate(QUICK if quick else (*SUCCESSES, *REWARDS))
    ]
    declaring = (OURS, PLUGGED, EVEN, TESTED)
    ties = [
        Row(
            cell=cell,
            played=_played(
                cell,
                {name: rules(cell)[name] for name in declaring},
                runs if quick else TIED_RUNS,
                1_000 + seed,
            ),
        )
        for seed, cell in enumerate(QUICK_TIES if quick else TIES)
    ]
    changes = {
        turn.name: _changes(turn, runs, quiet=QUICK_QUIET if quick else QUIET)
        for turn in (DROP, RISE)
    }
    return Raced(rows=tuple(rows), ties=tuple(ties), changes=changes, quick=quick)


def _played(cell: Cell, chosen: Mapping[str, AnyRule], runs: int, seed: int) -> dict[str, Played]:
    return {name: play(rule, cell, runs, seed) for name, rule in chosen.items()}


def _changes(turn: Turn, runs: int, *, quiet: int) -> dict[str, Change]:
    served: dict[str, AnyRule] = {OURS: InService(), **_peers()}
    return {
        name: change(
            rule,
            turn,
            runs,
            2_000,
            limit=SINCE,
            quiet=quiet if name == OURS and turn is DROP else 0,
        )
        for name, rule in served.items()
    }
