"""The plan check of a simulated world: whether its traffic can answer its questions in time."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from optimizer.integrations.simulated.configuration import WorldSettings
from optimizer.integrations.simulated.published import PublishedTarget
from optimizer.statistics.planning import hours_needed, promotion_bound, units_needed

SLOW_SHARE = 0.05
"""Share of the baseline's requests beyond its own p95."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """How much a guardrail asks of a rollout: measured requests an arm, and hours of canary."""

    target: str
    metric: str
    margin: float
    requests: int
    hours: float


def plan_check(targets: Sequence[PublishedTarget], settings: WorldSettings) -> tuple[Planned, ...]:
    """One row for each target and guardrail, if the candidate is as good as the baseline.

    Variances are those published of the baseline; the hours of quality include the label's age.

    Examples:
        >>> from optimizer.integrations.simulated.published import published
        >>> first = plan_check(published(), WorldSettings())[0]
        >>> first.metric, first.hours < WorldSettings().hold_hours
        ('quality', True)
    """
    return tuple(
        _planned(target, metric, margin, variance, settings)
        for target in targets
        for metric, margin, variance in (
            ("quality", settings.margin_of(target.name), target.baseline.quality_sd**2),
            ("failure_rate", settings.failure_margin, _of_share(target.baseline.failure_rate)),
            ("latency_exceedance", settings.slow_margin, _of_share(SLOW_SHARE)),
        )
    )


def _planned(
    target: PublishedTarget, metric: str, margin: float, variance: float, settings: WorldSettings
) -> Planned:
    labelled = metric == "quality"
    units = float(units_needed(variance, margin, bound=promotion_bound(settings.alpha)))
    hours = hours_needed(
        units,
        settings.requests_per_hour,
        shares=[share for share, _, _ in settings.stages],
        stage_hours=[hours for _, hours, _ in settings.stages],
        label_rate=settings.label_rate if labelled else 1.0,
    )
    lag = settings.label_maturity.total_seconds() / 3600 if labelled else 0.0
    return Planned(
        target=target.name,
        metric=metric,
        margin=margin,
        requests=ceil(units),
        hours=float(hours) + lag,
    )


def _of_share(share: float) -> float:
    return share * (1.0 - share)
