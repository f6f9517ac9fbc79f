from dataclasses import replace

import numpy as np
import pytest

from bench.rollouts import design
from bench.rollouts.cells import Cell, Group, cells, quick
from bench.rollouts.coverage import of_quantile
from bench.rollouts.design import Guardrail
from bench.rollouts.kayenta_rule import judged
from bench.rollouts.ours import Ending, State, guard_rollbacks, hourly_rollbacks, looks, verdicts
from bench.rollouts.plan import CANARY, CONTROL, Plan, ramp_a, ramp_b
from bench.rollouts.rules import RULES, evidence, first, threshold
from bench.rollouts.running import OURS, chance, drawn, part_size, plan_check, run
from bench.rollouts.world import FAILURE, QUALITY, Sums, Units, World
from optimizer.statistics.evalues import closed_form_log_evalue
from optimizer.statistics.planning import wilson_interval
from optimizer.statistics.sequential import boundaries, pocock_spending

ENOUGH = ramp_a(2_000.0, hold_hours=0)
HOLDING = ramp_a(2_000.0)


def _sums(world: World, plan: Plan, rollouts: int, name: str = "rules") -> Sums:
    return drawn(world, plan, rollouts, chance(name, 0))


def _share(window: np.ndarray, plan: Plan) -> float:
    return float((window < plan.hours * plan.windows_an_hour).mean())


def _by_rule(name: str, sums: Sums) -> float:
    return _share(first(RULES[name](evidence(sums)), sums.plan), sums.plan)


def test_hourly_peeking_is_seen_to_be_broken() -> None:
    assert _by_rule("z test every hour", _sums(World(), ENOUGH, 600)) > 0.20


def test_requests_as_units_are_seen_to_be_broken_by_sessions() -> None:
    sums = _sums(World(units=Units.SPAN), ENOUGH, 150)

    assert _by_rule("Pocock, requests as units", sums) > 0.10
    assert _by_rule("count e-process", sums) > 0.05


def test_thresholds_roll_back_what_is_harmless() -> None:
    sums = _sums(World(), ENOUGH, 300)

    assert _by_rule("success >= 97 %, threshold 1", sums) > 0.9


@pytest.mark.parametrize("units", [Units.SINGLE, Units.SPAN])
def test_harmless_rollouts_are_rarely_rolled_back(units: Units) -> None:
    rollouts = 600 if units is Units.SINGLE else 150
    sums = _sums(World(units=units), ENOUGH, rollouts)

    back = hourly_rollbacks(sums, design.one()) < ENOUGH.hours * ENOUGH.windows_an_hour

    assert wilson_interval(int(back.sum()), rollouts)[0] <= 0.05


def test_twice_the_failures_are_caught_in_time() -> None:
    sums = _sums(World(effect=2.0), ramp_b(2_000.0, hold_hours=0), 300)

    window = hourly_rollbacks(sums, design.one())

    assert _share(window, sums.plan) == 1.0
    assert (sums.served(window) <= 1_500).mean() > 0.93


def test_hourly_looks_follow_the_exact_boundaries() -> None:
    sums = _sums(World(effect=1.3), ramp_a(1_000.0, hold_hours=0), 40)
    guardrail = Guardrail(name=FAILURE, alpha=0.05)

    found = hourly_rollbacks(sums, design.one())

    z, fractions = looks(sums, guardrail)
    for row in range(40):
        taken = np.flatnonzero(np.isfinite(z[row]))
        spend = pocock_spending(fractions[row, taken], alpha=0.05)
        if taken[-1] == 23:
            spend[-1] = 0.05
        bounds = boundaries(fractions[row, taken].tolist(), spend.tolist())
        crossed = taken[z[row, taken] >= bounds]
        expected = (crossed[0] + 1) * 12 - 1 if crossed.size else 24 * 12
        assert found[row] == expected


def test_a_look_needs_its_floors_and_new_data() -> None:
    world = World(missing=0.3)
    sums = _sums(world, ramp_a(1_000.0, hold_hours=0), 50)

    _, fractions = looks(sums, design.one().guardrails[0])

    n, k = sums.by_hour(sums.n), sums.by_hour(sums.events[FAILURE])
    below = (n.min(axis=-1) < 100) | (k.sum(axis=-1) < 5)
    lost = np.diff(n.sum(axis=-1), axis=1, prepend=0) == 0
    assert np.isnan(fractions[below | lost]).all()
    assert np.isfinite(fractions[~below & ~lost]).mean() > 0.95


def test_the_guard_alone_acts_within_the_hour() -> None:
    sums = _sums(World(effect=40.0), ramp_a(2_000.0, hold_hours=0), 20)

    guard = guard_rollbacks(sums, design.MONITORS)

    assert (guard < 11).all()
    assert verdicts(sums, design.failures_alone()).guard.all()


def test_the_guard_agrees_with_the_closed_form_in_strength() -> None:
    sums = _sums(World(effect=2.0), ENOUGH, 100)
    k = np.cumsum(sums.events[FAILURE], axis=1)

    guard = guard_rollbacks(sums, 0.01)

    closed = closed_form_log_evalue(k[..., CANARY], k[..., CONTROL]) >= np.log(100.0)
    other = np.where(closed.any(axis=1), closed.argmax(axis=1), closed.shape[1])
    assert np.median(guard) == pytest.approx(np.median(other), rel=0.15)


def test_the_guard_sees_sessions_through_their_buckets() -> None:
    plan = ramp_a(2_000.0, hold_hours=0)

    harmless, harmful = (
        guard_rollbacks(_sums(World(units=Units.SPAN, effect=effect), plan, 40), 0.01)
        for effect in (1.0, 5.0)
    )

    assert _share(harmless, plan) <= 0.05
    assert _share(harmful, plan) == 1.0


def test_promotion_needs_every_metric_and_counts_each_ending_once() -> None:
    sums = _sums(World(means=True), HOLDING, 40)

    found = verdicts(sums, design.default())

    promoted = (found.ending == Ending.PROMOTED) | (found.ending == Ending.EXTENDED)
    assert promoted.mean() > 0.6
    assert (found.states[promoted] == State.PASS).all()
    assert (found.window[found.ending == Ending.PROMOTED] == 24 * 12 - 1).all()
    assert (found.window[found.ending == Ending.EXTENDED] == 30 * 12 - 1).all()


def test_harm_of_a_margin_is_rarely_promoted() -> None:
    sums = _sums(World(effect=1.25), HOLDING, 300)

    ending = verdicts(sums, design.one(margin=0.005)).ending

    promoted = int(((ending == Ending.PROMOTED) | (ending == Ending.EXTENDED)).sum())
    assert wilson_interval(promoted, 300)[0] <= 0.05


@pytest.mark.parametrize(
    "world",
    [
        World(means=True, canary=False),
        World(means=True, missing=1.0),
        World(means=True, labelled=0.0),
        World(means=True, canary=False, units=Units.SPAN),
    ],
    ids=["no canary", "no data", "no labels", "no canary sessions"],
)
def test_nothing_measured_never_promotes_and_every_hold_ends(world: World) -> None:
    sums = _sums(world, ramp_a(500.0), 30)

    found = verdicts(sums, design.default())

    assert set(found.ending.tolist()) <= {Ending.REVERTED, Ending.ROLLED_BACK}
    assert (found.window < sums.plan.hours * 12).all()
    reverted = found.ending == Ending.REVERTED
    assert ((found.states == State.NO_DATA).any(axis=1))[reverted].all()


def test_a_broken_split_is_not_promoted() -> None:
    even, broken = (
        verdicts(_sums(World(), ramp_a(8_000.0, split=split), 50), design.one(margin=0.01))
        for split in (0.5, 0.48)
    )

    assert (even.ending == Ending.PROMOTED).mean() > 0.8
    assert broken.srm.mean() > 0.9
    assert (broken.ending == Ending.REVERTED).mean() > 0.8


def test_the_scale_of_a_metric_changes_no_decision() -> None:
    found = [
        hourly_rollbacks(
            _sums(World(means=True, cost_usd=usd, cost_effect=1.15), ramp_a(200.0), 40),
            design.cost_alone(),
        )
        for usd in (1.0, 1e-6)
    ]

    assert np.array_equal(found[0], found[1])
    assert 0.05 < _share(found[0], ramp_a(200.0)) < 1.0


def test_worse_quality_is_rolled_back_and_better_is_not() -> None:
    watched = design.Design(
        guardrails=(next(each for each in design.default().guardrails if each.name == QUALITY),)
    )

    worse, better = (
        _share(
            hourly_rollbacks(_sums(World(means=True, quality_loss=loss), HOLDING, 20), watched),
            HOLDING,
        )
        for loss in (0.05, -0.05)
    )

    assert worse == 1.0
    assert better == 0.0


def test_a_check_without_requests_fails_a_threshold() -> None:
    sums = _sums(World(canary=False), ENOUGH, 3)

    assert (first(threshold(5)(evidence(sums)), ENOUGH) == 5 * 12 - 1).all()


def test_the_judge_of_points_is_asked_every_hour() -> None:
    plan = replace(ENOUGH, windows_an_hour=60)

    window = judged(_sums(World(effect=6.0), plan, 4), 5)

    assert (window < plan.planned_hours * 60).all()
    assert ((window + 1) % 60 == 0).all()


def test_the_plan_check_refuses_what_the_ramp_cannot_show() -> None:
    cheaper = {c.name: plan_check(c) for c in cells() if c.group is Group.CHEAPER}

    assert cheaper["30 % cheaper, independent, 2,000/h"] is True
    assert cheaper["30 % cheaper, independent, 200/h"] is False
    assert cheaper["30 % cheaper, sessions over hours, 2,000/h"] is False


def test_a_cell_gives_the_same_tallies_again_and_none_is_lost() -> None:
    cell = Cell(
        name="again",
        group=Group.ONE,
        world=World(effect=2.0),
        plan=ramp_a(200.0),
        design=design.one(margin=0.01),
        rollouts=90,
        rivals=True,
        points=2,
    )

    one, other = run(cell), run(cell)

    # repr, because nan is no equal of itself.
    assert repr(one) == repr(other)
    assert one[0].rule == OURS
    for tally in one:
        ended = tally.rolled_back + tally.promoted + tally.extended + tally.reverted
        assert ended == tally.rollouts == (2 if "points" in tally.rule else 90)


def test_parts_depend_on_the_cell_and_keep_memory_bounded() -> None:
    for cell in cells():
        assert 5 <= part_size(cell) <= 2_000
    assert {c.group for c in quick(cells())} == set(Group)


def test_quantile_limits_cover_at_all_looks() -> None:
    found = of_quantile(1.8, 200.0, 60)

    assert found.limits[1] >= 0.95
