"""What must hold of the races and the replays, with the figures."""

from collections.abc import Sequence
from typing import Final

from bench.races.cells import EVEN, OURS, PLUGGED, Raced, Row
from bench.races.changing import DROP, RISE
from bench.races.replays import CODE, HOURS, Replayed, Tabled
from bench.replay_report import Gate
from optimizer.statistics.planning import wilson_interval

WRONG_SHARE: Final = 0.05
WRONG_UPPER: Final = 0.065
SLOWER: Final = 1.3
WITHIN: Final = 1_000
REDECLARED: Final = 0.90
FALSE_RESETS: Final = 0.05
RISEN: Final = 3_000.0
"""Median units until an arm that rose is declared; without its own bet it takes 4,240."""
REACHED: Final = 0.9
TARGET_RUNS: Final = 2_000


def of_races(found: Raced) -> list[Gate]:
    """What must hold without data."""
    return [_wrong(found.rows), _ties(found.ties), _soon(found.rows), *_turns(found), _blind(found)]


def _wrong(rows: Sequence[Row]) -> Gate:
    worst = max(rows, key=lambda row: row.played[OURS].wrong_upper)
    own = worst.played[OURS]
    return Gate(
        text=f"first declared winner wrong in at most {WRONG_SHARE:.0%} of runs of every cell, "
        f"upper limit at most {WRONG_UPPER:.1%} (worst {own.wrong} of {own.runs:,} at "
        f"{worst.cell.name}, upper limit {own.wrong_upper:.2%}; {len(rows)} cells)",
        holds=all(
            row.played[OURS].wrong <= WRONG_SHARE * row.played[OURS].runs
            and row.played[OURS].wrong_upper <= WRONG_UPPER
            for row in rows
        ),
    )


def _ties(rows: Sequence[Row]) -> Gate:
    worst = max(rows, key=lambda row: row.played[OURS].wrong / row.played[OURS].runs)
    own = worst.played[OURS]
    return Gate(
        text=f"exactly equal arms are declared in at most {WRONG_SHARE:.0%} of runs (most often "
        f"{own.wrong} of {own.runs:,}, at {worst.cell.name}, within {worst.cell.limit:,} units)",
        holds=own.wrong <= WRONG_SHARE * own.runs,
    )


def slower(row: Row) -> float:
    """Median units to a declaration as a multiple of those of a uniform split."""
    return row.played[OURS].median / row.played[EVEN].median


def _soon(rows: Sequence[Row]) -> Gate:
    slowest = max(rows, key=slower)
    return Gate(
        text=f"median units to a declaration at most {SLOWER:g} times those of a uniform split "
        f"with a likelihood ratio in every cell (largest {slower(slowest):.2f} times, at "
        f"{slowest.cell.name})",
        holds=slower(slowest) <= SLOWER,
    )


def _turns(found: Raced) -> list[Gate]:
    drop, rise = (found.changes[turn.name] for turn in (DROP, RISE))
    own, risen = drop[OURS], rise[OURS]
    in_time = own.within(WITHIN)
    others = min(each.median for name, each in rise.items() if name != OURS)
    return [
        Gate(
            text=f"{DROP.name}: the right arm is re-declared within {WITHIN:,} units in at least "
            f"{REDECLARED:.0%} of runs ({in_time:,} of {own.led:,})",
            holds=in_time >= REDECLARED * own.led > 0,
        ),
        Gate(
            text=f"at most {FALSE_RESETS:g} false resets per 10,000 units ({own.resets} in "
            f"{own.watched:,}, {own.resets_per_10_000:.3f})",
            holds=own.resets_per_10_000 <= FALSE_RESETS,
        ),
        Gate(
            text=f"{RISE.name}: it is declared after a median of at most {RISEN:,.0f} units "
            f"({risen.median:,.0f}), sooner than by any other rule ({others:,.0f})",
            holds=risen.median <= RISEN and risen.median < others,
        ),
    ]


def _blind(found: Raced) -> Gate:
    worst = max(found.rows, key=lambda row: row.played[PLUGGED].wrong / row.played[PLUGGED].runs)
    own = worst.played[PLUGGED]
    return Gate(
        text="the plug-in rule fails where ours must not, so the races can tell a bad rule "
        f"({own.wrong} of {own.runs:,} wrong at {worst.cell.name})",
        holds=float(wilson_interval(own.wrong, own.runs)[0]) > WRONG_SHARE,
    )


def of_tables(found: Tabled, *, quick: bool) -> list[Gate]:
    """What must hold of the loop on the real tables."""
    gates = []
    for each in found.replayed:
        if each.volume.stated and each.volume.table == CODE:
            gates += _savings(each)
    beyond, ends = (sum(counts) for counts in zip(*(e.beyond for e in found.replayed), strict=True))
    upper = float(wilson_interval(beyond, ends)[1])
    gates.append(
        Gate(
            text=f"quality below the baseline's less the margin at the end of at most "
            f"{WRONG_SHARE:.0%} of target-runs ({beyond} of {ends:,}, upper limit {upper:.2%}, at "
            f"most {WRONG_UPPER:.1%}" + (")" if quick else f"; at least {TARGET_RUNS:,} of them)"),
            holds=beyond <= WRONG_SHARE * ends
            and upper <= (1.0 if quick else WRONG_UPPER)
            and (quick or ends >= TARGET_RUNS),
        )
    )
    return gates


def _savings(each: Replayed) -> list[Gate]:
    own, (mean, low, _) = each.volume, each.settled
    saving = each.outcome.saving
    total = own.requests_per_hour * each.hours
    return [
        Gate(
            text=f"{own.table}, margin {own.margin:g}: at least {REACHED:.0%} of what the best arm "
            f"of each target in hindsight saves is reached ({mean:.1%}, lower limit {low:.1%}) "
            f"within {own.requests_per_hour * HOURS / 1e6:g} million requests a target (nine seeds "
            f"in ten are done after {each.hours:.0f} h, {total / 1e6:.1f} million)",
            holds=mean >= REACHED,
        ),
        Gate(
            text=f"{own.table}, margin {own.margin:g}: saves more than the best single swap "
            f"({saving:.1%} against {each.swap:.1%})",
            holds=saving > each.swap,
        ),
    ]
