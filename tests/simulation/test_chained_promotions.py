"""Margins do not creep: losses that each fit the margin must not add up to one that does not.

Twenty arms stand in a row, each a little worse and a little cheaper than the one before. They are
all tried, in that order, by the project's own hourly steps with its judge, planner and charges.
"""

from datetime import timedelta

import pytest

from bench.replay_harm import try_everything
from bench.world.loop import World, opened, run
from bench.world.outcomes import Outcomes, measured
from bench.world.traffic import Traffic, streams
from optimizer.policy import Guardrail, Policy, Stage
from optimizer.targets import Arm, ModelConfig, Target

ARMS = 20
MARGIN = 0.02
STEP = 0.15 * MARGIN
REFERENCE = 0.8
REQUESTS_PER_HOUR = 50_000.0
HOURS_EACH = 12


def policy(*, anchored: bool) -> Policy:
    hour = timedelta(hours=1)
    return Policy(
        guardrails=(Guardrail(metric="quality", margin=MARGIN, anchored=anchored),),
        stages=(Stage(share=0.1, bake_time=hour), Stage(share=0.5, bake_time=hour)),
        label_maturity=timedelta(0),
        hold_expires_after=4 * hour,
        settle_after=2 * hour,
        max_changes_per_day=24,
        cooldown=timedelta(0),
    )


def arm(position: int) -> Outcomes:
    """The arm at a place in the row; the reference stands at 0."""
    centre = REFERENCE - position * STEP
    cost_usd = 0.01 * 0.9**position
    return measured(
        score=[centre - 0.1, centre, centre, centre + 0.1],
        cost_usd=[0.5 * cost_usd, cost_usd, cost_usd, 1.5 * cost_usd],
        latency_ms=[300.0, 400.0, 500.0, 600.0],
        input_tokens=[100.0] * 4,
        output_tokens=[50.0] * 4,
    )


def chains(seeds: int, *, anchored: bool) -> World:
    """A world after every chain has tried all its arms."""
    names = [f"chain-{seed}" for seed in range(seeds)]
    places = {f"arm-{position:02}": position for position in range(ARMS + 1)}
    arms = tuple(Arm(name=name, config=ModelConfig(model=name)) for name in places)
    outcomes = {name: arm(position) for name, position in places.items()}
    chance = streams(0, names)
    world = opened(
        {name: Target(name=name, arms=arms, baseline="arm-00") for name in names},
        dict.fromkeys(names, policy(anchored=anchored)),
        {
            name: Traffic(arms=outcomes, requests_per_hour=REQUESTS_PER_HOUR, chance=chance[name])
            for name in names
        },
        {"everything": try_everything},
    )
    run(world, hours=ARMS * HOURS_EACH, done=lambda seen: tried_all(seen, seeds))
    return world


def tried_all(world: World, seeds: int) -> bool:
    decisions = world.ledger.decisions.find()
    return len(decisions) == seeds * ARMS and all(each.state.is_final for each in decisions)


def losses(world: World) -> list[float]:
    """True quality lost against the reference, in margins, by chain."""
    return [
        (REFERENCE - world.traffic[name].arms[in_force].quality) / MARGIN
        for name, in_force in world.in_force().items()
    ]


def within_margin(lost: list[float]) -> float:
    return sum(each <= 1.0 for each in lost) / len(lost)


def test_a_chain_of_small_losses_stops_inside_the_margin_and_is_not_idle() -> None:
    world = chains(1, anchored=True)

    assert tried_all(world, 1)
    assert all(0.0 < lost <= 1.0 for lost in losses(world))


@pytest.mark.slow
def test_anchored_chains_end_inside_the_margin_in_95_of_100() -> None:
    world = chains(40, anchored=True)

    lost = losses(world)
    assert tried_all(world, 40)
    assert within_margin(lost) >= 0.95
    assert min(lost) > 0.0


@pytest.mark.slow
def test_chains_without_an_anchor_creep_beyond_the_margin() -> None:
    world = chains(5, anchored=False)

    assert all(lost > 2.0 for lost in losses(world))
