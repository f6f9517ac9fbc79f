"""The optimizer.yaml of a simulated world: the same file that any installation writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType

import yaml

from optimizer.integrations.simulated.published import PublishedArm, PublishedTarget

_HEAD = """\
# Configuration of a simulated world. Priors, prices and everything the world does are published
# measurements: see `source` of each arm.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSettings:
    """How busy the world is, how it scores, and what its operator allows.

    requests_per_hour: mean of each target; label_rate: share of answers that get a score;
    label_delay_*_s: seconds from answer to score; stages: (canary share, hours, sample floor);
    quality_margin: what a cheaper arm may give up, with exceptions by target.
    """

    requests_per_hour: float = 1_000.0
    label_rate: float = 0.9
    label_delay_min_s: float = 900.0
    label_delay_mean_s: float = 2_100.0
    label_delay_max_s: float = 3_600.0
    label_maturity: timedelta = timedelta(hours=1)
    stages: tuple[tuple[float, float, int], ...] = (
        (0.05, 1.0, 80),
        (0.2, 1.0, 200),
        (0.5, 2.0, 500),
    )
    quality_margin: float = 0.03
    quality_margins: Mapping[str, float] = field(
        default_factory=lambda: MappingProxyType({"bug-fixing": 0.04})
    )
    failure_margin: float = 0.005
    slow_margin: float = 0.02
    hold_hours: float = 14.0
    settle_hours: float = 3.0
    alpha: float = 0.05

    def margin_of(self, target: str) -> float:
        """The quality margin of a target."""
        return self.quality_margins.get(target, self.quality_margin)


def configuration(targets: Sequence[PublishedTarget], settings: WorldSettings) -> str:
    """The file's text; its paths are relative, so that it hashes alike wherever it lies."""
    content = {
        "database": {
            "connection_string": "sqlite:///optimizer.db",
            "spool_directory": "spool",
        },
        "integrations": {
            "sources": [
                {
                    "kind": "file",
                    "name": kind,
                    "delivers": kind,
                    "root": "logs",
                    "paths": [f"{kind}/*.jsonl"],
                }
                for kind in ("calls", "feedback")
            ],
            "gateways": [{"kind": "file", "name": "files", "directory": "allocations"}],
            "notifiers": [{"kind": "file", "name": "messages", "path": "messages.jsonl"}],
        },
        "defaults": _limits(settings),
        "targets": [_target(target, settings) for target in targets],
    }
    return _HEAD + yaml.safe_dump(content, sort_keys=False, width=100)


def _limits(settings: WorldSettings) -> dict[str, object]:
    return {
        "goal": {"metric": "cost_usd", "min_gain": 0.05},
        "guardrails": _guardrails(settings, settings.quality_margin),
        "stages": [
            {"share": share, "bake_time": _hours(hours), "min_requests": floor}
            for share, hours, floor in settings.stages
        ],
        "alpha_rollback": settings.alpha,
        "alpha_promote": settings.alpha,
        "label_maturity": f"{settings.label_maturity.total_seconds():g}s",
        "hold_expires_after": _hours(settings.hold_hours),
        "settle_after": _hours(settings.settle_hours),
        "max_changes_per_day": 10,
    }


def _target(target: PublishedTarget, settings: WorldSettings) -> dict[str, object]:
    own = target.name in settings.quality_margins
    margin = settings.margin_of(target.name)
    return {
        "name": target.name,
        "task_type": target.task_type,
        "baseline": target.baseline.name,
        **({"guardrails": _guardrails(settings, margin)} if own else {}),
        "arms": [_arm(arm) for arm in target.arms],
    }


def _guardrails(settings: WorldSettings, quality: float) -> list[dict[str, object]]:
    return [
        {"metric": "quality", "margin": quality},
        {"metric": "failure_rate", "margin": settings.failure_margin},
        {"metric": "latency_exceedance", "margin": settings.slow_margin},
    ]


def _arm(arm: PublishedArm) -> dict[str, object]:
    return {
        "name": arm.name,
        "model": arm.model,
        "provider": arm.provider,
        "price": {
            "input_usd_per_mtok": arm.input_usd_per_mtok,
            "output_usd_per_mtok": arm.output_usd_per_mtok,
        },
        "prior": {
            "quality": arm.prior_quality,
            "n": arm.prior_n,
            "cost_usd": arm.prior_cost_usd,
            "latency_ms": arm.prior_latency_ms,
            "source": arm.prior_source,
        },
    }


def _hours(hours: float) -> str:
    return f"{hours:g}h"
