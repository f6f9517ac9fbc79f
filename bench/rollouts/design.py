"""What a rollout watches: its guardrails, how the error is split among them, and the margins."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from bench.rollouts.independent import name_of
from bench.rollouts.world import COST, FAILURE, LABELS, LATENCY, QUALITY, REQUESTS, SLOW

ALPHA: Final = 0.05
PROMOTE_ALPHA: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """One metric of a rollout.

    alpha: its part of the error of a false rollback; sign: +1 where lower is better; share:
    whether it counts events; denominator: what a mean is taken over; measured: the part of the
    requests that is forecast to count. margin: harm that promotion must exclude, in the metric's
    unit, 0 where the metric must improve, or none where promotion does not ask.
    """

    name: str
    alpha: float
    sign: int = 1
    share: bool = True
    denominator: str = REQUESTS
    measured: float = 1.0
    margin: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """Guardrails, and the part of the error that the five-minute guard has; 0 for no guard."""

    guardrails: tuple[Guardrail, ...]
    monitors: float = 0.0

    @property
    def required(self) -> tuple[Guardrail, ...]:
        """What promotion asks for."""
        return tuple(each for each in self.guardrails if each.margin is not None)


def unpromoted(design: Design) -> Design:
    """The same without any question of promotion: rollouts go on until they are rolled back."""
    kept = tuple(replace(each, margin=None) for each in design.guardrails)
    return replace(design, guardrails=kept)


SPLIT: Final[Mapping[str, float]] = {FAILURE: 0.025, SLOW: 0.006, QUALITY: 0.006, COST: 0.003}
MONITORS: Final = 0.010
FAILURE_MONITOR: Final = 0.003125
"""What the judge's own tests between looks may spend on failures; its other metrics share more."""

FAILURE_MARGIN: Final = 0.005
SLOW_MARGIN: Final = 0.02
QUALITY_MARGIN: Final = 0.02
LABELLED: Final = 0.7


def one(alpha: float = ALPHA, *, margin: float | None = None) -> Design:
    """Failures alone, no guard."""
    return Design(guardrails=(Guardrail(name=FAILURE, alpha=alpha, margin=margin),))


def failures_alone() -> Design:
    """Failures with their part of the default split, and the guard with what it has for them."""
    alone = Guardrail(name=FAILURE, alpha=SPLIT[FAILURE])
    return Design(guardrails=(alone,), monitors=FAILURE_MONITOR)


def several(guardrails: int) -> Design:
    """Failure-like metrics that share what the guard leaves."""
    alpha = (ALPHA - MONITORS) / guardrails
    return Design(
        guardrails=tuple(
            Guardrail(name=name_of(metric), alpha=alpha) for metric in range(guardrails)
        ),
        monitors=MONITORS,
    )


def default(*, cost_is_the_goal: bool = False) -> Design:
    """The default split: failures, slow requests, quality and cost, and the guard."""
    return Design(
        guardrails=(
            Guardrail(name=FAILURE, alpha=SPLIT[FAILURE], margin=FAILURE_MARGIN),
            Guardrail(name=SLOW, alpha=SPLIT[SLOW], margin=SLOW_MARGIN),
            Guardrail(
                name=QUALITY,
                alpha=SPLIT[QUALITY],
                sign=-1,
                share=False,
                denominator=LABELS,
                measured=LABELLED,
                margin=QUALITY_MARGIN,
            ),
            Guardrail(
                name=COST,
                alpha=SPLIT[COST],
                share=False,
                margin=0.0 if cost_is_the_goal else None,
            ),
        ),
        monitors=MONITORS,
    )


def skewed() -> Design:
    """The default split where mean latency, heavy-tailed, stands in for quality."""
    latency = Guardrail(name=LATENCY, alpha=SPLIT[QUALITY], share=False)
    kept = tuple(each for each in default().guardrails if each.name != QUALITY)
    return Design(guardrails=(*kept, latency), monitors=MONITORS)


def cost_alone() -> Design:
    """Cost with the whole error, no guard."""
    return Design(guardrails=(Guardrail(name=COST, alpha=ALPHA, share=False),))
