"""Laws of the cost-constrained choice, for catalogues and scenes of any kind."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as few
from hypothesis import strategies as st

from optimizer.policy import Policy
from optimizer.strategies import Pareto
from scenes import LARGE, SMALL, WEAK, Traffic, World, arm

ON = ("support", "large")
LONG = Policy(hold_expires_after=timedelta(days=30))


candidates = st.lists(
    st.tuples(
        st.floats(0.05, 5.0),
        st.floats(0.5, 1.0),
        st.floats(100.0, 2000.0),
        st.sampled_from([0, 50, 1000, 10**8]),
    ),
    min_size=1,
    max_size=5,
)


def catalogue(drawn: Sequence[tuple[float, float, float, int]]) -> dict[str, Any]:
    made = [
        arm(f"arm{i}", price=(price, 4 * price), quality=quality, n=n, latency_ms=latency)
        for i, (price, quality, latency, n) in enumerate(drawn)
    ]
    base = arm("large", price=(2.5, 10.0), quality=0.9, n=1000, latency_ms=800.0)
    return {"support": (base, *made)}


@few(max_examples=15)
@given(drawn=candidates)
def test_a_dominated_arm_is_never_proposed(
    drawn: Sequence[tuple[float, float, float, int]],
) -> None:
    scene = World(arms=catalogue(drawn), policy=LONG, span=12).scene()

    proposals = Pareto()(scene, ())

    for proposal in proposals:
        price, quality, latency, n = drawn[int(proposal.candidate.removeprefix("arm"))]
        for i, (other_price, other_quality, other_latency, other_n) in enumerate(drawn):
            if f"arm{i}" != proposal.candidate and min(n, other_n) == 10**8:
                assert not (
                    other_price < price
                    and other_quality > quality + 0.001
                    and other_latency < latency
                )


@few(max_examples=15)
@given(drawn=candidates)
def test_a_proposal_is_cheaper_and_not_published_as_worse(
    drawn: Sequence[tuple[float, float, float, int]],
) -> None:
    scene = World(arms=catalogue(drawn), policy=LONG, span=12).scene()

    for proposal in Pareto()(scene, ()):
        price, quality, _, n = drawn[int(proposal.candidate.removeprefix("arm"))]
        smoothed = (quality * n + 0.5) / (n + 1)
        spread = np.sqrt((smoothed * (1 - smoothed) / n if n else 0) + 0.09 / 1000)
        assert price < 2.5 * 0.95 + 1e-9
        assert quality - 0.9 + 0.02 + 1.65 * spread >= -1e-4
        assert {r.arm for r in proposal.rejected} | {proposal.candidate, "large"} == {
            a.name for a in scene.targets["support"].arms
        }


@few(max_examples=8)
@given(drawn=candidates, power=st.sampled_from([-6, -3, 3]))
def test_the_scale_of_money_changes_no_choice(
    drawn: Sequence[tuple[float, float, float, int]], power: int
) -> None:
    scale = 10.0**power
    scaled = [(price * scale, quality, ms, n) for price, quality, ms, n in drawn]

    def plan(values: Sequence[tuple[float, float, float, int]], factor: float) -> list[object]:
        arms = catalogue(values)
        base = arm(
            "large", price=(2.5 * factor, 10.0 * factor), quality=0.9, n=1000, latency_ms=800.0
        )
        usd = 1.0 * factor  # exact in nano-dollars at every scale
        traffic = {("support", "large"): Traffic(cost_usd=usd)}
        world = World(
            arms={"support": (base, *arms["support"][1:])}, traffic=traffic, policy=LONG, span=12
        )
        return [
            (
                each.target,
                each.proposal and each.proposal.candidate,
                [r.arm + r.reason for r in each.rejected],
            )
            for each in Pareto().consider(world.scene(), ())
        ]

    assert plan(scaled, scale) == plan(drawn, 1.0)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3])
def test_the_scale_of_measured_costs_changes_no_choice(scale: float) -> None:
    def plan(factor: float) -> tuple[str, int, list[str]]:
        near = Traffic(cost_usd=0.93 * factor, labels=400)
        good = Traffic(cost_usd=0.80 * factor, labels=400, quality=0.905)
        own = {ON: Traffic(cost_usd=factor), ("support", "small"): near}
        own |= {("support", "weak"): good}
        (proposal,) = Pareto()(World(traffic=own, policy=LONG).scene(), ())
        confidence = proposal.expected.confidence
        assert confidence is not None
        rejected = [each.arm + each.reason for each in proposal.rejected]
        return proposal.candidate, round(1e3 * confidence), rejected

    assert plan(scale) == plan(1.0)


def test_an_arm_at_the_margin_is_chosen_no_more_often_than_delta() -> None:
    rng = np.random.default_rng(11)
    names = [f"t{i:03d}" for i in range(400)]

    def drawn(quality: float, usd: float) -> Traffic:
        hits = rng.binomial(1500, quality) / 1500
        return Traffic(n=1500, quality=float(hits), labels=1500, cost_usd=usd)

    traffic = {(name, "large"): drawn(0.90, 0.004) for name in names}
    traffic |= {(name, "small"): drawn(0.88, 0.002) for name in names}
    arms = dict.fromkeys(names, (LARGE, arm("small")))
    world = World(traffic=traffic, arms=arms, policy=LONG, span=2)

    wrong = len(Pareto()(world.scene(), ()))

    # 5 % of 400 are 20, with a standard deviation of 4.4.
    assert 6 <= wrong <= 33


NAMES = ("support", "search", "mail")


def three() -> World:
    traffic = {(name, "large"): Traffic() for name in NAMES}
    return World(arms=dict.fromkeys(NAMES, (LARGE, SMALL, WEAK)), traffic=traffic, span=24)


@few(max_examples=8)
@given(order=st.permutations(NAMES), seed=st.integers(0, 2**32 - 1))
def test_permuting_targets_arms_and_rows_changes_nothing(order: Sequence[str], seed: int) -> None:
    scene = three().scene()
    arms = tuple(
        np.random.default_rng(seed).permutation(np.array((LARGE, SMALL, WEAK), dtype=object))
    )
    mixed = dataclasses.replace(
        scene,
        targets={name: dataclasses.replace(scene.targets[name], arms=arms) for name in order},
        hours=scene.hours.sample(frac=1, random_state=seed),
    )

    assert Pareto().consider(mixed, ()) == Pareto().consider(scene, ())


def spoiled(kind: str) -> Mapping[str, Any]:
    scene = three().scene()
    bad = scene.hours["target"] == "mail"
    if kind == "negative":
        return {"hours": scene.hours.assign(n_failed=np.where(bad, -5, scene.hours["n_failed"]))}
    if kind == "huge":
        return {
            "hours": scene.hours.assign(cost_nusd=np.where(bad, 2**60, scene.hours["cost_nusd"]))
        }
    if kind == "torn":
        torn = [b[:-1] if x else b for x, b in zip(bad, scene.hours["histogram"], strict=True)]
        return {"hours": scene.hours.assign(histogram=torn)}
    if kind == "no_policy":
        return {"policies": {k: v for k, v in scene.policies.items() if k != "mail"}}
    if kind == "no_such_arm":
        return {"baselines": {**scene.baselines, "mail": "gone"}}
    return {"hours": scene.hours[~bad]}


@pytest.mark.parametrize("kind", ["negative", "huge", "torn", "no_policy", "no_such_arm", "silent"])
def test_a_bad_target_leaves_the_others_proposals_unchanged(kind: str) -> None:
    good = three().scene()
    bad = dataclasses.replace(good, **spoiled(kind))

    others = [p for p in Pareto()(good, ()) if p.target != "mail"]

    assert [p for p in Pareto()(bad, ()) if p.target != "mail"] == others
    assert len(others) == 2
