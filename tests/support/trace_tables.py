"""Small tables of the columns that the replayed traces have, drawn from a seed."""

from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pandas as pd

DAYS: Final = 3
"""Days of the clients' rates."""


def write(folder: Path) -> None:
    """Every table under its data set's name."""
    numbers = np.random.default_rng(11)
    _write_azure(folder, numbers)
    _write_servegen(folder)
    _write_answers(folder, numbers)


def _write_azure(folder: Path, numbers: np.random.Generator) -> None:
    (folder / "azure_llm_trace").mkdir()
    for name, n, hours in (
        ("2023_conv", 8_000, 1),
        ("2023_code", 3_000, 1),
        ("2024_sample", 3_000, 26),
    ):
        seconds = np.sort(numbers.uniform(0.0, 3_600.0 * hours, n))
        stamps = pd.Timestamp("2023-11-16 18:15:46") + pd.to_timedelta(seconds, unit="s")
        pd.DataFrame(
            {
                "TIMESTAMP": stamps.strftime("%Y-%m-%d %H:%M:%S.%f"),
                "ContextTokens": numbers.integers(200, 2_000, n),
                "GeneratedTokens": numbers.integers(10, 300, n),
            }
        ).sample(frac=1.0, random_state=3).to_csv(
            folder / "azure_llm_trace" / f"azure_{name}.csv.gz", index=False
        )


def _write_servegen(folder: Path) -> None:
    """Thirty clients; the service rests in the first hour of every day."""
    (folder / "servegen").mkdir()
    steps = [t for t in range(0, DAYS * 86_400, 600) if t % 86_400 >= 3_600]
    models = ("m-small", "m-large")
    rates = pd.DataFrame(
        [
            (
                model,
                client,
                t,
                1.0 + client % 3,
                0.8 + 0.1 * (client % 9),
                ("Gamma", "Weibull")[client % 2],
            )
            for model in models
            for client in range(30)
            for t in steps
        ],
        columns=["model", "client", "t_s", "rate_rps", "cv", "dist"],
    )
    tokens = pd.DataFrame(
        [
            (model, client, 0, quantity, mean)
            for model in models
            # Client 29 has no token sizes.
            for client in range(29)
            for quantity, mean in (("input_tokens", 900.0), ("output_tokens", 100.0))
        ],
        columns=["model", "client", "t_s", "quantity", "mean"],
    )
    with duckdb.connect() as connection:
        for name, rows in (("client_rates", rates), ("client_token_quantiles", tokens)):
            connection.register("rows", rows)
            path = folder / "servegen" / f"{name}.parquet"
            connection.execute(f"COPY rows TO '{path}' (FORMAT parquet)")


def _write_answers(folder: Path, numbers: np.random.Generator) -> None:
    answers: list[dict[str, object]] = []
    for provider, failing in (("quick", 0), ("slow", 0), ("sick", 80)):
        for number in range(100):
            failed = number < failing
            seconds = float(numbers.lognormal(0.5 if provider == "slow" else 0.0, 0.5))
            answers.append(
                {
                    "provider": provider,
                    "model": "llama",
                    "error_code": 429 if failed else -100 if number == 99 else None,
                    "end_to_end_latency_s": 0.0 if failed else seconds,
                }
            )
    tables: dict[str, list[dict[str, object]]] = {
        "llmperf_leaderboard/individual": answers,
        "thefastest_ai/snapshots": [
            {"model": model, "region": region, "ttft_s": float(numbers.lognormal(-1.0, 0.6))}
            for model in ("one", "two")
            for region in ("sea", "cdg")
            for _ in range(40)
        ],
        "coderouterbench/id_test_results": [
            {"model": model, "dimension": dimension, "latency_ms": latency}
            for model in ("claude-opus-4-6", "another")
            for dimension in ("first", "second")
            for latency in (0.0, *numbers.lognormal(8.0, 0.6, 60).tolist())
        ],
    }
    for name, rows in tables.items():
        path = folder / f"{name}.csv.gz"
        path.parent.mkdir()
        pd.DataFrame(rows).to_csv(path, index=False)
