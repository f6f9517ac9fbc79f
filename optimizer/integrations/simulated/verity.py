"""What is true of an arm, as published: whether it harms beyond what the operator allows."""

import math

from scipy import special

from optimizer.integrations.simulated.configuration import WorldSettings
from optimizer.integrations.simulated.outcomes import Z_95
from optimizer.integrations.simulated.planning import SLOW_SHARE
from optimizer.integrations.simulated.published import PublishedArm, PublishedTarget


def true_harms(target: PublishedTarget, name: str, settings: WorldSettings) -> tuple[str, ...]:
    """Guardrails that the arm breaks against the target's baseline, if it takes all traffic.

    Examples:
        >>> from optimizer.integrations.simulated.published import published
        >>> refactoring, *_, chat = published()
        >>> true_harms(refactoring, "kimi-k2.5", WorldSettings())
        ('quality', 'latency_exceedance')
        >>> true_harms(refactoring, "gpt-5.4", WorldSettings())
        ()
        >>> true_harms(chat, "lepton", WorldSettings())
        ('failure_rate',)
    """
    arm, base = target.arm(name), target.baseline
    harms = {
        "quality": base.quality_mean - arm.quality_mean > settings.margin_of(target.name),
        "failure_rate": _refusals(arm, settings) > settings.failure_margin,
        "latency_exceedance": slow_share(arm, base) - SLOW_SHARE > settings.slow_margin,
    }
    return tuple(metric for metric, harmful in harms.items() if harmful)


def slow_share(arm: PublishedArm, base: PublishedArm) -> float:
    """Share of the arm's answers that are slower than the baseline's p95."""
    sigma = math.log(arm.latency_p95_ms / arm.latency_p50_ms) / Z_95
    z = math.log(base.latency_p95_ms / arm.latency_p50_ms) / sigma
    return float(special.ndtr(-z))


def _refusals(arm: PublishedArm, settings: WorldSettings) -> float:
    busy = settings.requests_per_hour / 3600 * arm.latency_p50_ms / 1000
    return arm.refused_rate * min(1.0, busy / arm.refused_at_concurrency)
