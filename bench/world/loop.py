"""The hourly loop over a world: the project's own steps, called in the order of its hourly flow.

Nothing is decided here. What an hour does is what :mod:`optimizer.loop` does: reconcile, gather,
propose, arbitrate, judge, carry out the steps that are due. Left out are Prefect, the database, the
intake of rows (windows of aggregates are handed to a ledger in memory) and the second judgement
that a run of its own makes before it acts: here no time passes in between.
"""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from bench.world.memory import MemoryGateway, MemoryLedger
from bench.world.traffic import Traffic, hour
from optimizer.allocation import SliceName
from optimizer.decision import State
from optimizer.engine import Engine, EngineLimits, Spool
from optimizer.evidence import Strategy
from optimizer.integrations.no_prices import NoPrices
from optimizer.loop.act import take_lease
from optimizer.loop.decide import gather, settle_proposals
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.evaluate import assess, record_looks
from optimizer.loop.reconcile import reconcile
from optimizer.loop.steps import carry_out
from optimizer.metrics import DAY_S, GRAIN_S, HOUR_S
from optimizer.policy import Policy
from optimizer.targets import Target

START: Final = datetime(2026, 1, 5, tzinfo=UTC)
KEPT_DAYS: Final = 3
"""Days of hours the strategies read, and of grains the judge may need."""
NAME: Final = "memory"

Done = Callable[["World"], bool]


@dataclass(slots=True, kw_only=True)
class World:
    """A world under the optimizer.

    served: requests by (target, arm) since the start; canaried: the same, of canaries that were not
    promoted yet; hours: how many hours have passed.
    """

    equipment: Equipment
    ledger: MemoryLedger
    gateway: MemoryGateway
    traffic: Mapping[str, Traffic]
    hours: int = 0
    served: Counter[tuple[str, str]] = field(default_factory=Counter)
    canaried: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def now(self) -> datetime:
        """The time the world has come to."""
        return START + timedelta(hours=self.hours)

    def in_force(self) -> dict[str, str]:
        """The baseline arm of each target."""
        return self.equipment.baseline_arms()


def opened(
    targets: Mapping[str, Target],
    policies: Mapping[str, Policy],
    traffic: Mapping[str, Traffic],
    strategies: Mapping[str, Strategy],
) -> World:
    """A world at its start, with every target's split published."""
    ledger, gateway = MemoryLedger(), MemoryGateway(name=NAME)
    equipment = Equipment(
        ledger=ledger,
        engine=Engine(spool=Spool(root=Path(tempfile.gettempdir())), limits=EngineLimits()),
        sources=(),
        gateways={NAME: gateway},
        gateway_of=dict.fromkeys(targets, NAME),
        targets=targets,
        policies=policies,
        analyzers={},
        strategies=strategies,
        prices=NoPrices(),
        lateness=timedelta(0),
        baseline_days=KEPT_DAYS,
        config_hash="replay",
    )
    world = World(equipment=equipment, ledger=ledger, gateway=gateway, traffic=traffic)
    reconcile(equipment, acting=_acting(world))
    return world


def run(world: World, *, hours: int, done: Done | None = None) -> None:
    """Let ``hours`` hours pass, or fewer: until ``done`` says so."""
    for _ in range(hours):
        if done is not None and done(world):
            return
        _serve(world)
        _optimize(world)


def _serve(world: World) -> None:
    """An hour of traffic under the split in force becomes aggregates."""
    splits = dict(world.gateway.held)
    world.hours += 1
    end_s = int(world.now.timestamp())
    frame = hour(world.traffic, splits, end_s=end_s)
    store = world.ledger.aggregates
    store.replace_windows(GRAIN_S, [end_s - GRAIN_S], frame, clean={})
    # One grain an hour: the hour's roll-up is that grain under the hour's own start.
    rolled = frame.assign(window_start_s=np.int64(end_s - HOUR_S))
    store.replace_windows(HOUR_S, [end_s - HOUR_S], rolled, clean={})
    for width_s in (GRAIN_S, HOUR_S):
        store.prune(width_s, before_s=end_s - KEPT_DAYS * DAY_S)
    trying = {
        each.target: each.candidate
        for each in world.ledger.decisions.find(states=[State.DEPLOYING])
    }
    columns = (frame[name] for name in ("target", "arm", "slice", "n"))
    for target, arm, part, n in zip(*columns, strict=True):
        world.served[target, arm] += int(n)
        if part == SliceName.CANARY.value and trying.get(target) == arm:
            world.canaried[target, arm] += int(n)


def _optimize(world: World) -> None:
    """One hourly run."""
    equipment, acting = world.equipment, _acting(world)
    reconcile(equipment, acting=acting)
    if len(world.ledger.decisions.flying) < len(equipment.targets):
        scene = gather(equipment, as_of=world.now)
        proposals = [
            proposal
            for strategy in equipment.strategies.values()
            for proposal in strategy(scene, ())
        ]
        settle_proposals(equipment, scene, proposals, acting=acting)
    assessments = assess(equipment, acting=acting, as_of=world.now)
    record_looks(equipment, assessments, acting=acting)
    for assessment in assessments:
        if assessment.is_due:
            lease = take_lease(equipment, assessment.decision.target, acting)
            carry_out(equipment, assessment, acting=acting, as_of=world.now, lease=lease)
            equipment.ledger.effects.release(lease)


def _acting(world: World) -> Acting:
    return Acting(actor="replay", run_id=f"hour-{world.hours}", now=world.now)


def rewarded(world: World) -> dict[str, tuple[float, float, float]]:
    """Per target: requests, their true quality summed, their true cost summed, USD."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for (target, arm), n in sorted(world.served.items()):
        own = world.traffic[target].arms[arm]
        for position, value in enumerate((1.0, own.quality, own.cost_usd)):
            sums[target][position] += n * value
    return {target: (row[0], row[1], row[2]) for target, row in sums.items()}
