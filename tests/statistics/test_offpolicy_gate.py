"""The off-policy gate: each refusal with its numbers, three answers, and the laws they keep."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as few
from hypothesis import strategies as st

from optimizer.statistics.offpolicy_gate import Answer, Gated, cell_floor, gate
from optimizer.statistics.offpolicy_log import Log, always, log_of
from optimizer.statistics.offpolicy_support import Lack, overlap, refusal


def explored(
    seed: int = 1,
    *,
    size: int = 8000,
    chance: float = 0.25,
    quality: tuple[float, float] = (0.9, 0.9),
) -> Log:
    """Requests of two arms that succeed at known rates, each its own cluster."""
    rng = np.random.default_rng(seed)
    arm = (rng.random(size) < chance).astype(int)
    reward = (rng.random(size) < np.array(quality)[arm]).astype(float)
    return log_of(arm, np.where(arm == 1, chance, 1 - chance), reward)


def ask(log: Log, margin: float = 0.03, **more: Any) -> Gated:  # noqa: ANN401 - as of gate
    return gate(log, always(log, 1), always(log, 0), margin=margin, **more)


def test_an_equal_arm_with_support_passes() -> None:
    found = ask(explored())

    assert (found.answer, found.lack, found.needed) == (Answer.BETTER, None, None)
    assert found.lower > -0.03
    assert found.sentence.startswith(f"gain {found.gain:+.4g} (95 % limits")
    assert "8,000 requests" in found.sentence


def test_a_worse_arm_with_support_does_not() -> None:
    found = ask(explored(quality=(0.9, 0.8)))

    assert found.answer is Answer.NOT_BETTER
    assert found.upper < -0.03
    assert f"allowed {-0.03:+.4g}" in found.sentence


def test_what_the_interval_leaves_open_says_how_many_more_requests_close_it() -> None:
    small = ask(explored(3, size=4000), 0.02)

    assert (small.answer, small.lack) == (Answer.NOT_ENOUGH_SUPPORT, Lack.WIDE_INTERVAL)
    assert small.needed
    assert f"{small.needed:,} more explored requests" in small.sentence
    # As many times the requests narrow the interval by the root of it.
    half = (small.gain - small.lower) / math.sqrt(1 + small.needed / small.n)
    assert small.gain - half == pytest.approx(-0.02, abs=1e-5)


def test_a_margin_may_be_a_share_of_what_is_in_force() -> None:
    log = explored(quality=(0.5, 0.47))

    assert ask(log, 0.2, relative=True).answer is Answer.BETTER
    assert ask(log, 0.02, relative=True).answer is Answer.NOT_BETTER


REFUSED = [
    ("missing", Lack.NO_PROPENSITY, "unknown in 3 of 8,000", 500),
    ("zero", Lack.NO_PROPENSITY, "unknown in 8,000 of 8,000", 500),
    ("certain", Lack.NO_PROPENSITY, "only one arm to go to", 500),
    ("unsupported", Lack.LOW_OVERLAP, "unsupported mass 0.50 (at most 0.05)", 72000),
    ("wrong", Lack.LOW_OVERLAP, "mean weight 0.493 (between 0.8 and 1.25)", 12291),
    ("off", Lack.LOW_OVERLAP, "standard errors from 1 (at most 4)", None),
    ("clipped", Lack.LOW_OVERLAP, "clipped mass 0.", None),
    ("few", Lack.LOW_ESS, "of 1,000 requests (at least 500)", None),
    ("thin", Lack.LOW_ESS, "(at least 5%)", None),
]


def mislabelled(log: Log, stated: float) -> Log:
    """The log, with another chance of arm 1 than the one it was drawn with."""
    return dataclasses.replace(log, propensity=np.where(log.arm == 1, stated, 1 - stated))


def poor(kind: str) -> Log:
    log = explored()
    early = np.arange(8000)[:, None] < 4000
    return {
        "missing": lambda: dataclasses.replace(
            log, propensity=np.where(np.arange(8000) < 3, np.nan, 0.5)
        ),
        "zero": lambda: dataclasses.replace(log, propensity=np.zeros(8000)),
        "certain": lambda: dataclasses.replace(log, propensity=np.ones(8000)),
        "unsupported": lambda: dataclasses.replace(
            log, chances=np.where(early, [1.0, 0.0], log.chances)
        ),
        "wrong": lambda: mislabelled(log, 0.5),
        "off": lambda: mislabelled(log, 0.28),
        "clipped": lambda: explored(size=100_000, chance=0.02),
        "few": lambda: explored(size=1000, chance=0.4),
        "thin": lambda: explored(5, size=100_000, chance=0.045),
    }[kind]()


@pytest.mark.parametrize(("kind", "lack", "text", "needed"), REFUSED)
def test_a_log_without_support_is_refused_with_its_numbers(
    kind: str, lack: Lack, text: str, needed: int | None
) -> None:
    found = ask(poor(kind))

    assert (found.answer, found.lack) == (Answer.NOT_ENOUGH_SUPPORT, lack)
    assert text in found.sentence
    assert math.isnan(found.gain)
    if needed is not None:
        assert found.needed == needed
        assert f"{needed:,} more explored requests" in found.sentence


def test_the_first_lack_in_order_names_the_refusal() -> None:
    log = explored(size=800, chance=0.25)
    bare = dataclasses.replace(log, chances=np.tile([1.0, 0.0], (800, 1)))

    assert ask(log).lack is Lack.LOW_ESS
    assert ask(bare).lack is Lack.LOW_OVERLAP
    assert ask(dataclasses.replace(bare, propensity=np.ones(800))).lack is Lack.NO_PROPENSITY
    # The limits of both kinds are named, whichever comes first.
    assert "ESS" in ask(bare).sentence


def test_propensities_that_contradict_the_assignment_are_mended_by_no_number() -> None:
    found = ask(poor("off"))

    assert found.needed is None
    assert "no further requests" in found.sentence


@pytest.mark.parametrize("kind", ["few", "thin", "clipped"])
def test_so_many_more_requests_do(kind: str) -> None:
    """Requests of weight 1, or as many again of the same, and the refusal is gone."""
    log = poor(kind)
    why = refusal(overlap(log, always(log, 1)))
    assert why is not None
    assert why.needed is not None
    if kind == "few":
        size = round(log.size) + why.needed
        more = log_of(
            np.resize(log.arm, size), np.resize(log.propensity, size), np.resize(log.total, size)
        )
        assert overlap(more, always(more, 1)).ess == pytest.approx(500, rel=0.01)
        return
    found = overlap(log, always(log, 1))
    total, n = found.total_weight + why.needed, found.n + why.needed
    squares = found.squared_weight + why.needed
    if kind == "thin":
        assert total**2 / squares / n == pytest.approx(0.05, rel=1e-3)
    else:
        assert found.clipped_mass * found.total_weight / total == pytest.approx(0.10, rel=1e-3)


def test_an_empty_log_has_no_propensity() -> None:
    nothing = log_of([], [], [], chances=np.zeros((0, 2)))

    found = ask(nothing)

    assert (found.answer, found.lack, found.needed) == (
        Answer.NOT_ENOUGH_SUPPORT,
        Lack.NO_PROPENSITY,
        500,
    )


def test_too_few_units_are_no_support() -> None:
    log = dataclasses.replace(explored(), cluster=np.arange(8000) % 19)

    assert ask(log).lack is Lack.MIN_CLUSTERS


def test_estimators_that_contradict_each_other_are_no_support() -> None:
    """A segment whose chances are right on average and wrong inside misleads only some of them."""
    rng = np.random.default_rng(1)
    hard = np.arange(40_000) % 2
    real = np.where(hard == 1, 0.40, 0.10)
    arm = (rng.random(40_000) < real).astype(int)
    stated = np.where(arm == 1, 0.25, 0.75)
    log = log_of(arm, stated, 1.0 - 0.9 * hard, segment=hard)

    found = ask(log)

    assert (found.answer, found.lack) == (Answer.NOT_ENOUGH_SUPPORT, Lack.DISAGREEMENT)
    assert "joint standard errors" in found.sentence


def test_an_arm_needs_so_many_requests_of_its_own_before_it_may_replace_another() -> None:
    assert math.ceil(cell_floor(0.4, 0.05)) == 347
    assert cell_floor(4.0, 0.5) == pytest.approx(cell_floor(0.4, 0.05))
    # A gain that is plain, from fewer requests than the margin asks for.
    found = ask(explored(3, size=3000, chance=0.3, quality=(0.45, 0.6)), margin=0.01)

    assert found.lower > 0
    assert (found.answer, found.lack) == (Answer.NOT_ENOUGH_SUPPORT, Lack.MIN_SAMPLE)
    assert found.needed


@given(seed=st.integers(0, 2**32 - 1), drop=st.floats(0, 0.1), scale=st.sampled_from([1e-9, 1e6]))
@few(max_examples=25)
def test_the_unit_of_the_reward_changes_no_answer(seed: int, drop: float, scale: float) -> None:
    log = explored(seed, size=3000, quality=(0.8, 0.8 - drop))
    scaled = dataclasses.replace(log, total=log.total * scale, squares=log.squares * scale**2)

    one, other = ask(log, 0.03), ask(scaled, 0.03 * scale)

    assert (one.answer, one.lack) == (other.answer, other.lack)


@given(seed=st.integers(0, 2**32 - 1), wide=st.floats(0.01, 0.2), wider=st.floats(0.01, 0.2))
@few(max_examples=25)
def test_a_larger_margin_never_turns_a_good_answer(seed: int, wide: float, wider: float) -> None:
    log = explored(seed, size=3000, quality=(0.8, 0.78))
    small, large = sorted((wide, wider))

    if ask(log, small).answer is Answer.BETTER:
        assert ask(log, large).answer is Answer.BETTER
    if ask(log, large).answer is Answer.NOT_BETTER:
        assert ask(log, small).answer is Answer.NOT_BETTER


def test_an_arm_a_margin_worse_seldom_passes() -> None:
    """One-sided 95 %: of 200 logs at the margin at most 5 % pass, within 3 standard errors."""
    passed = sum(
        ask(explored(seed, size=6000, quality=(0.9, 0.87))).answer is Answer.BETTER
        for seed in range(200)
    )

    assert passed <= 20


def test_a_margin_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="margin"):
        ask(explored(), 0.0)
