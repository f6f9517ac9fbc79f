"""What a test does to one target on its way: open it, let runs pass, look at it."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pandas as pd

from faulty import FaultyGateway, Listener
from optimizer.allocation import Allocation
from optimizer.decision import Decision
from optimizer.evidence import DecisionId
from optimizer.loop.equipment import Equipment
from optimizer.loop.evaluate import Assessment
from optimizer.loop.reconcile import Finding, reconcile
from optimizer.loop.steps import tick
from optimizer.policy import Policy
from optimizer.targets import Target
from rollout_scene import (
    HOUR,
    START,
    TARGET,
    acting,
    equipment,
    file_gateway,
    propose,
    put,
    traffic,
)

GOOD = {"small": 0.8, "large": 0.8}
BAD = {"small": 0.5, "large": 0.8}
MOMENTS: dict[str, tuple[float, ...]] = {
    "validating": (),
    "canary": (0,),
    "second_stage": (0, 1.5),
    "deployed": (0, 1.5, 3),
    "monitoring": (0, 1.5, 3, 4.5),
    "completed": (0, 1.5, 3, 4.5, 6),
}
"""Hours after the start at which runs pass until a decision stands there."""


class Ride:
    """One target, its equipment and whoever listens; runs are numbered by themselves."""

    def __init__(self, directory: Path, *, url: str | None = None) -> None:
        self.directory = directory
        self.gateway = FaultyGateway(file_gateway(directory, START))
        self.listener = Listener()
        opened = equipment(directory, url=url, gateway=self.gateway)
        self.given: Equipment = replace(opened, notifiers=(self.listener,))
        self.runs = 0

    def align(self, now: datetime = START) -> list[str]:
        """Reconcile in a run of its own; the kinds of what was met."""
        return [finding.kind for finding in self.findings(now)]

    def findings(self, now: datetime = START) -> tuple[Finding, ...]:
        self.runs += 1
        return reconcile(self.given, acting=acting(now, f"run-{self.runs}"))

    def step(
        self,
        decision: DecisionId,
        now: datetime,
        *,
        aligned: bool = True,
        guard_only: bool = False,
    ) -> Assessment:
        """One run: reconcile, then the decision's due step."""
        if aligned:
            self.align(now)
        self.runs += 1
        return tick(
            self.given,
            decision,
            acting=acting(now, f"run-{self.runs}"),
            as_of=now,
            guard_only=guard_only,
        )

    def to(self, place: str, quality: dict[str, float] | None = None) -> DecisionId:
        """A decision that came as far as that, with traffic for ten hours; its id."""
        self.align()
        decision = propose(self.given, START).id
        promoted_at = 3 if MOMENTS[place][-1:] > (1.5,) else 10
        put(self.given, split_traffic(quality or GOOD, promoted_at=promoted_at))
        for hours in MOMENTS[place]:
            self.step(decision, START + hours * HOUR)
        return decision

    def get(self, decision: DecisionId) -> Decision:
        return self.given.ledger.decisions.get(decision)

    def held(self) -> Allocation:
        """What applications are told."""
        found = self.gateway.inner.read(TARGET)
        assert found is not None
        return found

    def shares(self) -> dict[str, float]:
        """Slice -> share, as applications are told."""
        return {part.name.value: round(part.share, 6) for part in self.held().slices}

    def policy(self, **changes: object) -> None:
        """Edit the target's policy."""
        policy: Policy = self.given.policies[TARGET]
        edited = replace(policy, **changes)  # type: ignore[arg-type]
        self.given = replace(self.given, policies={TARGET: edited})

    def without_arm(self, name: str) -> None:
        """Take an arm out of the configuration."""
        target: Target = self.given.targets[TARGET]
        left = tuple(arm for arm in target.arms if arm.name != name)
        baseline = target.baseline if target.baseline != name else left[0].name
        edited = replace(target, arms=left, baseline=baseline)
        self.given = replace(self.given, targets={TARGET: edited})

    def without_target(self) -> None:
        """Take the target out of the configuration."""
        self.given = replace(self.given, targets={}, policies={}, gateway_of={})


def split_traffic(
    quality: dict[str, float], *, promoted_at: float, begin: datetime = START, hours: float = 10
) -> pd.DataFrame:
    """Hours of traffic as the splits send it: equal arms, and 9 to 1 once promoted."""
    end, turn = begin + hours * HOUR, begin + promoted_at * HOUR
    parts = [traffic(begin, turn, quality=quality)]
    if turn < end:
        for name, rows in (("canary", 540), ("control", 60)):
            whole = traffic(turn, end, quality=quality, rows=rows, seed=2)
            parts.append(whole[whole["slice"] == name])
    return pd.concat(parts, ignore_index=True)


def after(hours: float) -> datetime:
    """So many hours after the start."""
    return START + timedelta(hours=hours)
