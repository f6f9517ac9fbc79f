"""What people are told of sick targets: once, and that nothing is known where nothing is."""

import dataclasses
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.analyzers import Drift, Quality
from optimizer.evidence import Insight, Severity
from optimizer.strategies.threshold import Response
from scenes import NOW, Traffic
from trigger_scene import HOUR, considered, everywhere, promotion, scene, shift, way_out


def test_without_a_fallback_a_critical_alert_says_so() -> None:
    given = scene(way_out(24 * HOUR))

    found = considered(given, shift("quality_drop"))

    assert found is not None
    assert found.proposal is None
    (told,) = found.insights
    assert told.severity is Severity.CRITICAL
    assert "no fallback arm is configured" in told.description


def test_what_is_only_to_be_logged_is_told_and_not_proposed() -> None:
    found = considered(
        scene(promotion()), shift("latency_increase"), chosen=everywhere(Response.LOG)
    )

    assert found is not None
    assert found.proposal is None
    assert [each.severity for each in found.insights] == [Severity.WARNING]


def told_at(ago: timedelta, severity: Severity) -> tuple[datetime, Insight]:
    claim = shift("latency_increase")
    return NOW - ago, dataclasses.replace(
        claim, analyzer="threshold", kind="trigger:latency_increase", severity=severity
    )


@pytest.mark.parametrize(
    ("ago", "severity", "times"),
    [
        (HOUR, Severity.WARNING, 0),
        (HOUR, Severity.INFO, 1),
        (6 * HOUR, Severity.WARNING, 1),
    ],
)
def test_nothing_is_told_twice_within_the_cooldown(
    ago: timedelta, severity: Severity, times: int
) -> None:
    given = scene(promotion(), told=(told_at(ago, severity),))

    found = considered(given, shift("latency_increase"))

    assert found is not None
    assert found.proposal is not None
    assert len(found.insights) == times


@settings(max_examples=10)
@given(hours=st.integers(min_value=1, max_value=95), failing=st.booleans())
def test_an_arm_without_a_past_never_fires_on_it_and_that_is_said(
    hours: int, *, failing: bool
) -> None:
    small = Traffic(cost_usd=0.002, failed=40 if failing else 10)
    given = scene(promotion(), small=small, span=hours)

    found = considered(given, *Drift()(given), *Quality()(given))

    assert found is not None
    assert found.proposal is None
    (said,) = found.insights
    assert (said.kind, said.severity) == ("no_data", Severity.INFO)
    assert f"{hours} of 96 hours of its own" in said.description


def test_a_target_without_traffic_is_unknown_and_not_fine() -> None:
    given = dataclasses.replace(scene(promotion()), now=NOW + 4 * HOUR)

    found = considered(given)

    assert found is not None
    assert found.insights[0].kind == "no_data"
    assert "nothing is concluded" in found.insights[0].description
