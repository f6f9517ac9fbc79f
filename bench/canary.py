"""Simulate canary rollouts: what each rule rolls back, catches and promotes, and how soon.

    python -m bench canary [--quick] [--jobs N] [--write docs/performance.md] [--json FILE]
    python -m bench canary --worlds label_delay,bursty [--quick] [--jobs N] [--json FILE]

The second form runs the cells of some worlds alone and prints them, with the same figures as in a
whole run. Exit status 1: a stated gate is broken. The same code gives the same tables, however many
processes share the work.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import (
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from bench.rollouts.cells import Cell, cells, quick
from bench.rollouts.coverage import of_difference, of_quantile, quantile_cases, questions
from bench.rollouts.gates import Results, checked
from bench.rollouts.report import PICTURE, markdown, plot, store
from bench.rollouts.running import run
from bench.sections import renew

Say = Callable[[str], None]

COVERED: Final = 2_000
COVERED_QUICK: Final = 100


def simulate(
    chosen: Sequence[Cell],
    *,
    covered: int,
    jobs: int,
    quickly: bool,
    say: Say,
    worlds: tuple[str, ...] = (),
) -> Results:
    """Every cell, and so many rollouts of each coverage check, on ``jobs`` processes.

    covered: 0 for no coverage check; worlds: the worlds whose cells these are, none for all.
    """
    with _pool(jobs) as pool:
        tallies = [pool.submit(run, cell) for cell in chosen]
        asked, cases = (questions(), quantile_cases()) if covered else ([], [])
        differences = [pool.submit(of_difference, each, covered) for each in asked]
        quantiles = [pool.submit(of_quantile, *case, covered) for case in cases]
        names: dict[Future[Any], str] = {
            **{part: cell.name for part, cell in zip(tallies, chosen, strict=True)},
            **dict.fromkeys([*differences, *quantiles], "coverage"),
        }
        start = time.monotonic()
        for number, part in enumerate(as_completed(names), start=1):
            # A part that failed ends the run at once, with its own traceback.
            part.result()
            spent = time.monotonic() - start
            say(f"{number} of {len(names)}, {spent:.0f} s: {names[part]}")
        return Results(
            tallies=tuple(tally for part in tallies for tally in part.result()),
            coverage=(
                *(each for part in differences for each in part.result()),
                *(part.result() for part in quantiles),
            ),
            quick=quickly,
            worlds=worlds,
        )


def _pool(jobs: int) -> Executor:
    """Processes, or a thread where one job is enough: it starts at once."""
    if jobs == 1:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 if a gate is broken."""
    parser = argparse.ArgumentParser(prog="bench.canary", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small version, a few minutes")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--write", type=Path, help="file whose canary section is renewed")
    parser.add_argument("--json", type=Path, help="file for every figure")
    parser.add_argument("--worlds", help="kinds of worlds, by comma, that alone are run")
    given = parser.parse_args(arguments)
    kept, worlds = cells(), tuple(given.worlds.split(",")) if given.worlds else ()
    unknown = sorted(set(worlds) - {cell.world.kind for cell in kept})
    if unknown:
        known = ", ".join(sorted({cell.world.kind for cell in kept}))
        parser.error(f"no world {', '.join(unknown)}; there are {known}")
    if worlds and given.write is not None:
        parser.error("--write renews the whole section, so it needs all worlds")
    kept = [cell for cell in kept if not worlds or cell.world.kind in worlds]
    covered = COVERED_QUICK if given.quick else COVERED
    found = simulate(
        quick(kept) if given.quick else kept,
        covered=0 if worlds else covered,
        jobs=given.jobs,
        quickly=given.quick,
        say=lambda text: print(text, file=sys.stderr, flush=True),
        worlds=worlds,
    )
    return finish(found, write=given.write, results=given.json)


def finish(found: Results, *, write: Path | None, results: Path | None) -> int:
    """Print, write and store what was found; 1 if a gate is broken."""
    text = markdown(found)
    print(text)
    if write is not None:
        renew(write, "canary", text)
        plot(found, write.with_name(PICTURE))
    if results is not None:
        store(found, results)
    return 0 if all(gate.holds for gate in checked(found)) else 1


if __name__ == "__main__":
    sys.exit(main())
