"""Replay real traffic: random splits without harm, injected harm, and limits of the p95 latency.

    python -m bench traces --data DIR [--quick] [--write docs/performance.md]

``DIR`` holds the directories ``azure_llm_trace``, ``servegen``, ``llmperf_leaderboard``,
``coderouterbench`` and ``thefastest_ai``. Exit status 1: a stated gate is broken. The same data
give the same tables. One process, ten minutes at most.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.sections import renew
from bench.traced.covering import covered
from bench.traced.measured import endpoints, first_tokens, tasks
from bench.traced.promises import Results, checked
from bench.traced.report import markdown
from bench.traced.running import FULL, QUICK, Size, Tally, run
from bench.traced.worlds import FAILURE_RATE, worlds

Say = Callable[[str], None]


def replayed(data: Path, *, size: Size, say: Say) -> Results:
    """Every world under every rule and harm, and the coverage of the quantile's limits.

    Raises:
        FileNotFoundError: a data set is not there.
    """
    start = time.monotonic()
    tallies: list[Tally] = []
    for world in worlds(data):
        tallies += run(world, size)
        say(f"{time.monotonic() - start:.0f} s: {world.name}")
    sets = [endpoints(data, failure_rate=FAILURE_RATE), first_tokens(data), tasks(data)]
    found = covered(sets, size.covered)
    say(f"{time.monotonic() - start:.0f} s: coverage")
    return Results(tallies=tuple(tallies), covered=found, quick=size.quick)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 if a gate is broken."""
    parser = argparse.ArgumentParser(prog="bench.traces", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="directory of the data sets")
    parser.add_argument("--quick", action="store_true", help="a small version, within a minute")
    parser.add_argument("--write", type=Path, help="file whose traces section is renewed")
    given = parser.parse_args(arguments)
    results = replayed(
        given.data,
        size=QUICK if given.quick else FULL,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    return finish(results, write=given.write)


def finish(results: Results, *, write: Path | None) -> int:
    """Print and write what was found; 1 if a gate is broken."""
    text = markdown(results)
    print(text)
    if write is not None:
        renew(write, "traces", text)
    return 0 if all(gate.holds for gate in checked(results)) else 1


if __name__ == "__main__":
    sys.exit(main())
