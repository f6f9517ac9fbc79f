"""Off-policy estimates and refusals on the Open Bandit data, in both directions.

Source: Saito, Aihara, Matsutani and Narita, "Open Bandit Dataset and Pipeline", NeurIPS 2021, arXiv
2008.07146; the small set of st-tech/zr-obp, published by ZOZO under CC BY 4.0. Its notebook gives
0.004553 for the inverse propensity score of ``bts`` from the random log of campaign ``all``, and
0.0042 on policy. All other figures were computed from those files for this test; no row of them is
kept here.
"""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest

from datasets import datasets
from optimizer.statistics.offpolicy import ips, snips
from optimizer.statistics.offpolicy_gate import Answer, gate
from optimizer.statistics.offpolicy_log import FloatArray, Log, importance, log_of
from optimizer.statistics.offpolicy_support import Lack, Refusal, overlap, refusal

FOLDER = "open_bandit"
BTS_COLUMNS = ["p_pos1", "p_pos2", "p_pos3"]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """What is known of one campaign's log under one policy, asked for the other; as printed."""

    campaign: str
    behaviour: str
    ips: str
    snips: str
    truth: str
    mean_weight: str
    ess: str
    max_share: str
    unsupported: str

    @property
    def lack(self) -> Lack | None:
        """What the log is refused for."""
        return None if self.unsupported == "0.00" else Lack.LOW_OVERLAP


ROWS = tuple(
    Row(*line.split())
    for line in (
        # campaign, behaviour, ips, snips, truth, mean_weight, ess, max_share, unsupported
        "all   random 0.00455288 0.004776 0.0042 0.953 1640 0.002 0.00",
        "women bts    0.007438   0.002373 0.0046 3.134 2    0.694 0.49",
        "all   bts    0.002360   0.002334 0.0038 1.011 340  0.027 0.57",
        "men   bts    0.003009   0.003189 0.0046 0.943 656  0.019 0.39",
    )
)
NAMES = [f"{row.campaign}: {row.behaviour}" for row in ROWS]


@functools.cache
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    place = datasets(FOLDER) / FOLDER
    return pd.read_csv(place / "obd_small.csv.gz"), pd.read_csv(place / "bts_action_dist.csv")


def recorded(campaign: str, behaviour: str) -> tuple[Log, FloatArray, FloatArray]:
    """The log of one policy, the other policy, and the one that wrote it, all (R, A)."""
    rows, known = tables()
    part = rows[(rows["campaign"] == campaign) & (rows["policy"] == behaviour)]
    place = part["position"].to_numpy() - 1
    own = known[known["campaign"] == campaign].sort_values("item_id")
    bts = own[BTS_COLUMNS].to_numpy().T
    # Rounded to five digits as they are published, the chances of a position miss 1 by a little.
    bts = (bts / bts.sum(axis=1, keepdims=True))[place]
    random = np.full_like(bts, 1.0 / bts.shape[1])
    behaved, other = (random, bts) if behaviour == "random" else (bts, random)
    log = log_of(
        part["item_id"], part["action_prob"], part["click"], segment=place, chances=behaved
    )
    return log, other, behaved


def on_policy(campaign: str, policy: str) -> float:
    rows, _ = tables()
    part = rows[(rows["campaign"] == campaign) & (rows["policy"] == policy)]
    return float(part["click"].mean())


def digits(value: float, like: str) -> str:
    """The value with as many decimals as are known."""
    return f"{value:.{len(like.partition('.')[2])}f}"


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_every_known_figure_comes_out(row: Row) -> None:
    log, policy, _ = recorded(row.campaign, row.behaviour)
    weight = importance(log, policy)
    found = overlap(log, policy)

    assert digits(ips(log, weight).value, row.ips) == row.ips
    assert digits(snips(log, weight).value, row.snips) == row.snips
    assert digits(found.mean_weight, row.mean_weight) == row.mean_weight
    assert digits(found.ess, row.ess) == row.ess
    assert digits(found.max_share, row.max_share) == row.max_share
    assert digits(found.unsupported, row.unsupported) == row.unsupported
    other = "bts" if row.behaviour == "random" else "random"
    assert on_policy(row.campaign, other) == pytest.approx(float(row.truth))


def test_the_published_value_comes_out_to_its_last_digit() -> None:
    log, policy, _ = recorded("all", "random")

    assert f"{ips(log, importance(log, policy)).value:.6f}" == "0.004553"


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
def test_what_has_no_support_is_refused(row: Row) -> None:
    log, policy, behaved = recorded(row.campaign, row.behaviour)
    why = refusal(overlap(log, policy))
    found = gate(log, policy, behaved, margin=0.002)

    assert (None if why is None else why.lack) is row.lack
    if row.lack is not None:
        assert (found.answer, found.lack) == (Answer.NOT_ENOUGH_SUPPORT, row.lack)
        assert found.needed


def test_the_refusal_of_women_prints_its_numbers() -> None:
    log, policy, _ = recorded("women", "bts")
    why = refusal(overlap(log, policy))

    assert why == Refusal(
        lack=Lack.LOW_OVERLAP,
        sentence=(
            "unsupported mass 0.49 (at most 0.05), mean weight 3.134 (between 0.8 and 1.25), "
            "clipped mass 0.73 (at most 0.1), ESS 2 of 10,000 requests (at least 500), "
            "max share 0.69 (at most 0.05)"
        ),
        needed=why.needed if why else None,
    )
    assert why.needed
    assert why.needed > 1_000_000


def test_the_effective_size_alone_would_let_a_misleading_log_pass() -> None:
    log, policy, _ = recorded("men", "bts")
    found = overlap(log, policy)
    supported = dataclasses.replace(found, unsupported=0.0)
    estimate = ips(log, importance(log, policy))

    assert refusal(supported) is None
    upper = estimate.value + 1.96 * estimate.variance**0.5
    assert digits(upper, "0.0000") == "0.0045"
    assert digits(estimate.value - 1.96 * estimate.variance**0.5, "0.0000") == "0.0015"
    assert upper < on_policy("men", "random")
    assert refusal(found) is not None


def test_a_log_with_support_says_what_came_of_it() -> None:
    """Random and ``bts`` differ by less than their noise: within half a point both ways."""
    log, policy, behaved = recorded("all", "random")

    found = gate(log, policy, behaved, margin=0.005)

    assert found.answer is Answer.BETTER
    truth = on_policy("all", "bts") - on_policy("all", "random")
    assert found.lower < truth < found.upper
