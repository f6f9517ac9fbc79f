"""Replay real measured outcomes through the optimizer: what it saves, and what it lets pass.

    python -m bench.replay --data DIR [--quick] [--write docs/performance.md]

``DIR`` holds CodeRouterBench: ``id_test_results.csv.gz`` and ``models.json``. A request is a task
drawn at random; its score, cost and latency are those measured for the arm that serves it, so the
truth of every arm is known. The loop is the project's own (see :mod:`bench.world.loop`).

Exit status 1: a stated gate fails. The same data and settings give the same tables, however many
processes share the work.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import (
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
)
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from bench.replay_harm import Harmful, cases, cells, forced
from bench.replay_report import PICTURE, Report, Saving, gates, markdown, plot
from bench.replay_savings import Result, best_per_target, best_swap, replay, volume
from bench.sections import renew
from bench.world.coderouter import Benchmark, read

SEEDS_AT_ONCE: Final = 20
CASES_AT_ONCE: Final = 240
"""Targets of one world: large ones share each hour's fixed cost, small ones end sooner."""
MARGINS: Final = (0.01, 0.02, 0.03)

Say = Callable[[str], None]
Ends = Counter[tuple[float, str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is replayed.

    seeds, and the hours of each; forced rollouts of each margin: ``at_margin`` of arms whose harm
    is the margin, ``beyond`` of mixtures above it, ``real_each`` of every measured arm above it;
    quick: too little for net savings and for counts of rare events.
    """

    seeds: int
    hours: int
    at_margin: int
    beyond: int
    real_each: int
    quick: bool = False


FULL: Final = Size(seeds=20, hours=168, at_margin=670, beyond=370, real_each=16)
QUICK: Final = Size(seeds=2, hours=60, at_margin=20, beyond=20, real_each=1, quick=True)


def report(data: Path, *, margins: Sequence[float], size: Size, jobs: int, say: Say) -> Report:
    """The whole replay, on ``jobs`` processes; ``say`` is told of every finished part."""
    bench = read(data)
    volumes = {margin: volume(bench, margin) for margin in margins}
    with _pool(jobs) as pool:
        saved = {
            (margin, start): pool.submit(
                savings_of,
                data,
                margin,
                tuple(range(start, min(start + SEEDS_AT_ONCE, size.seeds))),
                float(volumes[margin].requests_per_hour),
                size.hours,
            )
            for margin in margins
            for start in range(0, size.seeds, SEEDS_AT_ONCE)
        }
        harmed = [
            pool.submit(harm_of, data, margin, size, start)
            for margin in margins
            for start in range(0, len(_cases(bench, margin, size)), CASES_AT_ONCE)
        ]
        _watch([*saved.values(), *harmed], say)
    ends: Ends = Counter()
    for part in harmed:
        ends.update(part.result())
    return Report(
        bench=bench,
        hours=size.hours,
        quick=size.quick,
        cells=tuple(cells(ends)),
        savings=tuple(
            Saving(
                margin=margin,
                volume=volumes[margin],
                results=tuple(
                    result
                    for (own, _), part in saved.items()
                    if own == margin
                    for result in part.result()
                ),
                limit=best_per_target(bench, margin),
                swap=best_swap(bench, margin, everywhere=True),
                loose_swap=best_swap(bench, margin, everywhere=False),
            )
            for margin in margins
        ),
    )


def _pool(jobs: int) -> Executor:
    """Processes, or a thread where one job is enough: it starts at once."""
    if jobs == 1:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))


def savings_of(
    data: Path, margin: float, seeds: tuple[int, ...], requests_per_hour: float, hours: int
) -> list[Result]:
    """The results of some seeds at one margin."""
    return replay(
        read(data), margin=margin, seeds=seeds, requests_per_hour=requests_per_hour, hours=hours
    )


def harm_of(data: Path, margin: float, size: Size, start: int) -> Ends:
    """How some of the forced rollouts at one margin ended."""
    chosen = _cases(read(data), margin, size)
    return forced(chosen[start : start + CASES_AT_ONCE])


def _cases(bench: Benchmark, margin: float, size: Size) -> list[Harmful]:
    return cases(
        bench,
        margin=margin,
        mixed={1.0: size.at_margin, 1.5: size.beyond},
        real_each=size.real_each,
    )


def _watch(parts: Sequence["Future[list[Result]] | Future[Ends]"], say: Say) -> None:
    start = time.monotonic()
    for number, part in enumerate(as_completed(parts), start=1):
        # A part that failed ends the replay at once, with its own traceback.
        part.result()
        say(f"{number} of {len(parts)} parts, {time.monotonic() - start:.0f} s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 if a gate fails."""
    parser = argparse.ArgumentParser(prog="bench.replay", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="directory of CodeRouterBench")
    parser.add_argument("--margins", type=float, nargs="+", help="quality margins, scores")
    parser.add_argument("--seeds", type=int, help="copies of the four targets")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--quick", action="store_true", help="a small version, within a minute")
    parser.add_argument("--write", type=Path, help="file whose replay section is renewed")
    given = parser.parse_args(arguments)
    size = QUICK if given.quick else FULL
    margins = given.margins or ([0.02] if given.quick else list(MARGINS))
    found = report(
        given.data,
        margins=margins,
        size=replace(size, seeds=given.seeds or size.seeds),
        jobs=given.jobs,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    text = markdown(found)
    print(text)
    if given.write is not None:
        renew(given.write, "replay", text)
        plot(found, given.write.with_name(PICTURE))
    return 0 if all(gate.holds for gate in gates(found)) else 1


if __name__ == "__main__":
    sys.exit(main())
