"""Race arms of known truth: how often a rule declares a wrong one, how soon, and what change does.

Each cell runs the project's rule, the plug-in track-and-stop and a uniform split with a likelihood
ratio many times over, with fixed seeds, and prints the shares of wrong first declarations with the
median units until a declaration. Then the leader of a finished race falls behind, or does not.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from bench.declaring_rules import E_PROCESS, PLUG_IN, UNIFORM, Cell, Races, run
from bench.replay_report import Gate
from optimizer.statistics.declaring import NONE, Race, declared, new_race, observe
from optimizer.statistics.planning import wilson_interval
from optimizer.statistics.thompson import after_declaration, top_two
from optimizer.statistics.watching import LeaderWatch, changed, observe_watch, watch_leader

BoolArray = npt.NDArray[np.bool_]

CELLS: Final = (
    Cell(rates=(0.5, 0.6), batch=20),
    Cell(rates=(0.9, 0.95), batch=20),
    Cell(rates=(0.95, 0.97), batch=20),
    Cell(rates=(0.95, 0.97), batch=60),
    Cell(rates=(0.95, 0.97), batch=200),
    Cell(rates=(0.98, 0.99), batch=20),
    Cell(rates=(0.7, 0.75, 0.85), batch=60),
    Cell(rates=(0.8, 0.85, 0.86, 0.9), batch=40),
    Cell(rates=(0.75, 0.8, 0.82, 0.84, 0.9), batch=60),
    Cell(rates=(0.7, 0.74, 0.78, 0.8, 0.82, 0.9), batch=60),
)
TIE: Final = Cell(rates=(0.97, 0.97), batch=20)
OURS, PLUGGED, EVEN = "e-process", "plug-in track-and-stop", "uniform + likelihood ratio"

RUNS, QUICK_RUNS = 2_000, 200

WRONG_SHARE: Final = 0.05
WRONG_UPPER: Final = 0.065
SLOWER: Final = 1.3
REDECLARED: Final = 0.90
WITHIN: Final = 1_000
FALSE_RESETS: Final = 0.05
BEFORE: Final = 3_000
WATCHED, QUICK_WATCHED = 10_000, 5_000
STABLE, DROPPED, BATCH = (0.8, 0.7), (0.5, 0.7), 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cell: the rules' races."""

    cell: Cell
    runs: int
    races: Mapping[str, Races]

    def wrong_upper(self, rule: str) -> float:
        """Upper Wilson limit of the share of wrong first declarations."""
        return float(wilson_interval(self.races[rule].wrong(self.cell), self.runs)[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of declared leaders.

    dropped: runs with a leader at the drop; detected, redeclared: median units from the drop;
    in_time: runs that re-declared the right arm first, within the limit; wrong: runs that
    re-declared the arm that dropped; resets: false alarms without any change; watched: units they
    were counted over.
    """

    dropped: int
    detected: float
    redeclared: float
    in_time: int
    wrong: int
    resets: int
    watched: int

    @property
    def resets_per_10_000(self) -> float:
        """False resets in 10,000 units."""
        return 10_000 * self.resets / self.watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the bench found."""

    rows: tuple[Row, ...]
    tie: Row
    change: Change
    quick: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Many runs in service: racing until an arm is declared, watched until an alarm."""

    race: Race
    held: LeaderWatch
    watching: BoolArray

    def step(self, rates: Sequence[float], rng: np.random.Generator) -> tuple["Service", BoolArray]:
        """One batch: the runs after it, and which of them had an alarm."""
        leader = np.where(self.watching, self.held.leader, NONE)
        shares = after_declaration(leader, arms=len(rates))
        racing = top_two(self.race, rng)
        units = rng.multinomial(BATCH, np.where(self.watching[:, None], shares, racing))
        successes = rng.binomial(units, rates)
        race = observe(self.race, units, successes)
        held = observe_watch(self.held, units, successes)
        alarm = self.watching & changed(held)
        named = np.where(self.watching, NONE, declared(race))
        fresh = named != NONE
        started = watch_leader(race, np.maximum(named, 0))
        # An alarm voids the evidence of all arms; a declaration starts the watch.
        empty = new_race(len(rates), (alarm.size,))
        return Service(
            race=_pick(alarm, empty, race),
            held=_pick_watch(fresh, started, held),
            watching=(self.watching | fresh) & ~alarm,
        ), alarm


def in_service(runs: int) -> Service:
    """Runs before their first batch."""
    race = new_race(len(STABLE), (runs,))
    leader = np.zeros(runs, dtype=np.int64)
    return Service(race=race, held=watch_leader(race, leader), watching=np.zeros(runs, np.bool_))


def _pick(where: BoolArray, one: Race, other: Race) -> Race:
    rows, grid = where[:, None], where[:, None, None, None]
    return Race(
        units=np.where(rows, one.units, other.units),
        successes=np.where(rows, one.successes, other.successes),
        log_ratios=np.where(grid, one.log_ratios, other.log_ratios),
    )


def _pick_watch(where: BoolArray, one: LeaderWatch, other: LeaderWatch) -> LeaderWatch:
    return LeaderWatch(
        leader=np.where(where, one.leader, other.leader),
        reference=np.where(where, one.reference, other.reference),
        others=np.where(where[:, None, None], one.others, other.others),
        itself=np.where(where[:, None], one.itself, other.itself),
    )


def change(runs: int, seed: int, *, quiet_units: int = WATCHED) -> Change:
    """Let a declared leader fall behind, and count false alarms while nothing changes."""
    rng = np.random.Generator(np.random.PCG64(seed))
    service = in_service(runs)
    for _ in range(BEFORE // BATCH):
        service, _ = service.step(STABLE, rng)
    led = service.watching & (service.held.leader == 0)
    resets, watched, quiet = 0, 0, service
    for _ in range(quiet_units // BATCH):
        watched += BATCH * int(quiet.watching.sum())
        quiet, alarm = quiet.step(STABLE, rng)
        resets += int(alarm.sum())

    alarmed, again = np.full(runs, np.inf), np.full(runs, np.inf)
    named = np.full(runs, NONE)
    for seen in range(BATCH, 4 * WITHIN + 1, BATCH):
        service, alarm = service.step(DROPPED, rng)
        alarmed = np.minimum(alarmed, np.where(alarm, seen, np.inf))
        first = service.watching & np.isfinite(alarmed) & (named == NONE)
        named = np.where(first, service.held.leader, named)
        again = np.where(first, seen, again)
    return Change(
        dropped=int(led.sum()),
        detected=float(np.median(alarmed[led])),
        redeclared=float(np.median(again[led])),
        in_time=int((led & (named == 1) & (again <= WITHIN)).sum()),
        wrong=int((led & (named == 0)).sum()),
        resets=resets,
        watched=watched,
    )


def report(*, quick: bool) -> Report:
    """Run everything: every cell with 2,000 runs a rule, or 200 where it must be quick."""
    runs = QUICK_RUNS if quick else RUNS
    rows = [
        Row(
            cell=cell,
            runs=runs,
            races={
                OURS: run(E_PROCESS, cell, runs, seed),
                PLUGGED: run(PLUG_IN, cell, runs, seed),
                EVEN: run(UNIFORM, cell, runs, seed),
            },
        )
        for seed, cell in enumerate((*CELLS, TIE))
    ]
    watched = QUICK_WATCHED if quick else WATCHED
    after = change(runs, seed=len(rows), quiet_units=watched)
    return Report(rows=tuple(rows[:-1]), tie=rows[-1], change=after, quick=quick)


def judged(found: Report) -> list[Gate]:
    """What must hold of a report."""
    worst = max(found.rows, key=lambda row: row.wrong_upper(OURS))
    slowest = max(found.rows, key=_slower)
    blind = max(found.rows, key=lambda row: row.wrong_upper(PLUGGED))
    after = found.change
    share = after.in_time / max(after.dropped, 1)
    return [
        Gate(
            text=f"first declared winner wrong in at most {WRONG_SHARE:.0%} of runs of every cell, "
            f"upper limit at most {WRONG_UPPER:.1%} (worst {_wrong(worst, OURS)} of {worst.runs:,} "
            f"at {worst.cell.name}, upper limit {worst.wrong_upper(OURS):.2%})",
            holds=all(
                _wrong(row, OURS) <= WRONG_SHARE * row.runs and row.wrong_upper(OURS) <= WRONG_UPPER
                for row in found.rows
            ),
        ),
        Gate(
            text=f"median units to a declaration at most {SLOWER:g} times those of a uniform split "
            f"with a likelihood ratio in every cell (largest {_slower(slowest):.2f} times, at "
            f"{slowest.cell.name})",
            holds=_slower(slowest) <= SLOWER,
        ),
        Gate(
            text=f"after the leader drops, the right arm is re-declared within {WITHIN:,} units in "
            f"at least {REDECLARED:.0%} of runs ({after.in_time:,} of {after.dropped:,}, "
            f"{share:.1%})",
            holds=share >= REDECLARED,
        ),
        Gate(
            text=f"at most {FALSE_RESETS:g} false resets per 10,000 units ({after.resets} in "
            f"{after.watched:,}, {after.resets_per_10_000:.3f})",
            holds=after.resets_per_10_000 <= FALSE_RESETS,
        ),
        Gate(
            text="the plug-in rule fails where the e-process must not, so the races can tell a bad "
            f"rule ({_wrong(blind, PLUGGED)} of {blind.runs:,} wrong at {blind.cell.name})",
            holds=_wrong(blind, PLUGGED) > WRONG_UPPER * blind.runs,
        ),
    ]


def gates(*, quick: bool) -> list[Gate]:
    """Run everything and say what must hold, with the figures."""
    return judged(report(quick=quick))


def markdown(found: Report) -> str:
    """The tables and gates of a report."""
    rules = (OURS, PLUGGED, EVEN)
    lines = ["| arms | runs | " + " | ".join(f"{rule}: wrong %, median units" for rule in rules)]
    lines = [lines[0] + " |", "|---" * (2 + len(rules)) + "|"]
    for row in (*found.rows, found.tie):
        says = [
            f"{100 * _wrong(row, rule) / row.runs:.1f}, {row.races[rule].median:,.0f}"
            for rule in rules
        ]
        what = f"tie, declares any: {row.cell.name}" if row.cell.tie else row.cell.name
        lines.append(f"| {what} | {row.runs:,} | " + " | ".join(says) + " |")
    after = found.change
    settled = (
        f"The leader drops from {STABLE[0]:g} to {DROPPED[0]:g} after {BEFORE:,} units, the other "
        f"stays at {STABLE[1]:g}, batches of {BATCH}: detected after a median of "
        f"{after.detected:,.0f} units, re-declared after {after.redeclared:,.0f}; the dropped arm "
        f"was re-declared in {after.wrong:,} of {after.dropped:,} runs."
    )
    holds = [f"- {'holds' if gate.holds else 'FAILS'}: {gate.text}" for gate in judged(found)]
    return "\n\n".join(
        ["## Declaring a best arm", "\n".join(lines), settled, "What must hold:", "\n".join(holds)]
    )


def _wrong(row: Row, rule: str) -> int:
    return row.races[rule].wrong(row.cell)


def _slower(row: Row) -> float:
    return row.races[OURS].median / row.races[EVEN].median


def main(arguments: Sequence[str]) -> int:
    """Run the bench, print what it found, and return 1 if a gate is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_RUNS} runs a rule and cell")
    found = report(quick=parser.parse_args(arguments).quick)
    print(markdown(found))
    return 0 if all(gate.holds for gate in judged(found)) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
