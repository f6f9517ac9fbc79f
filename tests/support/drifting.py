"""Arms whose hours wander and whose newest hours are changed: what a drift detector must tell."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from optimizer.evidence import Scene
from optimizer.policy import Policy
from optimizer.targets import Arm, ModelConfig
from scenes import Traffic, World

HOURS = 336
SUPPORT = ("support", "large")
Change = Callable[[Traffic], Traffic]


def arm(name: str, model: str) -> Arm:
    """An arm on a model."""
    return Arm(name=name, config=ModelConfig(model=model))


def lived(
    seed: int, *, span: int = HOURS, change: Change | None = None, hours: int = 12, rho: float = 0.5
) -> list[Traffic]:
    """Hours of an arm whose means wander by a few percent; the newest ones are changed."""
    random = np.random.default_rng(seed)
    walk = random.standard_normal((4, span))
    for hour in range(1, span):
        walk[:, hour] = rho * walk[:, hour - 1] + np.sqrt(1 - rho**2) * walk[:, hour]
    wave = 1 + 0.3 * np.sin(np.arange(span) / 24 * 2 * np.pi)
    series = [
        Traffic(
            n=400,
            failed=int(random.binomial(400, 0.02)),
            latency_ms=float(800 * wave[hour] * np.exp(0.05 * walk[0, hour])),
            cost_usd=float(0.004 * np.exp(0.04 * walk[1, hour])),
            quality=float(random.binomial(200, 0.9) / 200),
            input_tokens=int(9_000 * np.exp(0.04 * walk[2, hour])),
            output_tokens=int(2_000 * np.exp(0.04 * walk[3, hour])),
        )
        for hour in range(span)
    ]
    if change is None:
        return series
    return [*series[: span - hours], *map(change, series[span - hours :])]


def scaled(**factors: float) -> Change:
    """Traffic whose fields are multiplied."""

    def change(traffic: Traffic) -> Traffic:
        values = {name: getattr(traffic, name) * factor for name, factor in factors.items()}
        whole: dict[str, Any] = {
            name: int(value) if isinstance(getattr(traffic, name), int) else value
            for name, value in values.items()
        }
        return dataclasses.replace(traffic, **whole)

    return change


LONGER = scaled(output_tokens=1.3)
ONE_MODEL: Mapping[str, tuple[Arm, ...]] = {f"t{index}": (arm("a", "gpt-x"),) for index in range(4)}


def scene(
    series: Mapping[tuple[str, str], Sequence[Traffic | None]],
    arms: Mapping[str, tuple[Arm, ...]] | None = None,
    **extra: Any,  # noqa: ANN401 - fields of a scene
) -> Scene:
    """A scene of these series, whose scores are mature at once."""
    known = arms or {"support": (arm("large", "gpt-x"),)}
    policy = Policy(label_maturity=timedelta(0), hold_expires_after=timedelta(hours=72))
    return World(traffic=dict(series), arms=known, policy=policy, extra=extra).scene()
