"""What the hourly loop saves on the real tables, by volume: seeds of a few targets, many times."""

from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np

from bench.races.tables import Outcome, peers
from bench.replay_savings import Result, best_per_target, best_swap, interval, policy, replay
from bench.world import coderouter, routellm
from bench.world.coderouter import Benchmark
from optimizer.policy import Policy
from optimizer.statistics.planning import wilson_interval

AT_ONCE: Final = 20
"""Seeds of one world, which share each hour's fixed cost."""
HOURS: Final = 72
CODE, ROUTE = "coderouterbench", "routellm"
READ: Final = {CODE: coderouter.read, ROUTE: routellm.read}
LOOP: Final = "the loop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A replay to be: table, margin, requests an hour and target, seeds; stated: gates judge it."""

    table: str
    margin: float
    requests_per_hour: int
    seeds: int
    stated: bool = False


FULL: Final = (
    Volume(table=CODE, margin=0.03, requests_per_hour=5_000, seeds=20),
    Volume(table=CODE, margin=0.03, requests_per_hour=20_000, seeds=20),
    Volume(table=CODE, margin=0.03, requests_per_hour=50_000, seeds=260, stated=True),
    Volume(table=CODE, margin=0.01, requests_per_hour=20_000, seeds=20),
    Volume(table=CODE, margin=0.01, requests_per_hour=50_000, seeds=20),
    Volume(table=CODE, margin=0.01, requests_per_hour=100_000, seeds=260, stated=True),
    Volume(table=ROUTE, margin=0.03, requests_per_hour=20_000, seeds=4),
)
QUICK: Final = (Volume(table=CODE, margin=0.03, requests_per_hour=50_000, seeds=4, stated=True),)
PEER_RUNS, QUICK_PEER_RUNS = 200, 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One volume's replays against what its table allows."""

    volume: Volume
    bench: Benchmark
    results: tuple[Result, ...]

    @property
    def limit(self) -> float:
        """What the best choice of each target in hindsight saves."""
        return best_per_target(self.bench, self.volume.margin).saving

    @property
    def swap(self) -> float:
        """What the best single swap saves whose mean quality is within the margin."""
        return best_swap(self.bench, self.volume.margin, everywhere=False).saving

    @property
    def settled(self) -> tuple[float, float, float]:
        """Part of the limit that the arms in force at the end save, with 95 % limits."""
        return interval([each.settled_saving / self.limit for each in self.results])

    @property
    def net(self) -> tuple[float, float, float]:
        """The same of all that was served on the way there."""
        return interval([each.saving / self.limit for each in self.results])

    @property
    def beyond(self) -> tuple[int, int]:
        """Target-runs that end on an arm beyond the margin, and all of them."""
        ends = [
            self.bench.lost(target, arm) > self.volume.margin
            for each in self.results
            for target, arm in each.in_force.items()
        ]
        return sum(ends), len(ends)

    @property
    def beyond_upper(self) -> float:
        """Upper Wilson limit of their share."""
        return float(wilson_interval(*self.beyond)[1])

    @property
    def hours(self) -> float:
        """Hours after which nine seeds in ten have made their last promotion; nan without one."""
        made = [each.hours_to_reach for each in self.results if each.hours_to_reach is not None]
        return float(np.quantile(made, 0.9, method="higher")) if made else float("nan")

    @property
    def outcome(self) -> Outcome:
        """As a row among the other rules."""
        lost = [
            np.mean([self.bench.lost(name, arm) for name, arm in each.in_force.items()])
            for each in self.results
        ]
        beyond, ends = self.beyond
        return Outcome(
            rule=f"{LOOP}, {self.volume.requests_per_hour:,} requests an hour and target",
            saving=float(np.mean([each.settled_saving for each in self.results])),
            lost=float(np.mean(lost)),
            beyond=beyond,
            ends=ends,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tabled:
    """The replays, and by table and margin what other rules come to."""

    replayed: tuple[Replayed, ...]
    others: dict[tuple[str, float], list[Outcome]]


def tabled(data: Path, *, quick: bool, jobs: int) -> Tabled:
    """Everything that needs the tables, on ``jobs`` processes."""
    volumes = QUICK if quick else FULL
    runs = QUICK_PEER_RUNS if quick else PEER_RUNS
    with _pool(jobs) as pool:
        parts = {
            volume: [
                pool.submit(loop, data, volume, tuple(range(at, min(at + AT_ONCE, volume.seeds))))
                for at in range(0, volume.seeds, AT_ONCE)
            ]
            for volume in volumes
        }
        asked = sorted({(volume.table, volume.margin) for volume in volumes})
        others = {key: pool.submit(of_others, data, *key, runs) for key in asked}
        return Tabled(
            replayed=tuple(
                Replayed(
                    volume=volume,
                    bench=READ[volume.table](data / volume.table),
                    results=tuple(result for part in own for result in part.result()),
                )
                for volume, own in parts.items()
            ),
            others={key: part.result() for key, part in others.items()},
        )


def loop(data: Path, volume: Volume, seeds: Sequence[int]) -> list[Result]:
    """The results of some seeds."""
    return replay(
        READ[volume.table](data / volume.table),
        margin=volume.margin,
        seeds=seeds,
        requests_per_hour=float(volume.requests_per_hour),
        hours=HOURS,
        limits=limits(volume.margin),
    )


def of_others(data: Path, table: str, margin: float, runs: int) -> list[Outcome]:
    """The other rules on one table."""
    return peers(READ[table](data / table), margin, runs)


def limits(margin: float) -> Policy:
    """The replay's policy, but for the strategy's record.

    Copies of one target miss what a prior promised all alike; no fleet's record looks like that.
    """
    common = policy(margin)
    return replace(common, approval=replace(common.approval, when_missed=False))


def _pool(jobs: int) -> Executor:
    """Processes, or a thread where one job is enough: it starts at once."""
    if jobs == 1:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(jobs, mp_context=get_context("spawn"))
