"""One target in an experiment, on a real ledger and a real file gateway."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from optimizer.aggregates import KEYS, rollup
from optimizer.evidence import Impact, Proposal, ProposalId
from optimizer.experiment.design import Design
from optimizer.experiment.life import Experiment, ExperimentState, draft, move
from optimizer.experiment.standing import even
from optimizer.loop.equipment import Equipment
from optimizer.loop.experiments import Progress, run_all
from optimizer.loop.reconcile import reconcile
from optimizer.metrics import GRAIN_S, HOUR_S
from optimizer.targets import Arm, ModelConfig, Target
from rollout_scene import HOUR, START, TARGET, acting, equipment, traffic

ARMS = ("large", "small", "mini")


def design(**changes: Any) -> Design:  # noqa: ANN401 - fields of Design
    first = Design(
        name="which",
        target=TARGET,
        arms=ARMS,
        share=0.6,
        min_duration=2 * HOUR,
        max_duration=timedelta(days=2),
        auto=True,
    )
    return replace(first, **changes)


def running(asked: Design | None = None, **changes: Any) -> Experiment:  # noqa: ANN401 - as above
    """An experiment in force since START, without a ledger."""
    given = asked or design()
    made = draft(given, START, actor="optimize")
    begun = move(
        made,
        ExperimentState.RUNNING,
        START,
        baseline="large",
        started_at=START,
        running_since=START,
        evidence_from=START,
        shares=even(made),
    )
    return replace(begun, **changes)


def trial(directory: Path, asked: Design | None = None, **more: Any) -> Equipment:  # noqa: ANN401 - fields of Equipment
    """The installation of one target with three arms and its experiment; nothing has run."""
    arms = tuple(Arm(name=name, config=ModelConfig(model=f"{name}-1")) for name in ARMS)
    target = Target(name=TARGET, baseline="large", arms=arms)
    given = equipment(directory, **more)
    return replace(given, targets={TARGET: target}, experiments=(asked or design(),))


def hour(given: Equipment, moment: datetime, **more: Any) -> Progress:  # noqa: ANN401 - of run_all
    """What a run does about experiments: reconcile, then their steps."""
    who = acting(moment, more.pop("run_id", f"run-{moment:%d%H%M}"))
    reconcile(given, acting=who)
    (found,) = run_all(given, acting=who, as_of=more.pop("as_of", moment), **more)
    return found


def served(
    hours: int,
    quality: Mapping[str, float],
    *,
    failures: Mapping[str, float] | None = None,
    rows: int = 60,
    start: datetime = START,
) -> pd.DataFrame:
    """Grains of the experiment's arms: ``rows`` single-request units each in five minutes."""
    parts = []
    for seed, (arm, good) in enumerate(quality.items()):
        failing = (failures or {}).get(arm, 0.01)
        made = traffic(
            start,
            start + hours * HOUR,
            quality=dict.fromkeys(("small", "large"), good),
            failures=dict.fromkeys(("small", "large"), failing),
            rows=rows,
            seed=10 * int(start.timestamp()) + seed,
        )
        parts.append(made[made["slice"] == "canary"].assign(arm=arm, slice="experiment"))
    return pd.concat(parts).sort_values(list(KEYS), ignore_index=True)


def store(given: Equipment, grains: pd.DataFrame) -> None:
    """Make the grains and their hours the ledger's."""
    for width_s, frame in ((GRAIN_S, grains), (HOUR_S, rollup(grains, HOUR_S))):
        windows = sorted({int(start) for start in frame["window_start_s"]})
        given.ledger.aggregates.replace_windows(width_s, windows, frame, clean={})


def shares(given: Equipment) -> dict[str, float]:
    """Share of traffic per arm, as the gateway holds it."""
    held = given.gateway(TARGET).read(TARGET)
    assert held is not None
    found: dict[str, float] = {}
    for part in held.slices:
        found[part.arm] = round(found.get(part.arm, 0.0) + part.share, 6)
    return found


def wanted(*, urgent: bool = False) -> Proposal:
    """A proposal of another strategy for the target."""
    return Proposal(
        id=ProposalId("p-2"),
        strategy="threshold",
        target=TARGET,
        candidate="mini",
        rationale="large fails",
        expected=Impact(cost_reduction_pct=10.0, daily_saving_usd=1.0),
        urgent=urgent,
    )


def limits(*, failure_margin: float) -> str:
    """The policy of a target in YAML: its goal is quality, and a rollout has one stage."""
    return f"""
  goal: {{metric: quality}}
  guardrails:
    - {{metric: quality, margin: 0.05}}
    - {{metric: failure_rate, margin: {failure_margin}}}
  stages:
    - {{share: 0.5, bake_time: 1h, min_requests: 200}}
  label_maturity: 0s
  settle_after: 1h
  holdback_share: 0.2
  exploration_share: 0
"""
