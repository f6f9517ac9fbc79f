"""Triggers and the fallback as an operator writes them."""

from pathlib import Path

import pytest

from optimizer.errors import ConfigError
from optimizer.evidence import Severity
from optimizer.settings import load_text, target_of
from optimizer.settings.model import Strategies
from optimizer.strategies.threshold import Response, Settings, Threshold
from optimizer.wiring import STRATEGIES

PATH = Path("/etc/llmopt/optimizer.yaml")
TARGET = """
integrations: {gateways: [{kind: file, name: files, directory: out}]}
targets:
  - name: t
    baseline: a
    fallback: FALLBACK
    arms: [{name: a, model: m}, {name: b, model: m}]
"""


def built(text: str) -> Settings:
    section: Strategies = load_text(text, PATH, {}).settings.strategies
    strategy = STRATEGIES["threshold"](section)
    assert isinstance(strategy, Threshold)
    return strategy.settings


def test_the_defaults_are_the_core_s() -> None:
    assert built("") == Settings()


def test_every_value_reaches_the_strategy() -> None:
    text = """
strategies:
  thresholds:
    latency_increase_pct: 30
    cost_increase_pct: 40
    quality_drop_pct: 5
    failure_increase_points: 3
    min_requests: 50
    responses: {critical: fallback, error: adjust, warning: log}
    cooldown: 2h
    max_attempts: 1
"""

    found = built(text)

    assert (found.latency_increase, found.cost_increase, found.quality_drop) == (0.3, 0.4, 0.05)
    assert (found.failure_increase, found.min_requests, found.max_attempts) == (0.03, 50, 1)
    assert found.cooldown.total_seconds() == 7200
    assert found.responses == {
        Severity.CRITICAL: Response.FALLBACK,
        Severity.ERROR: Response.ADJUST,
        Severity.WARNING: Response.LOG,
    }


def test_a_fallback_is_one_of_the_arms() -> None:
    known = load_text(TARGET.replace("FALLBACK", "b"), PATH, {}).settings
    assert target_of(known.targets[0]).fallback == "b"

    with pytest.raises(ConfigError, match=r"targets\[0\].fallback: 'c' is none of the target's"):
        load_text(TARGET.replace("FALLBACK", "c"), PATH, {})
