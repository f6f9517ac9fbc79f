"""Decide for 10,000 targets of five arms, and measure the CPU time that takes.

    python -m bench deciding [--targets N] [--repeats N] [--write docs/performance.md]

Exit status 1: deciding takes longer than it may.

What is measured is the pure middle of an hour, with the settings' defaults: every analyzer, every
strategy, and the arbitration of what they propose, from aggregates in memory as gathering leaves
them. Reading and writing are not in it. The arm in force has a week of hours; each other arm has
one day of them, from when it was tried. Rows are drawn from a pool of hours that were made request
by request.
"""

import argparse
import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.sections import renew
from optimizer import wiring
from optimizer.aggregates import (
    CLUSTERS,
    HISTOGRAM,
    KEYS,
    SUMS,
    pack_histogram,
)
from optimizer.cycle import Plan, decide, recalled
from optimizer.evidence import Analyzer, DecisionId, Proposal, Scene, Strategy
from optimizer.metrics import HOUR_S
from optimizer.policy import Guardrail, Policy
from optimizer.settings.model import Strategies
from optimizer.statistics import arms as measures
from optimizer.statistics.quantiles import bucket_of
from optimizer.targets import Arm, ModelConfig, Price, Target

Made = TypeVar("Made")

TARGETS: Final = 10_000
BUDGET_S: Final = 15.0
"""CPU seconds that one hour's deciding may take, of one process."""

NOW: Final = datetime(2026, 3, 10, 12, tzinfo=UTC)
WEEK_HOURS: Final = 168
TRIED_HOURS: Final = 24
TRIED_BEFORE: Final = 72
"""Hours ago at which the other arms began to be tried."""
POOL: Final = 20
"""Drawn hours of an arm for each hour of the day."""
IN_FLIGHT: Final = 0.02
"""Share of targets with a rollout, which nothing is proposed for."""
SICK: Final = 0.02
"""Share of targets whose arm in force fails and slows in the last three hours."""

POLICY: Final = Policy(
    guardrails=(
        Guardrail(metric="quality", margin=0.03, anchored=True),
        Guardrail(metric="failure_rate", margin=0.01),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One arm's truth: requests an hour at noon, and what each of them is like."""

    arm: str
    requests: int
    cost_usd: float
    latency_ms: float
    quality: float
    failure: float = 0.01


KINDS: Final = (
    Kind(arm="large", requests=600, cost_usd=0.0040, latency_ms=900.0, quality=0.90),
    Kind(arm="small", requests=120, cost_usd=0.0008, latency_ms=500.0, quality=0.90),
    Kind(arm="mid", requests=120, cost_usd=0.0020, latency_ms=700.0, quality=0.89),
    Kind(arm="weak", requests=120, cost_usd=0.0002, latency_ms=300.0, quality=0.60),
    Kind(arm="dear", requests=120, cost_usd=0.0090, latency_ms=1_500.0, quality=0.92),
)
SICKLY: Final = Kind(
    arm="large", requests=600, cost_usd=0.0040, latency_ms=2_500.0, quality=0.90, failure=0.12
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """CPU seconds of each stage, the best of several runs, and what they made."""

    rows: int
    seconds: Mapping[str, float]
    insights: int
    proposals: int
    decisions: int
    outcomes: Mapping[str, int]

    @property
    def total_s(self) -> float:
        """All stages, CPU seconds."""
        return sum(self.seconds.values())


def scene(targets: int, *, seed: int = 1) -> Scene:
    """All targets, a week of their hours, and nothing decided yet but for those in flight."""
    rng = np.random.default_rng(seed)
    names = [f"target-{number:05d}" for number in range(targets)]
    arms = tuple(
        Arm(
            name=kind.arm,
            config=ModelConfig(model=f"model-{kind.arm}"),
            price=Price(
                input_usd_per_mtok=1e6 * kind.cost_usd / 1_300,
                output_usd_per_mtok=2e6 * kind.cost_usd / 1_300,
            ),
        )
        for kind in KINDS
    )
    target = {name: Target(name=name, arms=arms, baseline=KINDS[0].arm) for name in names}
    return Scene(
        now=NOW,
        targets=target,
        policies=dict.fromkeys(names, POLICY),
        baselines=dict.fromkeys(names, KINDS[0].arm),
        hours=_hours(rng, np.array(names)),
        in_flight={
            name: DecisionId(f"d-{name}") for name in names[:: max(1, round(1 / IN_FLIGHT))]
        },
    )


def _hours(rng: np.random.Generator, names: npt.NDArray[np.str_]) -> pd.DataFrame:
    """Aggregates of every target; each is drawn from the hours of its arm and hour of day."""
    parts = []
    sickly = _pool(rng, SICKLY)
    sick = np.arange(len(names)) % round(1 / SICK) == 1
    for kind in KINDS:
        pool, in_force = _pool(rng, kind), kind is KINDS[0]
        newest = WEEK_HOURS if in_force else TRIED_HOURS
        first = WEEK_HOURS if in_force else TRIED_BEFORE
        for back in range(first, first - newest, -1):
            start_s = int(NOW.timestamp()) - back * HOUR_S
            chosen = start_s // HOUR_S % 24 * POOL + rng.integers(0, POOL, len(names))
            part = pool.iloc[chosen].reset_index(drop=True)
            if in_force and back <= 3:
                part[sick] = sickly.iloc[chosen[sick]].to_numpy()
            place = "baseline" if in_force else "experiment"
            parts.append(part.assign(target=names, arm=kind.arm, slice=place, start_s=start_s))
    frame = pd.concat(parts, ignore_index=True).rename(columns={"start_s": "window_start_s"})
    frame = frame.astype(
        dict.fromkeys(measures.NAMES, "str") | dict.fromkeys((*SUMS, KEYS[3]), np.int64)
    )
    frame = frame[[*KEYS, *SUMS, HISTOGRAM, CLUSTERS]].sort_values(list(KEYS), ignore_index=True)
    return measures.coded(frame)


def _pool(rng: np.random.Generator, kind: Kind) -> pd.DataFrame:
    """``POOL`` hours of each hour of the day, in that order."""
    return pd.DataFrame([_hour(rng, kind, hour) for hour in range(24) for _ in range(POOL)])


def _hour(rng: np.random.Generator, kind: Kind, hour: int) -> dict[str, Any]:
    n = int(rng.poisson(kind.requests * (1.0 + 0.5 * np.cos((hour - 12) * np.pi / 12))))
    failed = int(rng.binomial(n, kind.failure))
    latency = rng.lognormal(np.log(kind.latency_ms), 0.5, n - failed)
    cost = rng.lognormal(np.log(kind.cost_usd) - 0.125, 0.5, n)
    score = rng.random(n // 5) < kind.quality
    bucket, count = np.unique(bucket_of(latency), return_counts=True)
    return dict.fromkeys(SUMS, 0) | {
        "n": n,
        "n_failed": failed,
        "n_units": n,
        "n_latency": n - failed,
        "latency_us": round(latency.sum() * 1e3),
        "log_latency_e6": round(np.log(latency).sum() * 1e6),
        "log_latency_sq_e6": round((np.log(latency) ** 2).sum() * 1e6),
        "n_cost": n,
        "cost_nusd": round(cost.sum() * 1e9),
        "log_cost_e6": round(np.log(cost).sum() * 1e6),
        "log_cost_sq_e6": round((np.log(cost) ** 2).sum() * 1e6),
        "n_positive_cost": n,
        "input_tokens": 900 * n,
        "output_tokens": 200 * n,
        "n_tokens": n,
        "n_quality": score.size,
        "quality_e6": int(score.sum()) * 1_000_000,
        "quality_sq_e9": int(score.sum()) * 1_000_000_000,
        HISTOGRAM: pack_histogram(bucket, count),
        CLUSTERS: b"",
    }


def measure(whole: Scene, repeats: int) -> Measured:
    """Decide ``repeats`` times and keep each stage's best time."""
    section = Strategies()
    analyzers = {name: build(section) for name, build in wiring.ANALYZERS.items()}
    strategies = {name: build(section) for name, build in wiring.STRATEGIES.items()}
    best: dict[str, float] = {}
    rounds = [_decided_once(whole, analyzers, strategies, best) for _ in range(repeats)]
    insights, proposals, plan = rounds[-1]
    return Measured(
        rows=len(whole.hours),
        seconds=best,
        insights=insights,
        proposals=proposals,
        decisions=len(plan.decisions),
        outcomes=Counter(fate for _, fate, _ in plan.outcomes),
    )


def _decided_once(
    whole: Scene,
    analyzers: Mapping[str, Analyzer],
    strategies: Mapping[str, Strategy],
    best: dict[str, float],
) -> tuple[int, int, Plan]:
    seen = [
        _timed(best, f"analyzer {name}", partial(run, whole)) for name, run in analyzers.items()
    ]
    insights = tuple(chain.from_iterable(seen))
    made = [
        _timed(best, f"strategy {name}", partial(run, whole, insights))
        for name, run in strategies.items()
    ]
    proposals = tuple(chain.from_iterable(made))
    plan = _timed(best, "arbitration", partial(_decided, whole, proposals))
    return len(insights), len(proposals), plan


def _decided(whole: Scene, proposals: Sequence[Proposal]) -> Plan:
    rate = Strategies().false_discovery_rate
    tested = None if rate is None else recalled(None, alpha=rate, now=whole.now)
    return decide(whole, proposals, config_hash="c0", actor="bench", discoveries=tested)


def _timed(best: dict[str, float], name: str, run: Callable[[], Made]) -> Made:
    gc.collect()
    began = time.process_time()
    found = run()
    took = time.process_time() - began
    best[name] = min(took, best.get(name, took))
    return found


def gate(found: Measured, targets: int) -> tuple[bool, str]:
    """Whether deciding keeps its time, and the line that says so; the goal is for 10,000."""
    budget = BUDGET_S * targets / TARGETS
    holds = found.total_s <= budget
    word = "holds" if holds else "broken"
    return holds, (
        f"- {word}: deciding for {targets:,} targets of {len(KINDS)} arms within {budget:g} CPU "
        f"seconds ({found.total_s:.2f})"
    )


def markdown(found: Measured, *, targets: int, repeats: int) -> str:
    """The section of the documentation."""
    setting = (
        f"Made by `python -m bench deciding --targets {targets} --repeats {repeats}`: "
        f"{targets:,} targets of {len(KINDS)} arms, {found.rows:,} hourly aggregates in memory: a "
        f"week of the arm in force, {TRIED_HOURS} hours of each other one. {IN_FLIGHT:.0%} of the "
        f"targets have a rollout in flight, in {SICK:.0%} the arm in force fails and slows. "
        "Settings are the defaults. CPU seconds of one process (`time.process_time`), each the "
        f"best of {repeats} runs. Reading the ledger and writing to it are not in it. It ends in "
        f"{found.insights:,} insights, {found.proposals:,} proposals and {found.decisions:,} "
        f"decisions; proposals by outcome: {_counted(found.outcomes)}."
    )
    lines = ["| stage | seconds |", "|---|---|"]
    lines += [f"| {name} | {took:.2f} |" for name, took in found.seconds.items()]
    lines.append(f"| all of them | {found.total_s:.2f} |")
    said = gate(found, targets)[1]
    return "\n\n".join(["## Deciding for many targets", setting, "\n".join(lines), said])


def _counted(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{n:,} {name}" for name, n in sorted(outcomes.items()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="bench.deciding", description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=TARGETS, help="decided at once")
    parser.add_argument("--repeats", type=int, default=3, help="runs, of which the best counts")
    parser.add_argument("--write", type=Path, help="file whose deciding section is renewed")
    given = parser.parse_args(arguments)
    found = measure(scene(given.targets), given.repeats)
    text = markdown(found, targets=given.targets, repeats=given.repeats)
    print(text)
    if given.write is not None:
        renew(given.write, "deciding", text)
    return 0 if gate(found, given.targets)[0] else 1


if __name__ == "__main__":
    sys.exit(main())
