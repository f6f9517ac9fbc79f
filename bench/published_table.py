"""Regenerate the simulated world's table of published measurements from the data sets it quotes.

    python bench/published_table.py --data DIR [--out FILE]

``DIR`` holds one folder a data set: ``coderouterbench/id_test_results.csv.gz``,
``llmperf_leaderboard/individual.csv.gz``, ``model_prices/litellm_prices.csv.gz`` with
``genai_prices_data.json.gz``, ``routellm/mt_bench_scores.csv.gz`` and
``servegen/model_rate_10min.csv.gz``. Writes ``published.csv`` and ``hours.csv`` into ``--out``
(by default where the simulated world reads them); the same data give the same bytes.
"""

import argparse
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

HOME = Path(__file__).parents[1] / "optimizer" / "integrations" / "simulated"
GROUPS = 10
REFUSED, BROKEN = 429, -1
CONCURRENCY = 5

ROUTER = "CodeRouterBench, arXiv 2606.22902 (repository davidpizon/agent-as-a-router at 7772d928)"
PERF = "LLMPerf leaderboard (ray-project/llmperf-leaderboard at 27aa9b6a)"
PRICES = "model prices (pydantic/genai-prices at 47df840a, BerriAI/litellm 1.109.1)"
BENCH = "MT-bench scores of Mixtral-8x7B by GPT-4 (lm-sys/RouteLLM at 0b64fdaf)"
SERVE = "ServeGen m-small (alibaba/ServeGen at f891d118)"

CODE = {
    "code-refactoring": (
        "code_refactoring",
        "code_generation",
        ("claude-opus-4-6", "claude-sonnet-4-6", "gpt-5.4", "kimi-k2.5", "MiniMax-M2.7"),
    ),
    "bug-fixing": (
        "bug_fixing",
        "code_generation",
        ("claude-opus-4-6", "claude-sonnet-4-6", "gpt-5.4", "glm-5", "MiniMax-M2.7"),
    ),
    "code-generation": (
        "code_generation",
        "multi_language",
        ("claude-opus-4-6", "claude-sonnet-4-6", "gpt-5.4", "glm-5"),
    ),
    "multi-language": (
        "multi_language",
        "code_generation",
        ("claude-opus-4-6", "claude-sonnet-4-6", "kimi-k2.5", "MiniMax-M2.7"),
    ),
}
"""target -> the benchmark's dimension, that of its priors, arms (baseline first)."""

CHAT = {
    "chat-70b": ("llama-2-70b-chat", ("bedrock", "groq", "together", "anyscale", "replicate")),
    "chat-13b": ("llama-2-13b-chat", ("bedrock", "lepton", "together", "anyscale")),
}
"""target -> the benchmark's model, providers (baseline first)."""

PRICED_AS = {
    ("llama-2-70b-chat", "bedrock"): ("litellm", "meta.llama2-70b-chat-v1"),
    ("llama-2-70b-chat", "groq"): ("genai", "groq", "llama2-70b-4096"),
    ("llama-2-70b-chat", "together"): ("genai", "together", "meta-llama/Llama-2-70b-chat-hf"),
    ("llama-2-70b-chat", "anyscale"): ("litellm", "anyscale/meta-llama/Llama-2-70b-chat-hf"),
    ("llama-2-70b-chat", "replicate"): ("litellm", "replicate/meta/llama-2-70b-chat"),
    ("llama-2-13b-chat", "bedrock"): ("litellm", "meta.llama2-13b-chat-v1"),
    # No table lists Lepton; OpenRouter resold the same model of such hosts.
    ("llama-2-13b-chat", "lepton"): ("genai", "openrouter", "meta-llama/llama-2-13b-chat"),
    ("llama-2-13b-chat", "together"): ("genai", "together", "meta-llama/Llama-2-13b-chat-hf"),
    ("llama-2-13b-chat", "anyscale"): ("litellm", "anyscale/meta-llama/Llama-2-13b-chat-hf"),
}

COLUMNS = (
    "target",
    "task_type",
    "is_baseline",
    "arm",
    "model",
    "provider",
    "n",
    "quality_mean",
    "quality_sd",
    "quality_points",
    "cost_usd",
    "cost_sd",
    "input_tokens",
    "output_tokens",
    "input_usd_per_mtok",
    "output_usd_per_mtok",
    "latency_p50_ms",
    "latency_p95_ms",
    "failure_rate",
    "refused_rate",
    "refused_at_concurrency",
    "prior_quality",
    "prior_n",
    "prior_cost_usd",
    "prior_latency_ms",
    "prior_source",
    "source",
    "licence",
)

Row = dict[str, object]


def main() -> None:
    """Write both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="directory of the data sets")
    parser.add_argument("--out", type=Path, default=HOME, help="where the tables are written")
    given = parser.parse_args()
    (given.out / "published.csv").write_text(published(given.data), encoding="utf-8")
    (given.out / "hours.csv").write_text(hours(given.data), encoding="utf-8")


def published(data: Path) -> str:
    """One row an arm, as CSV text."""
    perf = pd.read_csv(data / "llmperf_leaderboard" / "individual.csv.gz")
    rows = [*_code_rows(data, perf), *_chat_rows(data, perf)]
    return str(pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False, lineterminator="\n"))


def hours(data: Path) -> str:
    """Mean rate of each hour of the day relative to the mean of all, as CSV text.

    The recording is taken to start at midnight; buckets at rate 0 are missing data and left out.
    """
    rates = pd.read_csv(data / "servegen" / "model_rate_10min.csv.gz")
    small = rates[(rates["model"] == "m-small") & (rates["rate_rps"] > 0)]
    by_hour = small["rate_rps"].groupby(small["t_s"] // 3600 % 24).mean() / small["rate_rps"].mean()
    table = pd.DataFrame(
        {
            "hour": by_hour.index,
            "relative_rate": by_hour.round(4).to_numpy(),
            "source": SERVE,
            "licence": "Apache-2.0",
        }
    )
    return str(table.to_csv(index=False, lineterminator="\n"))


def _code_rows(data: Path, perf: pd.DataFrame) -> list[Row]:
    results = pd.read_csv(data / "coderouterbench" / "id_test_results.csv.gz")
    # 13 rows have no token record: their cost of 0 is missing, not free.
    results = results[results["cost_source"] != "missing_token_record_zero_total"]
    pricing = json.loads((data / "coderouterbench" / "models.json").read_text())["models"]
    price = {item["model"]: item for item in pricing}
    rows: list[Row] = []
    for target, (dimension, elsewhere, arms) in CODE.items():
        for arm in arms:
            cell = results[(results["dimension"] == dimension) & (results["model"] == arm)]
            known = results[(results["dimension"] == elsewhere) & (results["model"] == arm)]
            rows.append(
                {
                    "target": target,
                    "task_type": "code_generation",
                    "is_baseline": int(arm == arms[0]),
                    "arm": arm,
                    "model": arm,
                    "provider": price[arm]["provider"].lower(),
                    **_scores(cell["score"].to_numpy()),
                    **_cost(cell["cost_usd"].to_numpy()),
                    **_tokens(cell["input_tokens"], cell["output_tokens"]),
                    "input_usd_per_mtok": price[arm]["input_per_1m"],
                    "output_usd_per_mtok": price[arm]["output_per_1m"],
                    **_latency(cell["latency_ms"].to_numpy()),
                    "failure_rate": _background(perf),
                    "refused_rate": 0.0,
                    "refused_at_concurrency": CONCURRENCY,
                    **_prior(known),
                    "prior_source": f"CodeRouterBench, {elsewhere}",
                    "source": f"{ROUTER}, {dimension}; failures: pooled over {PERF} less Lepton",
                    "licence": "MIT; failures Apache-2.0",
                }
            )
    return rows


def _chat_rows(data: Path, perf: pd.DataFrame) -> list[Row]:
    bench = pd.read_csv(data / "routellm" / "mt_bench_scores.csv.gz")
    mixtral = bench[bench["model"].str.contains("Mixtral")]["score"].to_numpy(dtype=np.float64)
    quality = (mixtral - 1.0) / 9.0
    prices = _price_tables(data)
    rows: list[Row] = []
    for target, (model, providers) in CHAT.items():
        for provider in providers:
            cell = perf[(perf["model"] == model) & (perf["provider"] == provider)]
            failed = cell["error_code"].isin([REFUSED, BROKEN])
            answered = cell[~failed]
            tokens = (answered["number_input_tokens"], answered["number_output_tokens"])
            price = prices[PRICED_AS[model, provider]]
            cost = (tokens[0] * price[0] + tokens[1] * price[1]).to_numpy() / 1e6
            latency = _latency(answered["end_to_end_latency_s"].to_numpy() * 1000)
            refused = round(float((cell["error_code"] == REFUSED).mean()), 6)
            rows.append(
                {
                    "target": target,
                    "task_type": "question_answering",
                    "is_baseline": int(provider == providers[0]),
                    "arm": provider,
                    "model": model,
                    "provider": provider,
                    **_scores(quality),
                    "n": len(cell),
                    **_cost(cost),
                    **_tokens(*tokens),
                    "input_usd_per_mtok": price[0],
                    "output_usd_per_mtok": price[1],
                    **latency,
                    "failure_rate": _background(perf),
                    "refused_rate": refused,
                    "refused_at_concurrency": CONCURRENCY,
                    "prior_quality": round(float(quality.mean()), 6),
                    "prior_n": len(quality),
                    "prior_cost_usd": round(float(cost.mean()), 9),
                    "prior_latency_ms": latency["latency_p50_ms"],
                    "prior_source": f"price list and LLMPerf leaderboard, {model}",
                    "source": f"{PERF}, {model}; {PRICES}: {' '.join(PRICED_AS[model, provider])}; "
                    f"quality: the same model everywhere, spread of {BENCH}",
                    "licence": "Apache-2.0; prices MIT",
                }
            )
    return rows


def _background(perf: pd.DataFrame) -> float:
    """Failed share over all hosts but the one that refuses: 0 of 150 does not mean never."""
    others = perf[perf["provider"] != "lepton"]
    return round(float(others["error_code"].isin([REFUSED, BROKEN]).mean()), 6)


def _scores(scores: npt.NDArray[np.float64]) -> Row:
    """Mean, sd, and the means of ten equal parts of the sorted scores with their sizes."""
    parts = np.array_split(np.sort(scores), GROUPS)
    return {
        "n": len(scores),
        "quality_mean": round(float(scores.mean()), 6),
        "quality_sd": round(float(scores.std(ddof=1)), 6),
        "quality_points": " ".join(f"{part.mean():.6f}x{len(part)}" for part in parts),
    }


def _cost(cost_usd: npt.NDArray[np.float64]) -> Row:
    return {
        "cost_usd": round(float(cost_usd.mean()), 9),
        "cost_sd": round(float(cost_usd.std(ddof=1)), 9),
    }


def _tokens(given: "pd.Series[Any]", made: "pd.Series[Any]") -> Row:
    return {
        "input_tokens": round(float(given.mean()), 2),
        "output_tokens": round(float(made.mean()), 2),
    }


def _latency(latency_ms: npt.NDArray[np.float64]) -> Row:
    """Quantiles of the known latencies: 0 means that none was recorded."""
    known = latency_ms[latency_ms > 0]
    return {
        "latency_p50_ms": round(float(np.quantile(known, 0.5)), 1),
        "latency_p95_ms": round(float(np.quantile(known, 0.95)), 1),
    }


def _prior(cell: pd.DataFrame) -> Row:
    return {
        "prior_quality": round(float(cell["score"].mean()), 6),
        "prior_n": len(cell),
        "prior_cost_usd": round(float(cell["cost_usd"].mean()), 9),
        "prior_latency_ms": _latency(cell["latency_ms"].to_numpy())["latency_p50_ms"],
    }


def _price_tables(data: Path) -> dict[tuple[str, ...], tuple[float, float]]:
    """USD per million tokens in and out, by table and name."""
    found: dict[tuple[str, ...], tuple[float, float]] = {}
    litellm = pd.read_csv(data / "model_prices" / "litellm_prices.csv.gz")
    current = litellm[litellm["litellm_version"] == "1.109.1"]
    for name, given, made in zip(
        current["model"],
        current["input_usd_per_token"] * 1e6,
        current["output_usd_per_token"] * 1e6,
        strict=True,
    ):
        found["litellm", str(name)] = (round(given, 6), round(made, 6))
    with gzip.open(data / "model_prices" / "genai_prices_data.json.gz") as file:
        genai = json.load(file)
    for provider in genai if isinstance(genai, list) else genai["providers"]:
        for model in provider["models"]:
            prices = model["prices"]
            if isinstance(prices, dict) and isinstance(prices.get("input_mtok"), float):
                pair = (prices["input_mtok"], prices.get("output_mtok", 0.0))
                found["genai", provider["id"], model["id"]] = pair
    return found


if __name__ == "__main__":
    main()
