"""Off-policy estimates of a router on recorded answers of two models, replayed many times.

Source: correctness of Mixtral-8x7B and GPT-4-1106 on 14,042 MMLU questions, lm-sys/RouteLLM at
0b64fdaf (Apache-2.0). Both answers of every question are known, and so is what any router is worth.
The log sends a question to the strong model by chance; the router that is asked for sends the 40 %
that look hardest, by a noisy guess of how the weak model does in their subject.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from datasets import datasets
from optimizer.statistics.offpolicy import PolicyValue, doubly_robust, ips, snips
from optimizer.statistics.offpolicy_log import FloatArray, IntArray, importance, log_of

pytestmark = pytest.mark.slow

FOLDER = "routellm"
REPLAYS = 300
LOGS = 9_000
STRONG_SHARE = 0.4
NOISE = 0.12


@dataclass(frozen=True, kw_only=True)
class Questions:
    """correct: (Q, 2), weak and strong; subject: (Q,); routed: where the router sends it, (Q,)."""

    correct: FloatArray
    subject: IntArray
    routed: IntArray


def questions() -> Questions:
    rows = pd.read_csv(datasets(FOLDER) / FOLDER / "mmlu_gsm8k_correct.csv.gz")
    rows = rows[rows["benchmark"] == "mmlu"]
    correct = rows[["mixtral_8x7b_correct", "gpt4_1106_correct"]].to_numpy(dtype=np.float64)
    easy = rows.groupby("subject")["mixtral_8x7b_correct"].transform("mean").to_numpy()
    guess = easy + np.random.default_rng(1).normal(scale=NOISE, size=len(rows))
    routed = np.zeros(len(rows), dtype=np.int64)
    routed[np.argsort(guess, kind="stable")[: int(STRONG_SHARE * len(rows))]] = 1
    return Questions(
        correct=correct,
        subject=np.unique(rows["subject"], return_inverse=True)[1].astype(np.int64),
        routed=routed,
    )


def agreeing(reward: FloatArray, same: np.ndarray) -> PolicyValue:
    """The mean over logs in which the router happens to agree, with its naive error: forbidden."""
    chosen = reward[same]
    return PolicyValue(
        value=chosen.mean(), influence=(chosen - chosen.mean()) / chosen.size, clusters=chosen.size
    )


def replayed(asked: Questions, explored: float) -> pd.DataFrame:
    """Error of each estimator, and whether its 95 % interval holds the truth, by replay."""
    size = len(asked.subject)
    truth = asked.correct[np.arange(size), asked.routed].mean()
    found = []
    for seed in range(REPLAYS):
        rng = np.random.default_rng(seed)
        pick = rng.integers(0, size, LOGS)
        arm = (rng.random(LOGS) < explored / 2).astype(np.int64)
        reward = asked.correct[pick, arm]
        chance = np.where(arm == 1, explored / 2, 1 - explored / 2)
        log = log_of(arm, chance, reward, segment=asked.subject[pick])
        policy = np.eye(2)[asked.routed[pick]]
        weight = importance(log, policy)
        for name, value in {
            "agreeing": agreeing(reward, arm == asked.routed[pick]),
            "ips": ips(log, weight),
            "snips": snips(log, weight),
            "dr": doubly_robust(log, policy, weight),
        }.items():
            error = value.value - truth
            found.append((name, error, abs(error) <= 1.96 * value.variance**0.5))
    return pd.DataFrame(found, columns=["name", "error", "covered"])


@pytest.mark.parametrize(("explored", "rmse"), [(0.05, 0.023), (0.20, 0.0115)])
def test_weighted_estimates_are_right_and_the_mean_of_agreeing_logs_is_not(
    explored: float, rmse: float
) -> None:
    """Routers of this kind are off by about 0.02 where 5 % of 9,000 logs explore."""
    found = replayed(questions(), explored).groupby("name")
    bias, covered = found["error"].mean(), found["covered"].mean()
    spread = found["error"].apply(lambda errors: np.sqrt((errors**2).mean()))

    assert 0.030 <= bias["agreeing"] <= 0.048
    assert covered["agreeing"] <= 0.58
    for name in ("snips", "dr"):
        # Three standard errors of the mean of the replays around the bias of 0.002.
        assert abs(bias[name]) <= 0.002 + 3 * spread[name] / REPLAYS**0.5
        assert covered[name] >= 0.90
        assert 0.8 * rmse < spread[name] <= rmse
    assert spread["ips"] > 1.3 * spread["snips"]
