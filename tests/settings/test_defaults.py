"""Each default is written once in the core and once in the settings: they are the same."""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from optimizer.experiment.design import Design
from optimizer.experiment.grid import Tuning
from optimizer.metrics import METRICS
from optimizer.policy import (
    Approval,
    BlastRadius,
    Budget,
    Freeze,
    Goal,
    Guardrail,
    Policy,
    SafetyLimits,
    Stage,
)
from optimizer.settings import load_text, policy_of, target_of
from optimizer.settings.call_sites import ArmSettings, PriceSettings, PriorSettings
from optimizer.settings.capabilities import NeedsSettings, OffersSettings
from optimizer.settings.experiments import ExperimentSettings
from optimizer.settings.limits import (
    ApprovalSettings,
    BlastRadiusSettings,
    BudgetSettings,
    FreezeSettings,
    GoalSettings,
    GuardrailSettings,
    PolicySettings,
    SafetySettings,
    StageSettings,
)
from optimizer.settings.tuning import TuningSettings
from optimizer.settings.values import MetricName
from optimizer.targets import Arm, ModelConfig, Needs, Offers, Price, Prior

PATH = Path("/etc/llmopt/optimizer.yaml")

PAIRS: list[tuple[type[BaseModel], type]] = [
    (GoalSettings, Goal),
    (SafetySettings, SafetyLimits),
    (BudgetSettings, Budget),
    (ApprovalSettings, Approval),
    (StageSettings, Stage),
    (GuardrailSettings, Guardrail),
    (FreezeSettings, Freeze),
    (BlastRadiusSettings, BlastRadius),
    (NeedsSettings, Needs),
    (OffersSettings, Offers),
    (PriceSettings, Price),
    (PriorSettings, Prior),
    (ArmSettings, Arm),
    (ArmSettings, ModelConfig),
    (ExperimentSettings, Design),
    (TuningSettings, Tuning),
]
# The settings know better: none means "for quality only"; a stage and a prior are written by hand.
DIFFERENT = {("GuardrailSettings", "anchored"), ("PriorSettings", "source")}


def shared_defaults() -> Iterator[tuple[str, str, object, object]]:
    for settings, core in PAIRS:
        for part in fields(core):
            field = settings.model_fields.get(part.name)
            if field is None or part.default is MISSING or field.is_required():
                continue
            if (settings.__name__, part.name) not in DIFFERENT:
                yield settings.__name__, part.name, field.get_default(), part.default


@pytest.mark.parametrize(("section", "name", "ours", "core"), list(shared_defaults()))
def test_a_default_of_the_settings_is_the_core_s(
    section: str, name: str, ours: object, core: object
) -> None:
    assert ours == getattr(core, "value", core), (section, name)


def test_an_empty_policy_section_is_the_built_in_policy() -> None:
    assert policy_of(PolicySettings(), PolicySettings()) == Policy()


def test_every_limit_of_the_core_can_be_set() -> None:
    assert {part.name for part in fields(Policy)} == set(PolicySettings.model_fields) - {"profile"}


def test_every_metric_can_be_named() -> None:
    assert set(get_args(MetricName)) == set(METRICS)


def test_a_target_s_own_section_is_merged_key_by_key_and_its_lists_replace() -> None:
    text = """
integrations: {gateways: [{kind: file, name: files, directory: out}]}
defaults:
  safety: {quality_min: 0.5, failure_rate_max: 0.1}
  stages: [{share: 0.1}]
  cooldown: 1h
targets:
  - name: t
    baseline: a
    safety: {quality_min: 0.7}
    stages: [{share: 0.2, bake_time: 2h}, {share: 0.3}]
    arms:
      - {name: a, model: m, params: {seed: 7}}
      - name: b
        model: m
        price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}
        prior: {quality: 0.8, n: 50, source: published}
"""
    settings = load_text(text, PATH, {}).settings

    policy = policy_of(settings.targets[0], settings.defaults)
    target = target_of(settings.targets[0])
    assert (policy.safety.quality_min, policy.safety.failure_rate_max) == (0.7, 0.1)
    assert [stage.share for stage in policy.stages] == [0.2, 0.3]
    assert policy.cooldown.total_seconds() == 3600
    assert target.arm("a").config.params == {"seed": 7}
    assert target.arm("b").price == Price(input_usd_per_mtok=1, output_usd_per_mtok=2)
    assert target.arm("b").prior == Prior(quality=0.8, n=50, source="published")


def test_quality_is_anchored_unless_said_otherwise() -> None:
    text = """
defaults:
  guardrails:
    - {metric: quality, margin: 0.1}
    - {metric: cost_usd, margin: 0.1}
    - {metric: failure_rate, margin: 0.1, anchored: true}
"""
    defaults = load_text(text, PATH, {}).settings.defaults

    policy = policy_of(PolicySettings(), defaults)
    assert [guardrail.anchored for guardrail in policy.guardrails] == [True, False, True]
