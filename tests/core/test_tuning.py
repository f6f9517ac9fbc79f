"""What tuning asks for: on the grid, never twice, the same whatever the order of the rows."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.evidence import Estimate
from optimizer.experiment.design import Rule
from optimizer.experiment.grid import Axis, Point, Tuning, arm_at, arm_name
from optimizer.experiment.life import Experiment
from optimizer.experiment.tuning import HARM, Told, begun, next_arm, seed_of, told
from optimizer.policy import Guardrail
from optimizer.targets import Arm, ModelConfig
from tuning_scene import (
    BASE,
    TEMPERATURE,
    TOP_P,
    failures,
    named,
    quality,
    today,
    trial,
    tuning,
)

GUARDS = (
    Guardrail(metric="quality", margin=0.05),
    Guardrail(metric="failure_rate", margin=0.02),
)


def hashed(axes: Sequence[Axis], known: Sequence[Told], seed: int) -> Point:
    """Somewhere inside the bounds, as seed and trials say."""
    text = hash((seed, *(each.value or 0.0 for each in known))) % 1000 / 999
    return {axis.name: axis.low + text * (axis.high - axis.low) for axis in axes}


def asked(rows: Sequence[Experiment], of: Tuning | None = None, *, base: Arm = BASE) -> str | None:
    of = of or tuning()
    return next_arm(of, base, begun(of, rows, today(rows, asked=of)), GUARDS, hashed)


axes = st.builds(
    lambda low, step, size: Axis(
        name="temperature", low=low / 20, high=(low + step * size) / 20, step=step / 20
    ),
    st.integers(0, 10),
    st.integers(1, 5),
    st.integers(1, 5),
)


@given(axes, st.data())
def test_every_asked_point_is_a_new_one_of_the_grid_until_none_is_left(
    axis: Axis, data: st.DataObject
) -> None:
    of = tuning(axes=(axis,), max_trials=100)
    rows: list[Experiment] = []

    while (arm := asked(rows, of)) is not None:
        point = of.spelt(arm)
        assert point is not None
        assert point in list(of.points())
        assert axis.low <= point["temperature"] <= axis.high
        effect = data.draw(st.floats(-0.3, 0.3))
        rows.append(trial(point["temperature"], quality(effect), number=len(rows), asked=of))

    tried = {row.design.arms[-1] for row in rows}
    assert len(tried) == len(rows)
    on_grid = arm_name("large", {"temperature": 0.7}) in {
        arm_name("large", point) for point in of.points()
    }
    assert len(tried) == axis.size - on_grid


@given(st.permutations(range(4)))
def test_the_same_rows_ask_for_the_same_in_whatever_order_they_are_read(order: list[int]) -> None:
    rows = [
        trial(value, quality(effect), number=number)
        for number, (value, effect) in enumerate(
            [(0.1, 0.02), (0.5, None), (0.9, -0.1), (0.3, 0.05)]
        )
    ]
    of = tuning(axes=(replace(TEMPERATURE, step=0.1),))

    assert asked([rows[place] for place in order], of) == asked(rows, of)


def test_no_more_points_are_asked_for_than_may_be_tried() -> None:
    rows = [trial(0.1, number=0), trial(0.3, number=1)]

    assert asked(rows, tuning(max_trials=3)) is not None
    assert asked(rows, tuning(max_trials=2)) is None


def test_each_question_has_a_seed_of_its_own_and_each_target_too() -> None:
    seeds = {seed_of(tuning(), trials) for trials in range(20)}

    assert len(seeds) == 20
    assert seed_of(tuning(), 3) != seed_of(tuning(target="another"), 3)
    assert seed_of(tuning(), 3) == seed_of(tuning(), 3)


def test_what_is_told_is_the_effect_against_the_arm_beside_it_and_not_the_level() -> None:
    low, high = quality(0.04, control=0.3), quality(0.04, control=0.9)

    first, second = (told(tuning(), BASE, [trial(0.3, each)], GUARDS) for each in (low, high))

    assert first == second
    assert [each.value for each in first] == [0.0, 0.04]


def test_fewer_failures_are_told_as_better() -> None:
    of = tuning(metric="failure_rate")
    rows = [trial(0.3, replace(failures(-0.02), lower=-0.03), asked=of)]

    assert [each.value for each in told(of, BASE, rows, GUARDS)] == [0.0, 0.02]


def test_a_trial_against_a_promoted_point_is_told_against_the_base() -> None:
    rows = [
        trial(0.3, quality(0.04), number=0),
        trial(0.1, quality(0.01), number=1, baseline=named(0.3)),
        trial(0.5, quality(0.01), number=2, baseline="another"),
    ]

    values = {each.point["temperature"]: each.value for each in told(tuning(), BASE, rows, GUARDS)}

    assert values == {0.7: 0.0, 0.3: 0.04, 0.1: pytest.approx(0.05), 0.5: None}


@pytest.mark.parametrize("found", [[], [quality(None)], [quality(0.0, lower=None)]])
def test_an_effect_that_nobody_knows_is_told_as_unknown_and_not_as_0(found: list[Estimate]) -> None:
    *_, last = told(tuning(), BASE, [trial(0.3, *found)], GUARDS)

    assert last.value is None


def test_a_point_that_did_harm_is_told_as_broken_and_never_asked_for_again() -> None:
    harmful = trial(0.3, quality(0.2), dropped=(named(0.3),))
    others = [trial(value, number=number) for number, value in enumerate((0.1, 0.5, 0.9), start=1)]

    *_, last = told(tuning(), BASE, [harmful], GUARDS)

    assert last.value is None
    assert last.overruns == {HARM: 1.0}
    assert asked([harmful, *others]) is None


def test_what_a_point_gives_up_is_told_against_the_margins() -> None:
    *_, last = told(tuning(), BASE, [trial(0.3, quality(-0.08), failures(0.005))], GUARDS)

    assert last.overruns == {
        "quality": pytest.approx(0.03),
        "failure_rate": pytest.approx(-0.015),
    }


def test_trials_of_an_arm_that_changed_say_nothing_and_are_made_anew() -> None:
    rows = [trial(0.3, quality(0.04))]
    newer = replace(BASE, config=replace(BASE.config, model="large-2"))

    assert begun(tuning(), rows, today(rows, base=newer)) == []
    assert begun(tuning(), rows, today(rows)) == rows


def test_what_never_began_or_is_no_trial_is_not_counted() -> None:
    plain = trial(0.3)
    rows = [
        replace(trial(0.1), started_at=None),
        replace(plain, design=replace(plain.design, rule=Rule.UNIFORM)),
        replace(plain, design=replace(plain.design, metric="failure_rate")),
    ]

    assert begun(tuning(), rows, today(rows)) == []


@given(
    st.dictionaries(
        st.sampled_from(["temperature", "top_p", "max_tokens", "top_k"]),
        st.integers(1, 40).map(lambda n: n / 40),
        min_size=1,
    )
)
def test_a_name_spells_its_point(point: dict[str, float]) -> None:
    of = tuning(axes=tuple(Axis(name=name, low=0, high=1, step=1) for name in sorted(point)))

    assert of.spelt(arm_name("large", point)) == point
    assert of.spelt(arm_name("larger", point)) is None


@pytest.mark.parametrize(
    "name",
    [
        "large",
        "large@",
        "large@temperature",
        "large@temperature:x",
        "large@temperature:0.30",
        "large@temperature:0.95",
        "large@top_p:0.5",
        "large@temperature:0.3+top_p:0.5",
    ],
)
def test_a_name_that_spells_no_point_within_the_bounds_is_none(name: str) -> None:
    assert tuning().spelt(name) is None


def test_a_point_is_its_base_with_other_values_and_nothing_published() -> None:
    base = replace(BASE, config=ModelConfig(model="m", params={"top_k": 5, "stop": "x"}))

    arm = arm_at(base, {"temperature": 0.3, "max_tokens": 200.0, "top_k": 40.0})

    assert arm.name == "large@max_tokens:200+temperature:0.3+top_k:40"
    assert arm.config.as_dict() == {
        **base.config.as_dict(),
        "temperature": 0.3,
        "max_tokens": 200,
        "params": {"top_k": 40, "stop": "x"},
    }
    assert arm.prior is None


def test_a_trial_gives_points_no_more_than_their_share_and_shares_delta_with_the_others() -> None:
    of = tuning(share=0.15, delta=0.06, max_trials=3, axes=(TEMPERATURE, TOP_P))

    design = of.trial("large", "large@temperature:0.3+top_p:0.5")

    assert design.share * (len(design.arms) - 1) / len(design.arms) == 0.15
    assert design.delta == pytest.approx(0.02)
    assert design.auto
    assert design.name == "tuning temperature:0.3+top_p:0.5"
