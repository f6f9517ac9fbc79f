"""Settings that optimizers of this kind are known to have: each has a place here, or a reason.

A name that is neither a setting nor has its reason is one that was forgotten.
"""

from dataclasses import dataclass

import pytest
import yaml
from pydantic import BaseModel

from house import ROOT
from optimizer.settings.fields import models_in
from optimizer.settings.model import Settings

RECORDS = ROOT / "docs" / "decisions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a promised setting is: the path of ours, else a file and what it says there."""

    path: str = ""
    file: str = ""
    text: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """Why there is no such setting; record: the number of the decision record that says so."""

    why: str
    record: str = ""


def same(path: str) -> Place:
    return Place(path=path)


def instead(path: str, why: str) -> Place:
    return Place(path=path, why=why)


PROMISED: dict[str, Place | Dropped] = {
    "service.name": Dropped(why="runs and rows are known by the hash of their configuration"),
    "service.host": same("service.host"),
    "service.port": same("service.port"),
    "service.mode": Dropped(
        why="a mode is a command: `llmopt run` once, `llmopt serve` with schedules; what runs "
        "beside an application is `optimizer.client`"
    ),
    "service.optimization_interval_secs": Place(
        file="prefect.yaml", text="cron", why="schedules of all flows stand in one place"
    ),
    "database.connection_string": same("database.connection_string"),
    "database.max_connections": same("database.max_connections"),
    "database.timeout_secs": same("database.timeout_secs"),
    "database.auto_migrate": same("database.auto_migrate"),
    "integrations.observatory_url": instead(
        "integrations.sources.url", "telemetry is read from tables and files of any name"
    ),
    "integrations.orchestrator_url": instead(
        "integrations.gateways.directory", "splits are published as files that clients follow"
    ),
    "integrations.sentinel_kafka_brokers": instead(
        "integrations.sources.paths", "events come as files; anomalies are found here as well"
    ),
    "integrations.governance_url": instead(
        "integrations.policy_points.url", "an Open Policy Agent, beside policies of the file"
    ),
    "integrations.registry_url": instead(
        "integrations.prices.published", "a dated catalogue of models and its overrides"
    ),
    "strategies.thresholds.latency_p95_ms": instead(
        "defaults.safety.latency_p95_ms_max", "a limit holds for every strategy, and by target"
    ),
    "strategies.thresholds.latency_increase_pct": same(
        "strategies.thresholds.latency_increase_pct"
    ),
    "strategies.thresholds.error_rate_pct": instead(
        "defaults.safety.failure_rate_max", "a limit, as a fraction"
    ),
    "strategies.thresholds.cost_per_request": instead(
        "defaults.budget.per_request_usd", "a budget of the policy"
    ),
    "strategies.thresholds.daily_budget": instead(
        "defaults.budget.daily_usd", "a budget of the policy"
    ),
    "strategies.thresholds.quality_score_min": same("strategies.thresholds.quality_score_min"),
    "strategies.thresholds.quality_drop_pct": same("strategies.thresholds.quality_drop_pct"),
    "strategies.thresholds.psi_threshold": Dropped(
        why="a fixed index means another thing for every number of requests: the limit is what the "
        "arm's own days have shown",
        record="0019",
    ),
    "strategies.thresholds.ks_test_p_value": Dropped(
        why="one p-value a test ignores how many are made: false discoveries are limited together",
        record="0019",
    ),
    "strategies.ab_testing.min_sample_size": instead(
        "targets.experiments.min_duration",
        "the test may be looked at every hour: it needs no size, but whole hours of traffic",
    ),
    "strategies.ab_testing.significance_level": instead(
        "targets.experiments.delta", "the chance ever to declare an arm that is worse"
    ),
    "strategies.ab_testing.max_duration_seconds": instead(
        "targets.experiments.max_duration", "a duration with its unit"
    ),
    "strategies.ab_testing.allocation_strategy": instead(
        "targets.experiments.rule", "`uniform` or `top_two`; a floor takes the place of epsilon"
    ),
    "strategies.rl.learning_rate": Dropped(
        why="evidence is recomputed from hours, nothing is learned step by step"
    ),
    "strategies.rl.exploration_rate": instead(
        "targets.experiments.floor", "the share that all arms keep; the policy has a share besides"
    ),
    "strategies.rl.discount_factor": Dropped(
        why="nothing is discounted: a change point begins the evidence anew"
    ),
    "strategies.rl.reward_weights.quality": Dropped(
        why="no weighted sum: one goal, and guardrails that nothing pays for"
    ),
    "strategies.rl.reward_weights.cost": Dropped(why="the same"),
    "strategies.rl.reward_weights.latency": Dropped(why="the same"),
    "strategies.rl.reward_weights.feedback": Dropped(
        why="the same; what users did becomes a score where it comes in"
    ),
    "strategies.cost_performance.mode": instead(
        "defaults.profile", "how much may be given up for a saving is a matter of the policy"
    ),
    "strategies.cost_performance.quality_weight": instead(
        "defaults.guardrails.margin", "a weight lets a saving pay for any loss; a margin does not"
    ),
    "strategies.cost_performance.cost_weight": instead(
        "strategies.cost_performance.min_saving", "the smallest saving that is worth a rollout"
    ),
    "strategies.cost_performance.latency_weight": instead(
        "defaults.guardrails.margin", "the guardrail of latency has a margin of its own"
    ),
    "observability.log_level": same("observability.log_level"),
    "observability.json_logging": same("observability.json_logging"),
    "observability.metrics_endpoint": Dropped(
        why="runs, events and artifacts are in Prefect, numbers in the ledger: "
        "`llmopt … --json` prints them"
    ),
    "observability.traces_endpoint": Dropped(why="the same"),
}
"""Forty-two names, in their five sections."""


def paths(model: type[BaseModel], before: str = "") -> set[str]:
    found: set[str] = set()
    for name, field in model.model_fields.items():
        inner = models_in(field.annotation)
        found |= set() if inner else {f"{before}{name}"}
        for each in inner:
            found |= paths(each, f"{before}{name}.")
    return found


OURS = paths(Settings)


def test_none_is_missing_and_none_is_named_twice() -> None:
    sections = [name.split(".")[0] for name in PROMISED]

    assert {name: sections.count(name) for name in sections} == {
        "service": 5,
        "database": 4,
        "integrations": 5,
        "strategies": 24,
        "observability": 4,
    }


@pytest.mark.parametrize("name", list(PROMISED))
def test_a_promised_setting_has_its_place_or_a_reason(name: str) -> None:
    found = PROMISED[name]

    if isinstance(found, Dropped):
        assert found.why
        assert name not in OURS
        assert not found.record or list(RECORDS.glob(f"{found.record}-*.md"))
    elif found.file:
        assert found.text in str(yaml.safe_load((ROOT / found.file).read_text(encoding="utf-8")))
    else:
        assert found.path in OURS
        assert found.path == name or found.why


def test_a_place_that_does_not_exist_would_be_seen() -> None:
    assert "defaults.safety.colour" not in OURS
