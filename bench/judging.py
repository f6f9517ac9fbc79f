"""Judge 10,000 rollouts at once, and measure the CPU time that takes.

    python -m bench judging [--targets N] [--repeats N] [--write docs/performance.md]

Exit status 1: one window takes longer than it may.

Every target has one rollout in its last stage and five arms: two in the rollout's slices control
and canary, three in the slice baseline, which the judge has to pass over. Counts are drawn, not
requests, so the frame takes seconds to make; making it is not measured.
"""

import argparse
import gc
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import starmap
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.sections import renew
from optimizer.aggregates import (
    CLUSTER_FIELDS,
    CLUSTERS,
    HISTOGRAM,
    KEYS,
    N_CLUSTERS,
    SUMS,
    pack_clusters,
    pack_histograms,
)
from optimizer.decision import Decision, State
from optimizer.evidence import (
    DecisionId,
    Impact,
    Looks,
    Outcome,
    ProposalId,
    RampPlan,
    Spent,
    Verdict,
)
from optimizer.judge.case import Case
from optimizer.judge.checks import checks
from optimizer.judge.health import examine
from optimizer.judge.sums import collect
from optimizer.judge.verdicts import CASES_AT_ONCE, judge, without_collector
from optimizer.policy import Guardrail, Policy
from optimizer.statistics.quantiles import bucket_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

TARGETS: Final = 10_000
WINDOWS: Final = (1, 24)
"""Windows of evidence, an hour apart: the newest alone, and a day."""
TARGET_S: Final = 2.0
"""CPU seconds that judging one window of so many targets may take."""

T0: Final = datetime(2026, 3, 2, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
BASELINE: Final = "large"
CANDIDATE: Final = "mini"
OTHERS: Final = ("medium", "nano", "distilled")

REQUESTS: Final = 1_000.0
"""Requests of an arm in a window, mean."""
SESSION: Final = 6.0
"""Requests of a unit on every other target; on the rest each unit makes one."""
HARMFUL: Final = 0.04
"""Share of targets whose canary fails twice as often, half of them with sessions."""
PLANNED_HOURS: Final = 30.0

POLICY: Final = Policy(
    guardrails=(
        Guardrail(metric="quality", margin=0.02, anchored=True),
        Guardrail(metric="failure_rate", margin=0.005),
        Guardrail(metric="fallback_rate", margin=0.01),
        Guardrail(metric="latency_exceedance", margin=0.02),
        Guardrail(metric="latency_ms", margin=0.05, relative=True),
        Guardrail(metric="cost_usd", margin=0.05, relative=True),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """CPU seconds of one frame: all of ``judge``, and its stages; each the best of several runs."""

    windows: int
    rows: int
    rows_of_rollouts: int
    total_s: float
    collect_s: float
    health_s: float
    checks_s: float
    outcomes: dict[Outcome, int]

    @property
    def verdicts_s(self) -> float:
        """What is left for splitting the frame and making verdicts."""
        return max(0.0, self.total_s - self.collect_s - self.health_s - self.checks_s)


def rollouts(targets: int, windows: int) -> list[Case]:
    """One rollout a target, in its last stage, with the looks of the hours before."""
    plan = RampPlan(
        hours=PLANNED_HOURS,
        requests=PLANNED_HOURS * REQUESTS,
        extended=2.0 * PLANNED_HOURS * REQUESTS,
    )
    fractions = tuple(hour / PLANNED_HOURS for hour in range(1, windows))
    seen = Looks(fractions=fractions, until=T0 + (windows - 1) * HOUR if fractions else None)
    names = [rail.metric for rail in POLICY.guardrails]
    roles = [(name, "guardrail") for name in names] + [(POLICY.goal.metric, "goal")]
    spent = tuple(Spent(metric=metric, role=role, harm=seen) for metric, role in roles)
    looked = spent if fractions else ()
    return [
        Case(decision=_decision(_name(number), plan), policy=POLICY, spent=looked)
        for number in range(targets)
    ]


def _decision(target: str, plan: RampPlan) -> Decision:
    return Decision(
        id=DecisionId(f"d-{target}"),
        proposal_id=ProposalId(f"p-{target}"),
        target=target,
        strategy="pareto",
        baseline=BASELINE,
        candidate=CANDIDATE,
        rationale="cheaper",
        expected=Impact(),
        created_at=T0 - HOUR,
        created_by="optimize",
        config_hash="c0",
        state=State.DEPLOYING,
        stage=len(POLICY.stages) - 1,
        stage_entered_at=T0,
        evidence_from=T0,
        latency_threshold_ms=2_000.0,
        plan=plan,
    )


def _name(number: int) -> str:
    return f"target-{number:05d}"


def evidence(targets: int, windows: int, *, seed: int = 1) -> pd.DataFrame:
    """Aggregates of every target, arm and window.

    One window is drawn. Each further one gives a target the rows another target of its kind has in
    that window, so that no two targets share their evidence.
    """
    rng = np.random.default_rng(seed)
    kind = _kinds(targets)
    own = [_window(rng, targets, kind, canary=canary) for canary in (False, True)]
    others = [own[0].assign(**{CLUSTERS: b""}) for _ in OTHERS]
    placed = [(BASELINE, "control"), (CANDIDATE, "canary"), *((arm, "baseline") for arm in OTHERS)]
    names = np.array([_name(number) for number in range(targets)])
    parts = []
    for window in range(windows):
        order = _within(kind, rng) if window else np.arange(targets)
        for (arm, name), rows in zip(placed, (*own, *others), strict=True):
            part = rows.iloc[order].reset_index(drop=True)
            start_s = int((T0 + window * HOUR).timestamp())
            parts.append(part.assign(target=names, arm=arm, slice=name, window_start_s=start_s))
    frame = pd.concat(parts, ignore_index=True)[[*KEYS, *SUMS, HISTOGRAM, CLUSTERS]]
    return frame.sort_values(list(KEYS), ignore_index=True)


def _kinds(targets: int) -> IntArray:
    """0: units of one request; 1: sessions; 2 and 3: the same, with a harmful canary."""
    number = np.arange(targets)
    return number % 2 + 2 * (number % round(2 / HARMFUL) < 2)


def _within(kind: IntArray, rng: np.random.Generator) -> IntArray:
    """A random order that keeps every kind in its places."""
    order = np.arange(kind.size)
    for each in np.unique(kind):
        places = np.flatnonzero(kind == each)
        order[places] = rng.permutation(places)
    return order


def _window(
    rng: np.random.Generator, targets: int, kind: IntArray, *, canary: bool
) -> pd.DataFrame:
    """One arm's rows of one window: sums, histogram and hash buckets."""
    length = np.where(kind % 2 == 1, SESSION, 1.0)[:, None]
    units = rng.poisson(np.broadcast_to(REQUESTS / length / N_CLUSTERS, (targets, N_CLUSTERS)))
    n = np.where(length > 1, units + rng.poisson(units * (length - 1.0)), units)
    failure = np.where(canary & (kind >= 2), 0.04, 0.02)[:, None]
    failed = rng.binomial(n, failure)
    answered = n - failed
    scored = rng.binomial(answered, 0.5)
    level_ms, price_usd = (780.0, 0.005) if canary else (800.0, 0.01)
    cells = {
        "n": n,
        "n_failed": failed,
        "n_fallback": rng.binomial(n, 0.001),
        "n_latency": answered,
        "latency_us": _amounts(rng, answered, level_ms * 1e3),
        "n_cost": n,
        "cost_nusd": _amounts(rng, n, price_usd * 1e9),
        "n_quality": scored,
        "quality_e6": np.rint(rng.normal(0.8e6 * scored, 0.1e6 * np.sqrt(scored))).clip(0),
    }
    table = np.stack([cells[name] for name in CLUSTER_FIELDS], axis=1).astype(np.int64)
    frame = pd.DataFrame({name: np.zeros(targets, dtype=np.int64) for name in SUMS})
    for name in CLUSTER_FIELDS:
        frame[name] = cells[name].sum(axis=1).astype(np.int64)
    frame["n_units"] = units.sum(axis=1)
    frame["n_positive_cost"] = frame["n_cost"]
    frame[HISTOGRAM] = _histograms(rng, answered.sum(axis=1), level_ms)
    frame[CLUSTERS] = pd.Series(map(pack_clusters, table), dtype="object")
    return frame


def _amounts(rng: np.random.Generator, rows: IntArray, mean: float) -> FloatArray:
    """Sums of so many amounts with a mean and twice that as their standard deviation."""
    return np.rint(np.where(rows > 0, rng.gamma(np.maximum(rows, 1) / 4.0, 4.0 * mean), 0.0))


def _histograms(
    rng: np.random.Generator, answered: IntArray, median_ms: float
) -> npt.NDArray[np.object_]:
    """Latencies, lognormal with sigma 0.5."""
    values = median_ms * np.exp(rng.normal(0.0, 0.5, int(answered.sum())))
    return pack_histograms(
        np.repeat(np.arange(answered.size), answered),
        bucket_of(values),
        np.ones(values.size, dtype=np.int64),
        n_groups=answered.size,
    )


def measure(targets: int, windows: int, *, repeats: int) -> Measured:
    """What judging all targets takes, with so many windows of evidence each."""
    cases, frame = rollouts(targets, windows), evidence(targets, windows)
    until = T0 + windows * HOUR
    now = until + 2 * HOUR
    total_s, stages = [], []
    verdicts: dict[DecisionId, Verdict] = {}
    for _ in range(repeats):
        verdicts = {}
        gc.collect()
        begun = time.process_time()
        verdicts = judge(cases, frame, now=now, data_until=until)
        # The collector of cycles rested meanwhile; what it makes up for counts as well.
        gc.collect(0)
        total_s.append(time.process_time() - begun)
        with without_collector():
            stages.append(_stages(cases, frame, now=now, until=until))
    collect_s, health_s, checks_s = (min(column) for column in zip(*stages, strict=True))
    outcomes = [verdict.outcome for verdict in verdicts.values()]
    return Measured(
        windows=windows,
        rows=len(frame),
        rows_of_rollouts=int((frame["slice"] != "baseline").sum()),
        total_s=min(total_s),
        collect_s=collect_s,
        health_s=health_s,
        checks_s=checks_s,
        outcomes={outcome: outcomes.count(outcome) for outcome in Outcome},
    )


def _stages(
    cases: Sequence[Case], frame: pd.DataFrame, *, now: datetime, until: datetime
) -> tuple[float, float, float]:
    """CPU seconds of collecting, of health and of checks, part by part as ``judge`` does it."""
    spent = [0.0, 0.0, 0.0]
    index = pd.Index([case.decision.target for case in cases])
    part_of = index.get_indexer(pd.Index(frame["target"])) // CASES_AT_ONCE
    for number in range(-(-len(cases) // CASES_AT_ONCE)):
        own = cases[number * CASES_AT_ONCE : (number + 1) * CASES_AT_ONCE]
        rows = frame.iloc[np.flatnonzero(part_of == number)]
        begun = [time.process_time()]
        sums = collect(own, rows, now=now, data_until=until)
        begun.append(time.process_time())
        examine(own, sums, until)
        begun.append(time.process_time())
        checks(own, sums, until=until, looking=True)
        begun.append(time.process_time())
        spent = [sum(pair) for pair in zip(spent, np.diff(begun).tolist(), strict=True)]
    return spent[0], spent[1], spent[2]


def gate(found: Measured, targets: int) -> tuple[bool, str]:
    """Whether one window is judged in the time it may take, and what is said of it."""
    allowed_s = TARGET_S * targets / TARGETS
    holds = found.total_s <= allowed_s
    said = f"{targets:,} rollouts with one window take {found.total_s:.2f} CPU seconds"
    return holds, f"{'holds' if holds else 'broken'}: {said}, {allowed_s:g} allowed"


def markdown(found: Sequence[Measured], *, targets: int, repeats: int) -> str:
    """The section of the documentation."""
    setting = (
        f"Made by `python -m bench judging --targets {targets} --repeats {repeats}`: "
        f"{targets:,} targets with one rollout each, in its "
        f"last stage with a ramp's plan, {len(POLICY.guardrails)} guardrails and a goal, 5 arms a "
        f"target, {REQUESTS:,.0f} requests an arm and window on average; half of the targets have "
        f"sessions of {SESSION:g} requests. A row is one aggregate of a target, arm, slice and "
        "window; those of the two arms in a rollout carry histograms and hash buckets that are "
        "read, the rest are passed over. CPU seconds of one process (`time.process_time`), each "
        f"the best of {repeats} runs; verdict objects are the whole less the stages before. "
        f"The goal for one window is {TARGET_S:g} s."
    )
    heads = (
        "cases",
        "windows of evidence",
        "rows",
        "rows of rollouts",
        "seconds",
        "collect",
        "health",
        "checks",
        "verdict objects",
        "verdicts",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += starmap(_line, ((each, targets) for each in found))
    return "\n\n".join(["## Judging many rollouts at once", setting, "\n".join(lines)])


def _line(found: Measured, targets: int) -> str:
    outcomes = ", ".join(f"{n:,} {each.value}" for each, n in found.outcomes.items() if n)
    return (
        f"| {targets:,} | {found.windows} | {found.rows:,} | {found.rows_of_rollouts:,} "
        f"| {found.total_s:.2f} | {found.collect_s:.2f} | {found.health_s:.2f} "
        f"| {found.checks_s:.2f} | {found.verdicts_s:.2f} | {outcomes} |"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="bench.judging", description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=TARGETS, help="rollouts judged at once")
    parser.add_argument("--windows", type=int, nargs="+", default=WINDOWS, help="of evidence")
    parser.add_argument("--repeats", type=int, default=5, help="runs, of which the best counts")
    parser.add_argument("--write", type=Path, help="file whose judging section is renewed")
    given = parser.parse_args(arguments)
    found = [measure(given.targets, each, repeats=given.repeats) for each in given.windows]
    text = markdown(found, targets=given.targets, repeats=given.repeats)
    print(text)
    if given.write is not None:
        renew(given.write, "judging", text)
    gates = [gate(each, given.targets) for each in found if each.windows == 1]
    print("\n".join(["", *(said for _, said in gates)]))
    return 0 if all(holds for holds, _ in gates) else 1


if __name__ == "__main__":
    sys.exit(main())
