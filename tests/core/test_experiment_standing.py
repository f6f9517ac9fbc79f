"""What an experiment's hours say: same hours, same answer; no proof where there is none."""

from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from experiment_scene import ARMS, design, running, served
from optimizer.aggregates import (
    CLUSTER_FIELDS,
    CLUSTERS,
    N_CLUSTERS,
    pack_clusters,
    rollup,
    unpack_cluster_frame,
)
from optimizer.evidence import Outcome, Reason
from optimizer.experiment.design import Rule
from optimizer.experiment.harm import harmed
from optimizer.experiment.life import Experiment
from optimizer.experiment.standing import CLUSTERED, EXACT, Standing, standing
from optimizer.metrics import HOUR_S
from optimizer.statistics.declaring import declared, new_race, observe
from rollout_scene import HOUR, START

ALIKE = dict.fromkeys(ARMS, 0.8)
BETTER = {"large": 0.7, "small": 0.85, "mini": 0.7}


def stood(grains: pd.DataFrame, hours: int, experiment: Experiment | None = None) -> Standing:
    now = START + hours * HOUR
    return standing(experiment or running(), rollup(grains, HOUR_S), now=now, until=now)


def clustered(grains: pd.DataFrame, size: int) -> pd.DataFrame:
    """The same requests, made by a ``size``-th of the units, which agree wholly within a bucket."""
    cells = unpack_cluster_frame(grains[CLUSTERS].tolist())
    n = cells[:, CLUSTER_FIELDS.index("n")]
    merged = np.zeros_like(cells)
    for field in range(len(CLUSTER_FIELDS)):
        folded = cells[:, field].reshape(len(cells), -1, size).sum(axis=-1)
        merged[:, field, ::size] = folded
    assert merged[:, CLUSTER_FIELDS.index("n")].sum() == n.sum()
    codes = pd.Series([pack_clusters(each) for each in merged], index=grains.index, dtype="object")
    return grains.assign(**{CLUSTERS: codes, "n_units": grains["n"] // size})


def test_the_proven_best_arm_is_named_with_its_lead() -> None:
    found = stood(served(3, BETTER, rows=30), 3)

    assert (found.outcome, found.leader) == (Outcome.PASS, "small")
    (estimate,) = found.estimates
    assert estimate.method == EXACT
    assert estimate.effect == pytest.approx(0.15, abs=0.05)
    assert estimate.lower is not None
    assert estimate.upper is not None
    assert estimate.effect is not None
    assert 0 < estimate.lower < estimate.effect < estimate.upper
    assert estimate.n_canary == 3 * 12 * 30


def test_before_the_first_hour_nothing_is_known() -> None:
    nothing = served(1, ALIKE)

    assert stood(nothing, 0).outcome is Outcome.NO_DATA
    assert stood(nothing, 1, running(evidence_from=None)).outcome is Outcome.NO_DATA


def test_hours_before_the_evidence_begins_do_not_count() -> None:
    grains = served(3, BETTER, rows=30)

    found = stood(grains, 3, running(evidence_from=START + 2 * HOUR))

    assert {each.n for each in found.arms} == {12 * 30}


def test_the_order_of_rows_changes_nothing() -> None:
    grains = rollup(served(3, BETTER), HOUR_S)
    now = START + 3 * HOUR
    asked = running(design(rule=Rule.TOP_TWO))

    one = standing(asked, grains, now=now, until=now)
    other = standing(asked, grains.sample(frac=1, random_state=1), now=now, until=now)

    assert one == other


def test_the_next_hours_shares_are_drawn_alike_for_the_same_hour_and_anew_for_another() -> None:
    asked = running(design(rule=Rule.TOP_TWO, min_duration=timedelta(hours=30)))
    rows = rollup(served(3, ALIKE, rows=10), HOUR_S)
    end = START + 3 * HOUR

    draws = [standing(asked, rows, now=end + late, until=end).shares for late in (0 * HOUR, HOUR)]

    assert draws[0] == standing(asked, rows, now=end, until=end).shares
    assert draws[0] != draws[1]
    assert sum(draws[0]) == pytest.approx(1)
    assert min(draws[0]) >= asked.design.floor / 3


def test_the_path_of_the_exact_test_is_that_of_looks_after_every_hour() -> None:
    grains = rollup(served(6, BETTER, rows=6), HOUR_S)
    asked = running(design(min_duration=timedelta(0)))
    race, seen = new_race(3), None
    for n in range(6):
        start_s = int((START + n * HOUR).timestamp())
        own = grains[grains["window_start_s"] == start_s].set_index("arm").loc[list(ARMS)]
        race = observe(race, own["n_quality"], own["quality_e6"] // 1_000_000)
        if seen is None and int(declared(race)) >= 0:
            seen = (n + 1, ARMS[int(declared(race))])
    assert seen is not None

    first = next(n for n in range(1, 7) if stood(grains, n, asked).leader)

    assert (first, stood(grains, first, asked).leader) == seen
    # Later looks name the first that was named, whatever came after it.
    assert stood(grains, 6, asked).leader == seen[1]


@pytest.mark.parametrize("seed", range(8))
def test_units_of_many_requests_are_no_sample_of_requests(seed: int) -> None:
    # 16 buckets a unit: requests alone would prove what units do not.
    alike = served(3, dict.fromkeys(ARMS, 0.5), rows=100)
    grains = clustered(alike, 8)
    cells = unpack_cluster_frame(grains[CLUSTERS].tolist())
    n = cells[:, CLUSTER_FIELDS.index("n")]
    score = CLUSTER_FIELDS.index("quality_e6")
    for place, arm in enumerate(grains["arm"]):
        mood = np.random.default_rng([seed, ARMS.index(arm)]).random(N_CLUSTERS) < 0.5
        cells[place, score] = n[place] * mood * 1_000_000
    total = cells[:, score].sum(axis=1)
    grains = grains.assign(
        **{
            CLUSTERS: pd.Series([pack_clusters(each) for each in cells], dtype="object"),
            "quality_e6": total,
            "quality_sq_e9": total * 1000,
        }
    )

    found = stood(grains, 3)

    assert found.leader is None
    assert found.reason in {Reason.MIN_CLUSTERS, Reason.WIDE_INTERVAL}


def test_units_of_several_requests_are_compared_by_their_variance() -> None:
    found = stood(clustered(served(3, {**BETTER, "small": 0.95}, rows=100), 2), 3)

    assert found.leader == "small"
    assert found.estimates[0].method == CLUSTERED


def test_failures_decide_where_they_are_asked_for_and_need_no_labels() -> None:
    failing = {"large": 0.3, "small": 0.05, "mini": 0.3}
    grains = served(3, ALIKE, failures=failing).assign(n_quality=0, quality_e6=0, quality_sq_e9=0)
    asked = running(design(metric="failure_rate"))

    found = stood(grains, 3, asked)

    assert found.leader == "small"
    (estimate,) = found.estimates
    assert estimate.metric == "failure_rate"
    assert estimate.effect == pytest.approx(-0.25, abs=0.03)
    assert estimate.canary == pytest.approx(0.05, abs=0.02)


def test_scores_that_are_missing_in_one_arm_alone_decide_nothing() -> None:
    grains = served(3, BETTER, rows=60)
    cells = unpack_cluster_frame(grains[CLUSTERS].tolist())
    hidden = (grains["arm"] == "small").to_numpy()
    for name in ("n_quality", "quality_e6"):
        cells[hidden, CLUSTER_FIELDS.index(name), ::2] = 0
    n, score = (
        cells[:, CLUSTER_FIELDS.index(name)].sum(axis=1) for name in ("n_quality", "quality_e6")
    )
    grains = grains.assign(
        **{
            CLUSTERS: pd.Series([pack_clusters(each) for each in cells], dtype="object"),
            "n_quality": n,
            "quality_e6": score,
            "quality_sq_e9": score * 1000,
        }
    )

    found = stood(grains, 3)

    assert (found.leader, found.reason) == (None, Reason.LABELS_IMBALANCED)


def keeping(**changes: Any) -> Experiment:  # noqa: ANN401 - fields of Experiment
    asked = design(rule=Rule.TOP_TWO, keep_running=True, min_duration=timedelta(hours=1))
    return running(asked, **changes)


def test_a_leader_that_falls_behind_voids_the_evidence_up_to_then() -> None:
    first = served(3, {"large": 0.6, "small": 0.9, "mini": 0.6})
    later = served(3, {"large": 0.6, "small": 0.3, "mini": 0.6}, start=START + 3 * HOUR)

    assert stood(first, 3, keeping()).leader == "small"
    found = stood(pd.concat([first, later]), 6, keeping())

    assert found.since is not None
    assert found.since > START + 3 * HOUR
    assert found.leader != "small"


def test_a_dropped_arm_is_neither_compared_nor_given_traffic() -> None:
    found = stood(served(3, BETTER), 3, running(dropped=("mini",)))

    assert [each.arm for each in found.arms] == ["large", "small"]
    assert found.shares[2] == 0
    assert sum(found.shares) == pytest.approx(2 / 3)
    assert found.leader == "small"


def test_harm_is_proven_against_the_control_arm_and_not_among_others() -> None:
    worse = served(1, ALIKE, failures={"mini": 0.2})
    better = served(1, ALIKE, failures={"large": 0.2, "mini": 0.2})

    assert set(harmed(running(), worse, alpha=0.05)) == {"mini"}
    assert harmed(running(), better, alpha=0.05) == {}
    assert harmed(running(dropped=("mini",)), worse, alpha=0.05) == {}
    assert harmed(running(running_since=None), worse, alpha=0.05) == {}


def test_harm_of_units_with_several_requests_is_judged_by_units() -> None:
    worse = clustered(served(2, ALIKE, failures={"mini": 0.3}, rows=100), 2)

    assert set(harmed(running(), worse, alpha=0.05)) == {"mini"}


@pytest.mark.slow
def test_a_tie_is_seldom_declared_and_a_worse_arm_hardly_ever() -> None:
    rng = np.random.default_rng(7)
    wrong = tied = 0
    runs = 150
    asked = running(design(min_duration=timedelta(hours=1), max_duration=timedelta(days=9)))
    for _ in range(runs):
        seeds = int(rng.integers(1 << 30))
        truth = {"large": 0.8, "small": 0.8, "mini": 0.74}
        frame = counted(truth, hours=24, units=40, seed=seeds)
        leader = standing(asked, frame, now=START + 24 * HOUR, until=START + 24 * HOUR).leader
        wrong += leader == "mini"
        tied += leader is not None
    assert wrong == 0
    assert tied <= 0.1 * runs


def counted(truth: dict[str, float], *, hours: int, units: int, seed: int) -> pd.DataFrame:
    """Hours of single-request units, one score of 0 or 1 each."""
    rng = np.random.default_rng(seed)
    template = rollup(served(1, ALIKE, rows=1), HOUR_S)
    rows = []
    for n in range(hours):
        for arm, good in truth.items():
            cluster = rng.integers(0, N_CLUSTERS, units)
            scored = (rng.random(units) < good) * 1_000_000
            cells = np.zeros((len(CLUSTER_FIELDS), N_CLUSTERS), dtype=np.int64)
            for name in ("n", "n_quality"):
                cells[CLUSTER_FIELDS.index(name)] = np.bincount(cluster, minlength=N_CLUSTERS)
            cells[CLUSTER_FIELDS.index("quality_e6")] = np.bincount(
                cluster, weights=scored, minlength=N_CLUSTERS
            )
            row = template[template["arm"] == arm].iloc[0].copy()
            row["window_start_s"] += n * HOUR_S
            row["n"] = row["n_units"] = row["n_quality"] = units
            row["n_failed"] = 0
            row["quality_e6"] = int(scored.sum())
            row["quality_sq_e9"] = int(scored.sum()) * 1000
            row[CLUSTERS] = pack_clusters(cells)
            rows.append(row)
    return pd.DataFrame(rows).reset_index(drop=True)
