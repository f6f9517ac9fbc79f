"""An installation in a directory, as an operator configures it, and its flows run at any moment."""

import asyncio
import json
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from flows import equipped
from flows.approve import approve
from flows.guard import guard
from flows.optimize import optimize
from flows.parameters import (
    ApproveParameters,
    GuardParameters,
    OptimizeParameters,
    RollbackParameters,
    RolloutParameters,
)
from flows.rollback import rollback
from flows.rollout import rollout
from optimizer.allocation import Allocation
from optimizer.decision import Decision
from optimizer.evidence import DecisionId
from optimizer.loop.equipment import Equipment
from optimizer.loop.keep import chain_holds
from rollout_scene import HOUR, START, TARGET, traffic

T = TypeVar("T")
GOOD = {"small": 0.8, "large": 0.8}
LIMITS = """
  guardrails:
    - {metric: quality, margin: 0.05, anchored: true}
    - {metric: failure_rate, margin: 0.02}
  stages:
    - {share: 0.1, bake_time: 1h, min_requests: 100}
    - {share: 0.5, bake_time: 1h, min_requests: 100}
  label_maturity: 0s
  settle_after: 2h
  holdback_share: 0.1
  data_lag_max: 2h
"""
ARMS = "[{name: large, model: large-1}, {name: small, model: small-1}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """A directory with its configuration file."""

    directory: Path

    @property
    def config(self) -> Path:
        return self.directory / "optimizer.yaml"

    @property
    def equipment(self) -> Equipment:
        return equipped.equipment(self.config)

    def optimize(self, moment: datetime, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - the form's own
        return done(
            optimize(
                OptimizeParameters(config_file=self.config, as_of=moment, clock=moment, **more)
            )
        )

    def guard(self, moment: datetime) -> dict[str, Any]:
        return done(guard(GuardParameters(config_file=self.config, as_of=moment, clock=moment)))

    def rollout(self, decision: str, moment: datetime, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
        return done(rollout(self.step(decision, moment, **more)))

    def step(self, decision: str, moment: datetime, **more: Any) -> RolloutParameters:  # noqa: ANN401 - as above
        return RolloutParameters(
            config_file=self.config, as_of=moment, clock=moment, decision_id=decision, **more
        )

    def rollback(self, moment: datetime, **named: str) -> dict[str, Any]:
        return done(
            rollback(
                RollbackParameters(
                    config_file=self.config,
                    as_of=moment,
                    clock=moment,
                    reason="customers complain",
                    **named,
                )
            )
        )

    def approve(
        self, decision: str, moment: datetime, answer: str, reason: str = ""
    ) -> dict[str, Any]:
        return done(
            approve(
                ApproveParameters(
                    config_file=self.config,
                    as_of=moment,
                    clock=moment,
                    decision_id=decision,
                    answer=answer,
                    actor="ada",
                    reason=reason,
                )
            )
        )

    def decision(self, decision: str) -> Decision:
        return self.equipment.ledger.decisions.get(DecisionId(decision))

    def held(self, target: str = TARGET) -> Allocation:
        """What the gateway's file says."""
        found = self.equipment.gateway(target).read(target)
        assert found is not None
        return found

    def shares(self, target: str = TARGET) -> dict[str, float]:
        """Share of traffic per arm, as published."""
        arms: dict[str, float] = {}
        for part in self.held(target).slices:
            arms[part.arm] = round(arms.get(part.arm, 0.0) + part.share, 9)
        return arms

    def transitions(self, decision: str) -> list[str]:
        """States the log went through, each once; the chain of the log is verified."""
        assert chain_holds(self.equipment, DecisionId(decision))
        log = self.equipment.ledger.decisions.events(DecisionId(decision))
        return [entry.to_state.value for entry in log if entry.kind == "transition"]

    def messages(self) -> list[dict[str, str]]:
        path = self.directory / "messages.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines()]

    def last_run(self, flow: str = "optimize") -> dict[str, Any]:
        """The ledger's newest row of that flow's runs."""
        rows = self.equipment.ledger.runs.runs(limit=50)
        return dict(next(row for row in rows if row["flow"] == flow))

    @contextmanager
    def equipped_with(self, **adapters: Any) -> Iterator[None]:  # noqa: ANN401 - fields of Equipment
        """Other adapters in the place of the configured ones, in this process."""
        before = self.equipment
        (key,) = [key for key, value in equipped._open.items() if value is before]
        equipped._open[key] = replace(before, **adapters)
        try:
            yield
        finally:
            equipped._open[key] = before


def done(flow: Coroutine[Any, Any, T]) -> T:
    """What the flow returns."""
    return asyncio.run(flow)


def installed(
    directory: Path,
    *,
    limits: str = LIMITS,
    targets: str = f'[{{name: "{TARGET}", baseline: large, arms: {ARMS}}}]',
    sources: str = "[]",
) -> Installation:
    """A configured installation; nothing has run."""
    (directory / "optimizer.yaml").write_text(
        f"""
database: {{connection_string: "sqlite:///ledger.db", spool_directory: spool}}
integrations:
  sources: {sources}
  gateways: [{{kind: file, name: files, directory: allocations, expires_after: 2d}}]
  notifiers: [{{kind: file, name: told, path: messages.jsonl}}]
defaults:{limits}
targets: {targets}
"""
    )
    return Installation(directory=directory)


def following() -> pd.DataFrame:
    """Traffic that follows the split: halves until the promotion, then nine to one."""
    promoted, end = START + 3 * HOUR, START + 8 * HOUR
    many = traffic(promoted, end, quality=GOOD, rows=540)
    few = traffic(promoted, end, quality=GOOD, rows=60, seed=2)
    return pd.concat(
        [
            traffic(START, promoted, quality=GOOD, rows=300),
            many[many["slice"] == "canary"],
            few[few["slice"] == "control"],
        ],
        ignore_index=True,
    )
