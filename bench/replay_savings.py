"""What the optimizer saves on measured outcomes, against three yardsticks known in hindsight."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from bench.world.coderouter import Benchmark
from bench.world.loop import START, World, opened, rewarded, run
from bench.world.traffic import Traffic, streams
from optimizer.decision import Decision, State
from optimizer.evidence import Outcome, Reason
from optimizer.metrics import HOUR_S
from optimizer.policy import Goal, Guardrail, Policy, SafetyLimits
from optimizer.ports import Look
from optimizer.statistics import ramp
from optimizer.strategies.pareto import Pareto

FloatArray = npt.NDArray[np.float64]

RATES: Final = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000)
"""Requests an hour and target that the plan check chooses from."""
POWER: Final = 0.8


def policy(margin: float) -> Policy:
    """The limits of the replay: defaults, but for what the benchmark cannot answer.

    Quality within the margin, anchored, and failures. Latency is left free: the benchmark ran
    offline and cut its slowest requests off. Nothing in it fails.
    """
    return Policy(
        goal=Goal(metric="cost_usd"),
        guardrails=(
            Guardrail(metric="quality", margin=margin, anchored=True),
            Guardrail(metric="failure_rate", margin=0.005),
        ),
        safety=SafetyLimits(latency_p95_ms_max=120_000.0),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindsight:
    """A choice of arms made with the truth in hand: arm by target, saving, lost quality."""

    choice: Mapping[str, str]
    saving: float
    lost: float


def hindsight(bench: Benchmark, choice: Mapping[str, str]) -> Hindsight:
    """What a choice saves and loses where every target has the same traffic."""
    spent = {
        arm_of: sum(bench.outcomes[name, choice_of(name)].cost_usd for name in bench.targets)
        for arm_of, choice_of in (("own", choice.__getitem__), ("base", lambda _: bench.baseline))
    }
    lost = np.mean([bench.lost(name, choice[name]) for name in bench.targets])
    return Hindsight(choice=choice, saving=1.0 - spent["own"] / spent["base"], lost=float(lost))


def best_per_target(bench: Benchmark, margin: float) -> Hindsight:
    """The cheapest arm of each target whose true quality is within the margin: the upper limit."""
    choice = {}
    for name in bench.targets:
        kept = [arm for arm in bench.models if bench.lost(name, arm) < margin]
        choice[name] = min(kept, key=lambda arm: (bench.outcomes[name, arm].cost_usd, arm))
    return hindsight(bench, choice)


def best_swap(bench: Benchmark, margin: float, *, everywhere: bool) -> Hindsight:
    """The one model for all targets that saves most: within the margin on each, or on average."""
    found = []
    for arm in bench.models:
        swap = hindsight(bench, dict.fromkeys(bench.targets, arm))
        worst = max(bench.lost(name, arm) for name in bench.targets)
        if (worst if everywhere else swap.lost) < margin:
            found.append(swap)
    return max(found, key=lambda swap: swap.saving)


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """Traffic and what the plan check says of it.

    planned: hours of the slowest rollout worth having, ``decided`` by that target and arm.
    """

    requests_per_hour: int
    planned_hours: float
    decided: str


def volume(bench: Benchmark, margin: float) -> Volume:
    """The smallest traffic at which every arm of the upper limit can be proven within one hold.

    The project's own plan check, given the arms' true harm instead of none: an arm that loses
    nearly the whole margin on purpose needs far more requests than one that loses nothing.
    """
    best, limits = best_per_target(bench, margin), policy(margin)
    hold = limits.hold_expires_after.total_seconds() / HOUR_S
    plans: dict[str, ramp.Reach] = {}
    for rate in RATES:
        plans = {
            f"{arm} on {name}": _planned(bench, name, arm, margin, rate)
            for name, arm in best.choice.items()
            if arm != bench.baseline
        }
        if all(plan.longest_stage_hours <= hold for plan in plans.values()):
            break
    else:
        rate = RATES[-1]
    decided = max(plans, key=lambda name: plans[name].hours)
    return Volume(requests_per_hour=rate, planned_hours=plans[decided].hours, decided=decided)


def _planned(bench: Benchmark, name: str, arm: str, margin: float, rate: float) -> ramp.Reach:
    limits = policy(margin)
    spread = [bench.outcomes[name, each].quality_variance for each in (arm, bench.baseline)]
    question = ramp.Question(
        metric="quality",
        variance=float(np.mean(spread)),
        margin=margin - max(0.0, bench.lost(name, arm)),
        lag_hours=limits.label_maturity.total_seconds() / HOUR_S,
    )
    units = ramp.units_for([question], alpha=np.array([limits.alpha_promote]), power=POWER)
    return ramp.reach(
        [question],
        units,
        requests_per_hour=rate,
        shares=[stage.share for stage in limits.stages],
        bake_hours=[stage.bake_time.total_seconds() / HOUR_S for stage in limits.stages],
        min_requests=[stage.min_requests for stage in limits.stages],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One seed: what the optimizer did to the four targets, the cost of trying included.

    saving and lost are against staying with the baseline; settled_saving is that of the arms in
    force at the end; canary_requests were served before a promotion, in canaries that failed or
    passed; hours_to_reach: when the last promotion that still stands began, None without one;
    since: that hour of each target whose arm in force was promoted.
    """

    seed: int
    saving: float
    lost: float
    settled_saving: float
    canary_requests: int
    hours_to_reach: float | None
    outcomes: Mapping[str, int]
    in_force: Mapping[str, str]
    since: Mapping[str, float]


def replay(
    bench: Benchmark,
    *,
    margin: float,
    seeds: Sequence[int],
    requests_per_hour: float,
    hours: int,
    limits: Policy | None = None,
) -> list[Result]:
    """The optimizer on the benchmark, every seed a copy of its targets, all in one world.

    limits: None = :func:`policy` of the margin.
    """
    limits = limits or policy(margin)
    copies = [(seed, name) for seed in seeds for name in bench.targets]
    names = {f"{name}/{seed}": (seed, name) for seed, name in copies}
    chance = {
        each: streams(seed, [f"{name} {margin}"])[f"{name} {margin}"]
        for each, (seed, name) in names.items()
    }
    world = opened(
        {each: bench.target(name, known_as=each) for each, (_, name) in names.items()},
        dict.fromkeys(names, limits),
        {
            each: Traffic(
                arms={arm: bench.outcomes[name, arm] for arm in bench.models},
                requests_per_hour=requests_per_hour,
                chance=chance[each],
            )
            for each, (_, name) in names.items()
        },
        {"cost_performance": Pareto()},
    )
    run(world, hours=hours)
    return [_result(bench, world, seed) for seed in seeds]


def _result(bench: Benchmark, world: World, seed: int) -> Result:
    own = {f"{name}/{seed}": name for name in bench.targets}
    in_force = world.in_force()
    spent = base = lost = requests = 0.0
    for each, (n, quality, cost) in rewarded(world).items():
        if each in own:
            reference = bench.outcomes[own[each], bench.baseline]
            requests, spent, base = requests + n, spent + cost, base + n * reference.cost_usd
            lost += n * reference.quality - quality
    store = world.ledger.decisions
    decisions = [each for each in store.find() if each.target in own]
    standing = {
        own[each.target]: (each.deployed_at - START) / timedelta(hours=1)
        for each in decisions
        if each.deployed_at is not None and in_force[each.target] == each.candidate
    }
    return Result(
        seed=seed,
        saving=1.0 - spent / base,
        lost=lost / requests,
        settled_saving=hindsight(
            bench, {name: in_force[each] for each, name in own.items()}
        ).saving,
        canary_requests=sum(n for (each, _), n in world.canaried.items() if each in own),
        hours_to_reach=max(standing.values(), default=None),
        outcomes=Counter(ending(each, store.looks(each.id)) for each in decisions),
        in_force={name: in_force[each] for each, name in own.items()},
        since=standing,
    )


def ending(decision: Decision, looks: Sequence[Look]) -> str:
    """How a decision ended, in a few words, by its state and the verdict of its last look."""
    if decision.state is State.COMPLETED:
        return "promoted"
    if not decision.state.is_final:
        return "in flight"
    verdict = looks[-1].verdict if looks else None
    if verdict is None or decision.state is not State.ROLLED_BACK:
        return str(decision.state.value)
    if verdict.outcome is not Outcome.FAIL:
        return "rolled back: not proven"
    if verdict.reason is Reason.GOAL_MISSED:
        return "rolled back: dearer"
    metric = next((c.metric for c in verdict.checks if c.outcome is Outcome.FAIL), "")
    return f"rolled back: {metric}"


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and its 95 % limits over seeds (normal theory, Student's t).

    Examples:
        >>> [round(value, 3) for value in interval([1.0, 2.0, 3.0])]
        [2.0, -0.484, 4.484]
    """
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if sample.size < 2:
        return mean, float("nan"), float("nan")
    half = float(
        special.stdtrit(sample.size - 1, 0.975) * sample.std(ddof=1) / np.sqrt(sample.size)
    )
    return mean, mean - half, mean + half
