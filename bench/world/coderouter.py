"""CodeRouterBench as a world: four targets, eight arms, and measured rows whose means are known.

Every task was run once on every model, so a request is a task drawn at random and the row its
model has for it. What the table marks as missing stays unknown: a latency of 0, and the cost of
rows without a token record. Those rows keep their score.

References:
    CodeRouterBench, arXiv 2606.22902; prices are the benchmark's own.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from bench.world.outcomes import Outcomes, measured
from optimizer.targets import Arm, ModelConfig, Price, Prior, Target, TaskType

RESULTS: Final = "id_test_results.csv.gz"
MODELS: Final = "models.json"
BASELINE: Final = "claude-opus-4-6"
NO_RECORD: Final = "missing_token_record_zero_total"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Benchmark:
    """Measured outcomes by (target, arm), and the catalogue the optimizer is given.

    no_latency, no_cost: rows whose latency or cost is not known; baseline: the arm every target
    starts on; task_type: what all targets ask for.
    """

    outcomes: Mapping[tuple[str, str], Outcomes]
    arms: Mapping[str, tuple[Arm, ...]]
    no_latency: int
    no_cost: int
    baseline: str = BASELINE
    task_type: TaskType = TaskType.CODE_GENERATION

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets' names, sorted."""
        return tuple(sorted(self.arms))

    @property
    def models(self) -> tuple[str, ...]:
        """The arms' names, the same on every target."""
        return tuple(arm.name for arm in self.arms[self.targets[0]])

    def target(self, name: str, *, known_as: str) -> Target:
        """The target under a name of its own, on the most expensive model at first."""
        return Target(
            name=known_as,
            task_type=self.task_type,
            arms=self.arms[name],
            baseline=self.baseline,
        )

    def lost(self, target: str, arm: str) -> float:
        """True harm of the arm against the baseline: the score it loses."""
        return self.outcomes[target, self.baseline].quality - self.outcomes[target, arm].quality

    def saved(self, target: str, arm: str) -> float:
        """True relative saving of the arm against the baseline."""
        base = self.outcomes[target, self.baseline]
        return 1.0 - self.outcomes[target, arm].cost_usd / base.cost_usd


def read(folder: Path) -> Benchmark:
    """The benchmark from its directory.

    Raises:
        FileNotFoundError: it is not there.
    """
    rows = pd.read_csv(folder / RESULTS)
    listed = json.loads((folder / MODELS).read_text(encoding="utf-8"))["models"]
    unpriced, untimed = rows["cost_source"] == NO_RECORD, rows["latency_ms"] == 0
    tokens = ["cost_usd", "input_tokens", "output_tokens"]
    rows = rows.astype(dict.fromkeys([*tokens, "latency_ms"], np.float64))
    rows.loc[unpriced, tokens] = np.nan
    rows.loc[untimed, "latency_ms"] = np.nan
    dimensions = sorted(rows["dimension"].unique())
    cells = {(str(key[0]), str(key[1])): cell for key, cell in rows.groupby(["dimension", "model"])}
    outcomes = {
        key: measured(
            score=cell["score"],
            cost_usd=cell["cost_usd"],
            latency_ms=cell["latency_ms"],
            input_tokens=cell["input_tokens"],
            output_tokens=cell["output_tokens"],
        )
        for key, cell in cells.items()
    }
    return Benchmark(
        outcomes=outcomes,
        arms={
            name: tuple(_arm(item, name, rows) for item in listed if (name, item["model"]) in cells)
            for name in dimensions
        },
        no_latency=int(untimed.sum()),
        no_cost=int(unpriced.sum()),
    )


def _arm(item: Mapping[str, object], target: str, rows: pd.DataFrame) -> Arm:
    """The arm with its price, and as its prior the mean of the model's means on the other targets.

    The target's own rows are the truth and stay hidden, so that a prior may be wrong.
    """
    name = str(item["model"])
    elsewhere = rows[rows["dimension"] != target]
    means = elsewhere[elsewhere["model"] == name].groupby("dimension")[["score", "latency_ms"]]
    known = means.mean().mean()
    return Arm(
        name=name,
        config=ModelConfig(model=name, provider=str(item["provider"])),
        price=Price(
            input_usd_per_mtok=float(str(item["input_per_1m"])),
            output_usd_per_mtok=float(str(item["output_per_1m"])),
        ),
        prior=Prior(
            quality=float(known["score"]),
            n=worth(elsewhere, BASELINE),
            latency_ms=float(known["latency_ms"]),
            source="CodeRouterBench, the other targets",
        ),
    )


def worth(elsewhere: pd.DataFrame, baseline: str) -> int:
    """How many answers on a new target the means of other targets are worth.

    Args:
        elsewhere: rows of the other targets: dimension, model, score.
        baseline: the model that the others are compared with.

    Models differ from the baseline by other amounts on every target. The gap on a new one is
    known up to ``s^2 (1 + 1/k)``, s^2 the variance of the gaps over the k known targets; n answers
    of each of two arms tell it up to ``2 q (1 - q) / n``. Hundreds of answers on other tasks say no
    more.
    """
    table = elsewhere.pivot_table(index="dimension", columns="model", values="score")
    gaps = table.drop(columns=baseline).sub(table[baseline], axis=0)
    spread = float(gaps.var(ddof=1).mean()) * (1.0 + 1.0 / len(gaps))
    level = float(table.to_numpy().mean())
    return max(1, round(2.0 * level * (1.0 - level) / spread)) if spread > 0 else len(elsewhere)
