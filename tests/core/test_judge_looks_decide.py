"""What planned looks decide, and how often they err."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from judging import GOOD, LOOSE, by_metric
from looking import (
    HOURS,
    LAST_STAGE,
    PLAN,
    SIMPLE,
    end_of,
    harm_looks,
    hourly,
    made,
    planned,
    seen,
    together,
)
from optimizer.aggregates import CLUSTERS, pack_clusters, unpack_clusters
from optimizer.evidence import Looks, Outcome, RampPlan, Reason, Verdict
from optimizer.judge.case import GUARDRAIL
from optimizer.judge.looks import Taken, steady
from optimizer.policy import Guardrail
from optimizer.statistics.crossing import promotion_spending
from optimizer.statistics.planning import wilson_interval
from rollouts import World, case


def test_a_late_harm_is_still_seen_after_the_last_look() -> None:
    frame = made(GOOD, hours=HOURS)
    bad = made(World(failure=(0.02, 0.5)), hours=HOURS + 2)
    bad = bad[bad["window_start_s"] >= end_of(HOURS).timestamp()]

    verdicts = hourly(pd.concat([frame, bad]), planned(SIMPLE), range(1, HOURS + 3))

    assert verdicts[HOURS - 1].outcome is not Outcome.FAIL
    assert verdicts[-1].outcome is Outcome.FAIL


RICH = World(requests=(600.0, 600.0))
RICH_PLAN = RampPlan(hours=HOURS, requests=HOURS * 600, extended=1.5 * HOURS * 600)


def test_only_a_planned_look_of_the_last_stage_promotes() -> None:
    frame = made(RICH)

    for stage in range(LAST_STAGE + 1):
        given = planned(plan=RICH_PLAN, stage=stage)
        looked = hourly(frame, given, range(6, HOURS + 1))
        guarded = seen(frame, given, HOURS, looking=False)

        assert (looked[-1].outcome is Outcome.PASS) is (stage == LAST_STAGE)
        assert guarded.outcome is Outcome.INCONCLUSIVE
        assert by_metric(guarded)["cost_usd"].reason is Reason.BETWEEN_LOOKS
        assert "to be decided at a planned look" in guarded.sentence
        assert guarded.stage_outcome is Outcome.PASS


def test_promotion_spends_only_in_the_last_stage_and_little_before_the_planned_end() -> None:
    frame = made(RICH)

    early = hourly(frame, planned(plan=RICH_PLAN), range(1, HOURS))[-1]
    late = hourly(frame, planned(plan=RICH_PLAN, stage=LAST_STAGE), range(1, HOURS))[-1]

    assert {each.promotion for each in early.spent} == {Looks()}
    for each in late.spent:
        spending = promotion_spending(1.5)(each.promotion.fractions[-1], alpha=0.05)
        assert each.promotion.spent == pytest.approx(float(spending))
        assert 0 < each.promotion.spent < 0.04


def test_harm_that_crosses_fails_and_the_sentence_names_metric_numbers_and_sizes() -> None:
    verdicts = hourly(made(replace(GOOD, failure=(0.02, 0.05))), planned(), range(1, HOURS + 1))

    failed = next(verdict for verdict in verdicts if verdict.outcome is Outcome.FAIL)
    check = by_metric(failed)["failure_rate"]
    assert (failed.reason, check.reason) == (Reason.HARM, Reason.HARM)
    assert failed.sentence.startswith("checkout, arm mini against large: failed requests rose by ")
    assert check.harm_lower is not None
    assert check.harm is not None
    assert check.harm_upper is not None
    assert check.tolerance == 0.0 < check.harm_lower < check.harm < check.harm_upper
    assert f"{100 * check.harm:.2f} points [" in failed.sentence
    assert "no harm is tolerated" in failed.sentence
    assert f"({failed.n_canary:,} canary and {failed.n_control:,} control requests)" in (
        failed.sentence
    )
    look = len(harm_looks(failed).fractions)
    assert f"look {look} at " in check.method
    assert " of the plan: z " in check.method
    alpha = planned().alphas("failure_rate", GUARDRAIL)[0]
    assert check.method.split(";")[1].endswith(f" of {alpha:.2g}")


NAMES = [f"t{number}" for number in range(60)]


def test_with_blip_tolerance_a_crossing_is_held_and_the_second_in_a_row_rolls_back() -> None:
    frame = made(replace(GOOD, failure=(0.02, 0.045)), targets=NAMES)
    cases = [case(name, SIMPLE, plan=PLAN) for name in NAMES]
    patient = [replace(each, policy=replace(SIMPLE, blip_tolerance=True)) for each in cases]
    hours = range(1, HOURS + 1)

    at_once, confirmed = together(frame, cases, hours), together(frame, patient, hours)

    held = second = forgotten = 0
    streaks = dict.fromkeys(NAMES, 0)
    for hasty, calm in zip(at_once, confirmed, strict=True):
        for name in NAMES:
            looks = harm_looks(calm[name])
            # Both look alike: tolerance changes what follows from a crossing, not the crossing.
            assert looks == harm_looks(hasty[name])
            fails = [each[name].outcome is Outcome.FAIL for each in (hasty, calm)]
            assert fails[0] or not fails[1]
            assert not looks.crossings or fails[0]
            assert looks.crossings in {0, streaks[name] + 1}
            forgotten += looks.crossings == 0 and streaks[name] == 1
            held += looks.crossings == 1 and not fails[1]
            if looks.crossings > 1:
                assert fails[1]
                second += streaks[name] == 1
            streaks[name] = looks.crossings
    assert min(held, second, forgotten) > 0


def test_a_crossing_that_is_clear_by_itself_waits_for_no_second() -> None:
    looks = np.empty(5, dtype=object)
    looks[:] = [Looks(crossings=streak) for streak in (1, 1, 2, 0, 0)]
    found = Taken(
        taken=np.array([True, True, True, True, False]),
        crossed=np.array([True, True, True, False, False]),
        fraction=np.full(5, 0.5),
        bound=np.array([2.0, 2.0, 2.0, 2.0, np.nan]),
        looks=looks,
    )
    z = np.array([2.9, 3.0, 2.0, 1.9, 9.0])

    held, at_once = (steady(found, z, np.full(5, each)) for each in (True, False))

    assert held.tolist() == [False, True, True, False, False]
    assert at_once.tolist() == [True, True, True, False, False]


def test_a_crossing_that_waits_for_its_second_promotes_nothing() -> None:
    # Harm is there, and surely below the margin: promotion and roll-back are both proven.
    world = World(requests=(2_000.0, 2_000.0), failure=(0.02, 0.027))
    plan = RampPlan(hours=4, requests=8_000.0, extended=12_000.0)
    names = NAMES[:30]
    frame = made(world, hours=4, targets=names)
    policy = replace(SIMPLE, blip_tolerance=True)
    cases = [case(name, policy, plan=plan, stage=LAST_STAGE) for name in names]

    verdicts = [each for look in together(frame, cases, range(1, 5)) for each in look.values()]

    waiting = [
        each
        for each in verdicts
        if harm_looks(each).crossings == 1 and each.outcome is not Outcome.FAIL
    ]
    assert waiting
    assert {each.outcome for each in waiting} == {Outcome.INCONCLUSIVE}
    assert {each.stage_outcome for each in waiting} == {Outcome.INCONCLUSIVE}
    assert any(each.outcome is Outcome.PASS for each in verdicts)


@pytest.mark.parametrize(("base", "factor"), [(10**9, 1e-9), (10**9, 1e-6), (1, 1.0), (1, 1e6)])
@pytest.mark.parametrize("candidate_usd", [1.9e-6, 2.3e-6])
def test_the_unit_of_money_changes_no_planned_look(
    base: int, factor: float, candidate_usd: float
) -> None:
    policy = replace(LOOSE, guardrails=(Guardrail(metric="cost_usd", margin=0.1, relative=True),))
    frame = made(World(cost_usd=(2e-6, candidate_usd)))

    def scaled(by: int) -> list[Verdict]:
        cells = [unpack_clusters(code) for code in frame[CLUSTERS]]
        for table in cells:
            table[6] *= by
        codes = pd.Series([pack_clusters(table) for table in cells], dtype=object)
        one = frame.assign(cost_nusd=frame["cost_nusd"] * by, clusters=codes)
        return hourly(one, planned(policy, stage=LAST_STAGE), range(1, HOURS + 1))

    there, here = scaled(base), scaled(round(base * factor))

    assert len({verdict.outcome for verdict in there}) > 1
    for a, b in zip(there, here, strict=True):
        assert (a.outcome, a.reason, a.spent) == (b.outcome, b.reason, b.spent)
        assert [each.method for each in a.checks] == [each.method for each in b.checks]


@pytest.mark.parametrize(
    "wrong",
    [
        {"hours": 0.0},
        {"hours": -1.0},
        {"hours": math.inf},
        {"hours": math.nan},
        {"requests": 0.0},
        {"requests": math.nan},
        {"requests": 21.0},
        {"extended": math.inf},
        {"extended": math.nan},
    ],
)
def test_a_plan_without_an_end_or_without_traffic_is_refused(wrong: dict[str, float]) -> None:
    sound = RampPlan(hours=1.0, requests=10.0, extended=20.0)

    with pytest.raises(ValueError, match="a ramp of"):
        replace(sound, **wrong)  # type: ignore[arg-type]


def first_failures(looks: Sequence[Mapping[str, Verdict]]) -> list[float]:
    """Canary requests at each target's roll-back; inf where there was none."""
    return [
        next((one[name].n_canary for one in looks if one[name].outcome is Outcome.FAIL), math.inf)
        for name in looks[0]
    ]


@pytest.mark.slow
@pytest.mark.parametrize("session", [1.0, 6.0])
def test_harmless_planned_rollouts_are_rolled_back_with_the_chance_that_was_planned(
    session: float,
) -> None:
    names = [f"t{number}" for number in range(600)]
    world = replace(GOOD, session=session, icc=0.1 if session > 1 else 0.0)
    frame = made(world, targets=names, seed=1)
    cases = [case(name, SIMPLE, plan=PLAN) for name in names]

    failed = np.isfinite(first_failures(together(frame, cases, range(1, HOURS + 1)))).sum()

    lower, upper = wilson_interval(int(failed), len(names), z=3.3)
    assert float(lower) <= SIMPLE.alpha_rollback
    # Of this the looks at failures have the most, and spend it: no error is kept idle.
    assert float(upper) >= cases[0].alphas("failure_rate", GUARDRAIL)[0]


@pytest.mark.slow
def test_a_plan_finds_twice_the_failures_much_earlier() -> None:
    names = [f"t{number}" for number in range(120)]
    plan = RampPlan(hours=12, requests=12 * 250, extended=18 * 250)
    world = World(requests=(250.0, 250.0), failure=(0.02, 0.04))
    frame = made(world, hours=12, targets=names, seed=2)

    with_plan, without = (
        np.array(first_failures(together(frame, cases, range(1, 13))))
        for cases in ([case(name, plan=plan) for name in names], [case(name) for name in names])
    )

    # Measured with this seed: 1,021 canary requests with a plan and 1,510 without.
    assert np.isfinite(with_plan).mean() > 0.9
    assert np.median(with_plan) < 0.8 * np.median(without)
    assert (with_plan < without).mean() > 0.4
    assert (with_plan > without).mean() < 0.05
