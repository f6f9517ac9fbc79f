"""RouteLLM's correctness table as a world: 58 targets, a strong and a weak model.

Every prompt was answered by both models, so a request is a prompt drawn at random and whether its
model was right on it. The table has no costs: a request costs its prompt's tokens, a quarter of its
characters, at the blended price that the paper gives each model.

References:
    RouteLLM, arXiv 2406.18665: 24.7 and 0.24 USD per million tokens; tables of lm-sys/RouteLLM.
"""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from bench.world.coderouter import Benchmark, worth
from bench.world.outcomes import measured
from optimizer.targets import Arm, ModelConfig, Price, Prior, TaskType

RESULTS: Final = "mmlu_gsm8k_correct.csv.gz"
STRONG, WEAK = "gpt-4-1106", "mixtral-8x7b"
USD_PER_MTOK: Final = {STRONG: 24.7, WEAK: 0.24}
COLUMNS: Final = {STRONG: "gpt4_1106_correct", WEAK: "mixtral_8x7b_correct"}
CHARS_PER_TOKEN: Final = 4.0


def read(folder: Path) -> Benchmark:
    """The benchmark from its directory; all targets start on the strong model.

    Raises:
        FileNotFoundError: it is not there.
    """
    rows = pd.read_csv(folder / RESULTS)
    rows["dimension"] = rows["subject"].fillna(rows["benchmark"])
    both = [
        rows[["dimension"]].assign(model=model, score=rows[column].astype(np.float64))
        for model, column in COLUMNS.items()
    ]
    scores = pd.concat(both, ignore_index=True)
    outcomes = {}
    for name, own in rows.groupby("dimension"):
        tokens = np.ceil(own["prompt_chars"].to_numpy(dtype=np.float64) / CHARS_PER_TOKEN)
        unknown = np.full(tokens.size, np.nan)
        for model, column in COLUMNS.items():
            outcomes[str(name), model] = measured(
                score=own[column],
                cost_usd=tokens * USD_PER_MTOK[model] * 1e-6,
                latency_ms=unknown,
                input_tokens=tokens,
                output_tokens=np.zeros(tokens.size),
            )
    names = sorted({name for name, _ in outcomes})
    return Benchmark(
        outcomes=outcomes,
        arms={name: tuple(_arm(model, name, scores) for model in COLUMNS) for name in names},
        no_latency=len(scores),
        no_cost=0,
        baseline=STRONG,
        task_type=TaskType.QUESTION_ANSWERING,
    )


def _arm(model: str, target: str, scores: pd.DataFrame) -> Arm:
    """The arm with its price, and as its prior the mean of its means on the other targets."""
    elsewhere = scores[scores["dimension"] != target]
    means = elsewhere[elsewhere["model"] == model].groupby("dimension")["score"].mean()
    usd = USD_PER_MTOK[model]
    return Arm(
        name=model,
        config=ModelConfig(model=model),
        price=Price(input_usd_per_mtok=usd, output_usd_per_mtok=usd),
        prior=Prior(
            quality=float(means.mean()),
            n=worth(elsewhere, STRONG),
            source="RouteLLM, the other targets",
        ),
    )
