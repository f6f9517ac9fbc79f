"""The five-minute grains that simulated window sums would have left behind, and the plan they ran.

Everything the sums hold is kept exactly: requests, failures and slow requests by window, hash
buckets by window where units make several requests and by hour elsewhere. What they do not hold,
such as which bucket a window's independent requests fall into, is drawn.
"""

from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from bench.rollouts.plan import CANARY, EXTENSION_HOURS, Plan
from bench.rollouts.world import COST, FAILURE, LABELS, LATENCY, QUALITY, REQUESTS, SLOW, Sums
from optimizer.aggregates import (
    CLUSTER_FIELDS,
    CLUSTERS,
    HISTOGRAM,
    KEYS,
    N_CLUSTERS,
    SUMS,
    pack_clusters,
    pack_histograms,
)
from optimizer.evidence import RampPlan
from optimizer.statistics.quantiles import bucket_of
from rollouts import BASELINE, CANDIDATE, T0

IntArray = npt.NDArray[np.int64]
Tables = npt.NDArray[np.int64]

FAST_MS, THRESHOLD_MS, SLOW_MS = 783.0, 2_000.0, 5_128.0
"""With 5 % beyond the threshold, mean and spread of the bench's latencies of log sd .8."""
_FIELD = {name: position for position, name in enumerate(CLUSTER_FIELDS)}
_UNITS = {COST: ("cost_nusd", 1e9), LATENCY: ("latency_us", 1e3), QUALITY: ("quality_e6", 1e6)}


def target(rollout: int) -> str:
    return f"target-{rollout}"


def ramp_plan(plan: Plan, *, labelled: float = 1.0) -> RampPlan:
    """The plan that a decision carries, of the same forecast."""
    more = plan.volume * EXTENSION_HOURS * plan.shares[-1]
    return RampPlan(
        hours=plan.planned_hours,
        requests=plan.planned_canary,
        extended=plan.planned_canary + more,
        measured={"quality": labelled},
    )


def grains(sums: Sums, numbers: np.random.Generator) -> pd.DataFrame:
    """One row a rollout, arm and window that has requests; a rollout is a target of its own."""
    rollout, window, arm = np.nonzero(sums.n)
    place = (rollout, window, arm)
    tables = _tables(sums, place, numbers)
    frame = pd.DataFrame({name: np.zeros(rollout.size, dtype=np.int64) for name in SUMS})
    for name, position in _FIELD.items():
        frame[name] = tables[:, position].sum(axis=-1)
    frame["n_positive_cost"] = frame["n_cost"]
    frame["n_units"] = (
        np.count_nonzero(sums.fine[REQUESTS][place], axis=-1)
        if sums.clustered
        else sums.units[place]
    )
    frame[HISTOGRAM] = _histograms(sums, place)
    frame[CLUSTERS] = pd.Series([pack_clusters(table) for table in tables], dtype="object")
    frame["target"] = [target(row) for row in rollout.tolist()]
    frame["arm"] = np.where(arm == CANARY, CANDIDATE, BASELINE)
    frame["slice"] = np.where(arm == CANARY, "canary", "control")
    step = timedelta(hours=1) / sums.plan.windows_an_hour
    frame["window_start_s"] = int(T0.timestamp()) + window * int(step.total_seconds())
    return frame[[*KEYS, *SUMS, HISTOGRAM, CLUSTERS]]


def _histograms(sums: Sums, place: tuple[IntArray, ...]) -> npt.NDArray[np.object_]:
    """Answered requests on either side of the threshold; failures count as slow without one."""
    failed = sums.events[FAILURE][place]
    slow = sums.events[SLOW][place] - failed if SLOW in sums.events else np.zeros_like(failed)
    row = np.arange(failed.size)
    return pack_histograms(
        np.concatenate([row, row]),
        np.repeat(bucket_of(np.array([FAST_MS, SLOW_MS])), failed.size),
        np.concatenate([sums.n[place] - failed - slow, slow]),
        n_groups=failed.size,
    )


def _tables(sums: Sums, place: tuple[IntArray, ...], numbers: np.random.Generator) -> Tables:
    """Hash buckets of every row, shape (rows, fields, B)."""
    tables = np.zeros((place[0].size, len(CLUSTER_FIELDS), N_CLUSTERS), dtype=np.int64)
    if sums.clustered:
        tables[:, _FIELD["n"]] = sums.fine[REQUESTS][place]
        tables[:, _FIELD["n_failed"]] = sums.fine[FAILURE][place]
    else:
        _independent(sums, place, tables, numbers)
    tables[:, _FIELD["n_latency"]] = tables[:, _FIELD["n"]] - tables[:, _FIELD["n_failed"]]
    tables[:, _FIELD["n_cost"]] = tables[:, _FIELD["n"]]
    _hourly(sums, place, tables)
    return tables


def _independent(
    sums: Sums, place: tuple[IntArray, ...], tables: Tables, numbers: np.random.Generator
) -> None:
    """Spread the requests of each window over buckets, so that each hour keeps those it has."""
    n, failed = sums.n[place], sums.events[FAILURE][place]
    row = np.repeat(np.arange(n.size), n)
    rank = np.arange(row.size) - np.repeat(np.cumsum(n) - n, n)
    bucket = numbers.integers(0, N_CLUSTERS, row.size)
    if REQUESTS in sums.buckets:
        rollout, window, arm = place
        hour = window // sums.plan.windows_an_hour
        group = ((rollout * sums.plan.hours + hour) * 2 + arm)[row]
        counts = sums.buckets[REQUESTS].reshape(-1, N_CLUSTERS).astype(np.int64)
        owner, held = np.nonzero(counts)
        repeats = counts[owner, held]
        owner, held = np.repeat(owner, repeats), np.repeat(held, repeats)
        shuffled = np.lexsort((numbers.random(held.size), owner))
        bucket[np.argsort(group, kind="stable")] = held[shuffled]
    cell, lost = row * N_CLUSTERS + bucket, rank < failed[row]
    for name, cells in (("n", cell), ("n_failed", cell[lost])):
        counted = np.bincount(cells, minlength=n.size * N_CLUSTERS)
        tables[:, _FIELD[name]] = counted.reshape(n.size, N_CLUSTERS)


def _hourly(sums: Sums, place: tuple[IntArray, ...], tables: Tables) -> None:
    """Put what is known by hour into the hour's last row: the looks of whole hours see the same."""
    rollout, window, arm = place
    hour = window // sums.plan.windows_an_hour
    newest = np.full((sums.rollouts, sums.plan.hours, 2), -1)
    np.maximum.at(newest, (rollout, hour, arm), np.arange(rollout.size))
    where = np.nonzero(newest >= 0)
    rows = newest[where]
    for name, (column, scale) in _UNITS.items():
        if name in sums.buckets:
            tables[rows, _FIELD[column]] = np.rint(sums.buckets[name][where] * scale)
    if LABELS in sums.buckets:
        tables[rows, _FIELD["n_quality"]] = sums.buckets[LABELS][where].astype(np.int64)
