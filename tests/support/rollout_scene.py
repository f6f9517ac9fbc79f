"""One target on its way through a rollout, on a real ledger and a real file gateway."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from optimizer.aggregates import (
    CLUSTER_FIELDS,
    KEYS,
    N_CLUSTERS,
    SUMS,
    empty,
    pack_clusters,
    pack_histogram,
)
from optimizer.cycle import decide, events_for
from optimizer.decision import Decision
from optimizer.engine import Engine, EngineLimits, Spool
from optimizer.evidence import Impact, Proposal, ProposalId, Scene
from optimizer.integrations.file_gateway import FileGateway
from optimizer.integrations.no_prices import NoPrices
from optimizer.loop.equipment import Acting, Equipment
from optimizer.metrics import GRAIN_S
from optimizer.policy import Guardrail, Policy, Stage
from optimizer.ports import Gateway, Ledger
from optimizer.statistics.quantiles import bucket_of
from optimizer.storage import SqlLedger
from optimizer.targets import Arm, ModelConfig, Target

TARGET = "support/answer"
START = datetime(2026, 3, 2, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
POLICY = Policy(
    guardrails=(
        Guardrail(metric="quality", margin=0.05, anchored=True),
        Guardrail(metric="failure_rate", margin=0.02),
    ),
    stages=(
        Stage(share=0.1, bake_time=HOUR, min_requests=100),
        Stage(share=0.5, bake_time=HOUR, min_requests=100),
    ),
    label_maturity=timedelta(0),
    settle_after=2 * HOUR,
    holdback_share=0.1,
    data_lag_max=2 * HOUR,
)


def target() -> Target:
    return Target(
        name=TARGET,
        baseline="large",
        arms=(
            Arm(name="large", config=ModelConfig(model="large-1")),
            Arm(name="small", config=ModelConfig(model="small-1")),
        ),
    )


def equipment(
    directory: Path,
    *,
    url: str | None = None,
    now: datetime = START,
    ledger: Ledger | None = None,
    gateway: Gateway | None = None,
) -> Equipment:
    """Real adapters in a directory; a test may put its own in front of them."""
    built = gateway or file_gateway(directory, now)
    return Equipment(
        ledger=ledger or SqlLedger.open(url or f"sqlite:///{directory / 'ledger.db'}"),
        engine=Engine(Spool(directory / "spool"), EngineLimits()),
        sources=(),
        gateways={built.name: built},
        gateway_of={TARGET: built.name},
        targets={TARGET: target()},
        policies={TARGET: POLICY},
        analyzers={},
        strategies={},
        prices=NoPrices(),
        config_hash="c0ffee",
    )


def file_gateway(directory: Path, now: datetime) -> FileGateway:
    return FileGateway(
        name="files",
        directory=directory / "allocations",
        expires_after=timedelta(days=2),
        clock=lambda: now,
    )


def acting(now: datetime, run_id: str = "run-1") -> Acting:
    return Acting(actor="rollout", run_id=run_id, now=now)


def propose(given: Equipment, now: datetime) -> Decision:
    """A decision that was just accepted."""
    proposal = Proposal(
        id=ProposalId("p-1"),
        strategy="cost_performance",
        target=TARGET,
        candidate="small",
        rationale="half the cost at equal quality",
        expected=Impact(cost_reduction_pct=50.0, daily_saving_usd=10.0, confidence=0.9),
    )
    scene = Scene(
        now=now,
        targets=given.targets,
        policies=given.policies,
        baselines=given.baseline_arms(),
        hours=empty(),
        in_flight={},
    )
    (decision,) = decide(scene, [proposal], config_hash="c0ffee", actor="optimize").decisions
    given.ledger.decisions.create(decision, events_for(decision))
    return decision


def traffic(
    start: datetime,
    end: datetime,
    *,
    quality: Mapping[str, float],
    failures: Mapping[str, float] | None = None,
    rows: int = 600,
    seed: int = 1,
) -> pd.DataFrame:
    """Grains of canary (arm small) and control (arm large): ``rows`` single-request units each."""
    rng = np.random.default_rng(seed)
    failing = failures or {"small": 0.01, "large": 0.01}
    cost = {"small": 0.002, "large": 0.004}
    found = []
    for window_s in range(int(start.timestamp()), int(end.timestamp()), GRAIN_S):
        for slice_name, arm in (("canary", "small"), ("control", "large")):
            found.append(
                _grain(
                    rng,
                    window_s,
                    slice_name,
                    arm,
                    rows=rows,
                    quality=quality[arm],
                    failing=failing[arm],
                    cost_usd=cost[arm],
                )
            )
    return pd.DataFrame(found).sort_values(list(KEYS), ignore_index=True)


def _grain(
    rng: np.random.Generator,
    window_s: int,
    slice_name: str,
    arm: str,
    *,
    rows: int,
    quality: float,
    failing: float,
    cost_usd: float,
) -> dict[str, object]:
    cluster = rng.integers(0, N_CLUSTERS, rows)
    failed = rng.random(rows) < failing
    score = np.round((rng.random(rows) < quality) * 1e6).astype(np.int64)
    nusd = np.round(cost_usd * rng.lognormal(0, 0.3, rows) * 1e9).astype(np.int64)
    latency_us = np.round(rng.lognormal(6, 0.5, rows) * 1e3).astype(np.int64)
    answered = ~failed
    ln_ms = np.log(latency_us[answered] / 1e3)
    ln_usd = np.log(nusd / 1e9)
    columns = {
        "n": np.ones(rows, dtype=np.int64),
        "n_failed": failed.astype(np.int64),
        "n_fallback": np.zeros(rows, dtype=np.int64),
        "n_latency": answered.astype(np.int64),
        "latency_us": np.where(answered, latency_us, 0),
        "n_cost": np.ones(rows, dtype=np.int64),
        "cost_nusd": nusd,
        "n_quality": np.ones(rows, dtype=np.int64),
        "quality_e6": score,
    }
    cells = np.stack(
        [
            np.bincount(cluster, weights=columns[name], minlength=N_CLUSTERS).astype(np.int64)
            for name in CLUSTER_FIELDS
        ]
    )
    sums = dict.fromkeys(SUMS, 0) | {name: int(values.sum()) for name, values in columns.items()}
    buckets, counts = np.unique(bucket_of(latency_us[answered] / 1e3), return_counts=True)
    return {
        "target": TARGET,
        "arm": arm,
        "slice": slice_name,
        "window_start_s": window_s,
        **sums,
        "n_units": rows,
        "log_latency_e6": int(np.round(ln_ms * 1e6).sum()),
        "log_latency_sq_e6": int(np.round(ln_ms**2 * 1e6).sum()),
        "n_positive_cost": rows,
        "log_cost_e6": int(np.round(ln_usd * 1e6).sum()),
        "log_cost_sq_e6": int(np.round(ln_usd**2 * 1e6).sum()),
        "quality_sq_e9": int(score.sum() * 1000),
        "histogram": pack_histogram(buckets, counts),
        "clusters": pack_clusters(cells),
    }


def put(given: Equipment, frame: pd.DataFrame) -> None:
    """Make the grains the ledger's."""
    windows = sorted({int(start) for start in frame["window_start_s"]})
    given.ledger.aggregates.replace_windows(GRAIN_S, windows, frame, clean={})
