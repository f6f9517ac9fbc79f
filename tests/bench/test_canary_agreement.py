"""The bench's vectorised rule and the judge decide alike on the same windows, look by look.

The bench decides ten thousands of rollouts from sums; the judge decides a case from its grains and
from what its looks have spent. Where both are asked at the same looks they roll back at the same
look, or not at all, and promote alike. Declared differences, each bounded below:

D1  A share of independent requests is promoted by the judge on the larger of the buckets' variance
    and that of counts, by the bench on counts, because most of its worlds draw no buckets. The
    judge is never bolder.
D2  Slow requests of sessions have no hash buckets in the aggregates, so the judge borrows the
    design effect of latency and failures; the bench has the buckets. The judge is later at most.
D3  The judge watches every metric between looks, and keeps a part of the error for after the
    promotion; the bench's guard watches failures alone. With several guardrails it spends more on
    them than all of the judge's tests together, so that the bench's false roll-backs are no fewer;
    where power is measured it spends what the judge does on failures.
D4  The judge asks for promotion at every look of the last stage, the bench at the planned end and
    when the hold ends. What the judge spends earlier it lacks then: it promotes hardly less, and
    nothing else.
D5  The bench rolls back worse scores beyond no loss at all, where an error is promised; a policy
    tolerates its margin unless it says otherwise. It has no limit on control's own failures.
D6  The bench promotes from half of the planned canary requests on. The judge has the same boundary
    without that floor: where hours are lost it may promote an arm sooner that is far better.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from bench.rollouts import design
from bench.rollouts.design import Design
from bench.rollouts.ours import Ending, guard_rollbacks, hourly_rollbacks, verdicts
from bench.rollouts.plan import CANARY, EXTENSION_HOURS, Plan
from bench.rollouts.world import Sums, Units, World
from canary_scenes import METRICS, ONE, PLAN, SCENES, THREE, Scene
from optimizer.evidence import Outcome, Verdict
from optimizer.judge import Case, judge
from optimizer.judge.case import GOAL, GUARDRAIL
from optimizer.policy import Policy
from rollouts import HOUR, T0, decision
from window_grains import ramp_plan, target

IntArray = npt.NDArray[np.int64]

NEVER = 10**6
OPEN = "open"


def _asked(
    scene: Scene,
    frame: pd.DataFrame,
    hours: Sequence[int],
    *,
    last_stage: Sequence[int],
    policy: Policy,
) -> Iterator[tuple[int, dict[str, Verdict]]]:
    """The judge's verdicts at the end of each hour; looks carry on what was spent."""
    cases = [replace(case, policy=policy) for case in scene.cases()]
    for hour in hours:
        stage = len(scene.plan.shares) - 1 if hour in last_stage else 0
        now = [replace(c, decision=replace(c.decision, stage=stage)) for c in cases]
        until = T0 + hour * HOUR
        found = judge(now, frame, now=until, data_until=until)
        yield hour, {case.decision.target: found[case.decision.id] for case in now}
        cases = [replace(case, spent=found[case.decision.id].spent) for case in cases]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What the judge did, in hours, ``NEVER`` for not at all.

    crossed: metric -> its first look beyond the boundary, shape (R,); promoted: the first look that
    passed, once the last stage has baked; failed: whether every look beyond a boundary failed.
    """

    crossed: dict[str, IntArray]
    promoted: IntArray
    failed: bool

    @property
    def back(self) -> IntArray:
        """The first look beyond any boundary."""
        return _earliest(self.crossed)


def _course(
    scene: Scene,
    frame: pd.DataFrame,
    *,
    last_stage: Sequence[int],
    policy: Policy | None = None,
) -> Course:
    """What the judge does under a policy, the scene's own where none is given."""
    names = [*scene.metrics, *([] if scene.metrics == ONE else ["cost_usd"])]
    crossed = {name: np.full(scene.rollouts, NEVER) for name in names}
    promoted, failed = np.full(scene.rollouts, NEVER), True
    looks = range(1, scene.plan.hours + 1)
    limits = scene.policy if policy is None else policy
    for hour, found in _asked(scene, frame, looks, last_stage=last_stage, policy=limits):
        for row in range(scene.rollouts):
            verdict = found[target(row)]
            for each in verdict.spent:
                if each.harm.crossings and each.harm.until == verdict.data_until:
                    crossed[each.metric][row] = min(crossed[each.metric][row], hour)
                    failed &= verdict.outcome is Outcome.FAIL
            if verdict.outcome is Outcome.PASS and hour >= scene.plan.planned_hours:
                promoted[row] = min(promoted[row], hour)
    return Course(crossed=crossed, promoted=promoted, failed=failed)


def _earliest(crossed: dict[str, IntArray]) -> IntArray:
    return np.asarray(np.stack(list(crossed.values())).min(axis=0), dtype=np.int64)


def _hours(window: IntArray, plan: Plan) -> IntArray:
    hour = (window + 1) // plan.windows_an_hour
    return np.where(window < plan.hours * plan.windows_an_hour, hour, NEVER)


def _states(back: IntArray, promoted: IntArray, plan: Plan) -> npt.NDArray[np.object_]:
    """Rolled back, promoted or open after every look, shape (R, hours)."""
    hours = np.arange(1, plan.hours + 1)
    promoted = np.where(promoted < back, promoted, NEVER)
    back = np.where(back <= promoted, back, NEVER)
    found = np.where(back[:, None] <= hours, "rolled back", OPEN)
    return np.where(promoted[:, None] <= hours, "promoted", found).astype(object)


def _ends(plan: Plan) -> tuple[int, int]:
    return plan.planned_hours, plan.planned_hours + EXTENSION_HOURS


def _bench(scene: Scene, sums: Sums) -> tuple[dict[str, IntArray], IntArray]:
    """The look at which each metric crosses and at which rollouts are promoted, without guard."""
    watched = replace(scene.design(), monitors=0.0)
    names = {guardrail.name: metric for metric, guardrail in METRICS.items()}
    crossed = {
        names[each.name]: _hours(hourly_rollbacks(sums, Design(guardrails=(each,))), scene.plan)
        for each in watched.guardrails
    }
    found = verdicts(sums, watched)
    shipped = (found.ending == Ending.PROMOTED) | (found.ending == Ending.EXTENDED)
    return crossed, np.where(shipped, _hours(found.window, scene.plan), NEVER)


def _compare(scene: Scene, seed: int) -> tuple[int, int]:
    """Check one set of rollouts; how many the judge and how many the bench promoted."""
    crossed, promoted = _bench(scene, scene.sums(seed))
    judged = _course(scene, scene.grains(seed), last_stage=_ends(scene.plan))

    for metric, hours in crossed.items():
        assert judged.crossed[metric].tolist() == hours.tolist(), metric
    assert judged.failed
    ours = _states(_earliest(crossed), promoted, scene.plan)
    theirs = _states(judged.back, judged.promoted, scene.plan)
    later = (theirs == OPEN) & (ours == "promoted")
    if scene.world.units is not Units.SINGLE:
        assert not later.any()
    # D1: of independent requests the judge may promote later, never sooner.
    assert (ours == theirs)[~later].all()
    return int((theirs[:, -1] == "promoted").sum()), int((ours[:, -1] == "promoted").sum())


def _sparse(scene: Scene) -> Scene:
    """With a third of the grains: traffic comes in every third window."""
    return replace(scene, plan=replace(scene.plan, windows_an_hour=4))


@pytest.mark.parametrize("name", SCENES)
def test_the_bench_and_the_judge_are_in_the_same_state_after_every_look(name: str) -> None:
    judged, benched = _compare(_sparse(SCENES[name]), seed=0)

    assert benched - judged <= 1
    if "cheaper" in name:
        assert judged > 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("name", SCENES)
def test_they_agree_on_many_more_rollouts(name: str, seed: int) -> None:
    scene = replace(SCENES[name], rollouts=30)

    judged, benched = _compare(scene, seed)

    assert benched - judged <= 0.1 * scene.rollouts


def test_the_bench_splits_the_error_as_the_judge_does() -> None:
    case = Case(decision=decision(plan=ramp_plan(PLAN)), policy=Policy())
    roles = [(rail.metric, GUARDRAIL) for rail in case.policy.guardrails] + [("cost_usd", GOAL)]

    alphas = {METRICS[metric].name: case.alphas(metric, role) for metric, role in roles}

    assert {name: looks for name, (looks, _) in alphas.items()} == pytest.approx(design.SPLIT)
    # D3
    assert alphas[METRICS["failure_rate"].name][1] == pytest.approx(design.FAILURE_MONITOR)
    assert 0 < sum(between for _, between in alphas.values()) <= design.MONITORS


@pytest.mark.slow
@pytest.mark.parametrize("slow_effect", [1.0, 2.0])
def test_slow_requests_of_sessions_are_judged_later_at_most(slow_effect: float) -> None:
    world = World(means=True, units=Units.SPAN, slow_effect=slow_effect)
    scene = Scene(world=world, metrics=THREE, rollouts=40)

    ours = _bench(scene, scene.sums(3))[0]["latency_exceedance"]
    theirs = _course(scene, scene.grains(3), last_stage=()).crossed["latency_exceedance"]

    # D2
    assert (theirs >= ours).all()
    if slow_effect == 2.0:
        assert (theirs < NEVER).mean() > 0.8


@pytest.mark.slow
@pytest.mark.parametrize(
    "scene",
    [
        Scene(world=World(), rollouts=60),
        Scene(world=World(effect=1.25), rollouts=60),
        Scene(world=World(effect=1.5), rollouts=60),
        Scene(world=World(means=True, cost_effect=0.9), metrics=THREE, rollouts=60),
    ],
    ids=["harmless", "x1.25", "harm of the margin", "three, cheaper"],
)
def test_looks_at_promotion_all_through_the_last_stage_promote_hardly_less(scene: Scene) -> None:
    planned, end = scene.plan.planned_hours, scene.plan.hours
    whole_stage = range(planned - scene.plan.stage_hours + 1, end + 1)

    promoted = _bench(scene, scene.sums(4))[1] < NEVER
    judged = _course(scene, scene.grains(4), last_stage=whole_stage)

    # D4
    shipped = judged.promoted < judged.back
    assert not (shipped & ~promoted).any()
    assert (promoted & ~shipped).sum() <= 0.1 * scene.rollouts


def test_a_policy_tolerates_worse_scores_up_to_its_margin_and_the_bench_none() -> None:
    scene = _sparse(Scene(world=World(means=True, quality_loss=0.015), metrics=THREE))
    rails = tuple(replace(rail, tolerance=None) for rail in scene.policy.guardrails)
    tolerant = replace(scene.policy, guardrails=rails)

    ours = _bench(scene, scene.sums(0))[0]["quality"]
    theirs = _course(scene, scene.grains(0), last_stage=(), policy=tolerant).crossed["quality"]

    # D5
    assert (ours < NEVER).any()
    assert (theirs == NEVER).all()


def test_a_policy_limits_the_failures_of_control_itself_and_the_bench_does_not() -> None:
    scene = _sparse(Scene(world=World(rate=0.3, effect=0.5), rollouts=4))
    limited = replace(scene.policy, safety=Policy().safety)

    promoted = _bench(scene, scene.sums(0))[1]
    judged = _course(scene, scene.grains(0), last_stage=_ends(scene.plan), policy=limited)

    # D5
    assert (promoted < NEVER).all()
    assert (judged.promoted == NEVER).all()


def test_only_the_bench_waits_for_half_of_the_planned_requests() -> None:
    scene = _sparse(Scene(world=World(effect=0.2, missing=0.5), rollouts=20))
    sums = scene.sums(0)
    planned = scene.plan.planned_hours * scene.plan.windows_an_hour
    seen = sums.n[:, :planned, CANARY].sum(axis=1)

    promoted = _bench(scene, sums)[1]
    judged = _course(scene, scene.grains(0), last_stage=_ends(scene.plan)).promoted

    # D6
    sooner = judged < promoted
    assert sooner.any()
    assert (seen[sooner] < 0.5 * scene.plan.planned_canary).all()
    assert (judged[~sooner] == promoted[~sooner]).all()


GUARDED = replace(PLAN, stage_hours=1, hold_hours=0)


@pytest.mark.parametrize(
    "world",
    [
        World(effect=2.5),
        World(effect=2.5, drift_sd=0.5, missing=0.2),
        World(effect=4.0, units=Units.SPAN),
    ],
    ids=["independent", "drift, hours lost", "sessions"],
)
def test_guard_and_looks_together_end_a_rollout_at_the_same_window(world: World) -> None:
    scene = Scene(world=world, plan=GUARDED, rollouts=12)
    sums = scene.sums(1)
    watched = scene.design()
    guards = guard_rollbacks(sums, watched.monitors)

    ours = np.minimum(hourly_rollbacks(sums, watched), guards)
    theirs = _windows(scene, scene.grains(1))

    assert theirs.tolist() == ours.tolist()
    assert (guards < sums.n.shape[1]).any()


def _windows(scene: Scene, frame: pd.DataFrame) -> IntArray:
    """The window after which the judge first fails each rollout: looks hourly, guard between."""
    step, last = scene.plan.windows_an_hour, scene.plan.hours * scene.plan.windows_an_hour
    first = np.full(scene.rollouts, last)
    cases = {case.decision.target: case for case in scene.cases()}
    for window in range(last):
        until = T0 + (window + 1) * HOUR / step
        looking = (window + 1) % step == 0
        found = judge(list(cases.values()), frame, now=until, data_until=until, looking=looking)
        for row in range(scene.rollouts):
            case = cases.get(target(row))
            if case is None:
                continue
            verdict = found[case.decision.id]
            cases[target(row)] = replace(case, spent=verdict.spent)
            if verdict.outcome is Outcome.FAIL:
                first[row] = window
                del cases[target(row)]
    return first
