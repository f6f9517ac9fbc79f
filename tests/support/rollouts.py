"""Rollouts with known truth: decisions, and the grains their control and canary would have left."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.aggregates import (
    CLUSTER_FIELDS,
    CLUSTERS,
    HISTOGRAM,
    KEYS,
    N_CLUSTERS,
    SUMS,
    pack_histograms,
)
from optimizer.decision import Decision, State
from optimizer.evidence import DecisionId, Impact, ProposalId
from optimizer.judge import Case
from optimizer.policy import Policy
from optimizer.statistics.quantiles import bucket_of

T0 = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
BASELINE, CANDIDATE = "large", "mini"

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is true of control and canary (in this order) of every target.

    requests: mean per arm and window; session: mean requests of a session; span: windows over which
    a session's requests are spread; icc: how alike a session's failures and scores are; sigma: of
    the logarithm of cost and latency; labelled: share of answered requests with a score.
    """

    requests: Pair = (200.0, 200.0)
    failure: Pair = (0.02, 0.02)
    fallback: Pair = (0.0, 0.0)
    cost_usd: Pair = (0.01, 0.005)
    quality: Pair = (0.8, 0.8)
    latency_ms: Pair = (800.0, 800.0)
    labelled: Pair = (1.0, 1.0)
    session: float = 1.0
    span: int = 1
    icc: float = 0.0
    sigma: float = 0.5
    drift: float = 0.0


def decision(target: str = "checkout", **changes: object) -> Decision:
    """A canary in its first stage that began at ``T0``."""
    facts: dict[str, object] = {
        "id": DecisionId(f"d-{target}"),
        "proposal_id": ProposalId(f"p-{target}"),
        "target": target,
        "strategy": "pareto",
        "baseline": BASELINE,
        "candidate": CANDIDATE,
        "rationale": "cheaper",
        "expected": Impact(),
        "created_at": T0 - HOUR,
        "created_by": "optimize",
        "config_hash": "c0",
        "state": State.DEPLOYING,
        "stage": 0,
        "stage_entered_at": T0,
        "evidence_from": T0,
        "latency_threshold_ms": 2_000.0,
        "salt": f"salt-{target}",
    }
    return Decision(**(facts | changes))  # type: ignore[arg-type]


def case(target: str = "checkout", policy: Policy | None = None, **changes: object) -> Case:
    """The same decision, to be judged."""
    return Case(decision=decision(target, **changes), policy=policy or Policy())


def grains(
    rng: np.random.Generator,
    world: World,
    *,
    targets: Sequence[str] = ("checkout",),
    windows: int = 12,
    step_s: int = 300,
    start: datetime = T0,
) -> pd.DataFrame:
    """Grains of slices control and canary, one row a target, arm and window.

    step_s: distance of window starts; 3600 leaves eleven of twelve windows without traffic.
    """
    rows = _requests(rng, world, len(targets), windows)
    size = len(targets) * 2 * windows
    frame = _frame(rows, size)
    cell = np.arange(size)
    arm = cell // windows % 2
    frame["target"] = np.asarray(targets, dtype=object)[cell // (2 * windows)]
    frame["arm"] = np.where(arm == 1, CANDIDATE, BASELINE)
    frame["slice"] = np.where(arm == 1, "canary", "control")
    frame["window_start_s"] = int(start.timestamp()) + cell % windows * step_s
    return frame[[*KEYS, *SUMS, HISTOGRAM, CLUSTERS]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Requests:
    cell: npt.NDArray[np.int64]
    unit: npt.NDArray[np.int64]
    bucket: npt.NDArray[np.int64]
    values: dict[str, npt.NDArray[np.int64]]
    latency_ms: npt.NDArray[np.float64]


def _requests(rng: np.random.Generator, world: World, targets: int, windows: int) -> _Requests:
    shape = (targets, 2, windows)
    rate = np.asarray(world.requests)[None, :, None] / world.session
    level = np.exp(rng.normal(0.0, world.drift, (targets, 1, windows)) - world.drift**2 / 2)
    sessions = rng.poisson(np.broadcast_to(rate, shape)).reshape(-1)
    home = np.repeat(np.arange(sessions.size), sessions)
    arm = home // windows % 2
    base = np.asarray(world.failure)[arm] * np.broadcast_to(level, shape).reshape(-1)[home]
    base = np.clip(base, 0.0, 1.0)
    failing = _alike(rng, base, world.icc)
    mean = np.asarray(world.quality)[arm]
    scoring = _alike(rng, mean, world.icc)
    length = np.ones(home.size, dtype=np.int64)
    if world.session > 1:
        length = rng.geometric(1.0 / world.session, home.size)
    unit = np.repeat(np.arange(home.size), length)
    window = home[unit] % windows + rng.integers(0, world.span, unit.size)
    inside = window < windows
    unit, window = unit[inside], window[inside]
    cell = home[unit] // windows * windows + window
    return _Requests(
        cell=cell,
        unit=unit,
        bucket=rng.integers(0, N_CLUSTERS, home.size)[unit],
        values=_values(rng, world, arm[unit], failing[unit], scoring[unit]),
        latency_ms=np.asarray(world.latency_ms)[arm[unit]]
        * np.exp(rng.normal(0.0, world.sigma, unit.size)),
    )


def _alike(
    rng: np.random.Generator, mean: npt.NDArray[np.float64], icc: float
) -> npt.NDArray[np.float64]:
    """Chances that vary between sessions so that answers within one correlate by ``icc``."""
    if icc == 0:
        return mean
    weight = 1.0 / icc - 1.0
    inner = np.clip(mean, 1e-9, 1.0 - 1e-9)
    return rng.beta(inner * weight, (1.0 - inner) * weight)


def _values(
    rng: np.random.Generator,
    world: World,
    arm: npt.NDArray[np.int64],
    failing: npt.NDArray[np.float64],
    scoring: npt.NDArray[np.float64],
) -> dict[str, npt.NDArray[np.int64]]:
    size = arm.size
    failed = rng.random(size) < failing
    tail = np.exp(rng.normal(0.0, world.sigma, size) - world.sigma**2 / 2)
    labelled = ~failed & (rng.random(size) < np.asarray(world.labelled)[arm])
    score = np.where(rng.random(size) < scoring, 1.0, 0.0)
    return {
        "n": np.ones(size, dtype=np.int64),
        "n_failed": failed.astype(np.int64),
        "n_fallback": (rng.random(size) < np.asarray(world.fallback)[arm]).astype(np.int64),
        "n_latency": (~failed).astype(np.int64),
        "n_cost": np.ones(size, dtype=np.int64),
        "cost_nusd": np.rint(np.asarray(world.cost_usd)[arm] * tail * 1e9).astype(np.int64),
        "n_quality": labelled.astype(np.int64),
        "quality_e6": np.where(labelled, np.rint(score * 1e6), 0).astype(np.int64),
    }


def _frame(rows: _Requests, size: int) -> pd.DataFrame:
    answered = rows.values["n_latency"] > 0
    us = np.where(answered, np.rint(rows.latency_ms * 1e3), 0).astype(np.int64)
    values = rows.values | {"latency_us": us}
    frame = pd.DataFrame({name: np.zeros(size, dtype=np.int64) for name in SUMS})
    for name, each in values.items():
        frame[name] = np.bincount(rows.cell, weights=each, minlength=size).astype(np.int64)
    pairs = np.unique(np.stack([rows.cell, rows.unit]), axis=1)
    frame["n_units"] = np.bincount(pairs[0], minlength=size)
    frame["n_positive_cost"] = frame["n_cost"]
    frame[HISTOGRAM] = pack_histograms(
        rows.cell[answered],
        bucket_of(rows.latency_ms[answered]),
        np.ones(int(answered.sum()), dtype=np.int64),
        n_groups=size,
    )
    frame[CLUSTERS] = _clusters(rows, values, size)
    return frame


def _clusters(
    rows: _Requests, values: dict[str, npt.NDArray[np.int64]], size: int
) -> npt.NDArray[np.object_]:
    """As ``pack_clusters`` stores them, at zlib's quickest level."""
    place = rows.cell * N_CLUSTERS + rows.bucket
    tables = np.stack(
        [
            np.bincount(place, weights=values[name], minlength=size * N_CLUSTERS)
            for name in CLUSTER_FIELDS
        ]
    ).astype("<i8")
    tables = tables.reshape(len(CLUSTER_FIELDS), size, N_CLUSTERS).transpose(1, 0, 2)
    codes = np.empty(size, dtype=object)
    for position, table in enumerate(tables):
        codes[position] = zlib.compress(table.tobytes(), 1) if table.any() else b""
    return codes
