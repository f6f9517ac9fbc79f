"""An installation with a log of known truth, and the backtest of it."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from optimizer import settings, wiring
from optimizer.engine import Engine, EngineLimits, Spool
from optimizer.engine.past import Past, keep_past
from optimizer.loop.backtest import Walked, read, walk
from optimizer.metrics import HOUR_S
from optimizer.observations import Kind
from optimizer.ports import Batch, FrameInput, Mapped, SpoolFile
from optimizer.report.backtest import Backtest, tell
from optimizer.targets import Arm, ModelConfig, Target

START = datetime(2026, 3, 2, tzinfo=UTC)
NOW = datetime(2026, 4, 1, tzinfo=UTC)

CONFIG = """
database: {{connection_string: "sqlite:///ledger.db", spool_directory: spool}}
integrations:
  sources:
    - {{kind: file, name: calls, paths: [calls.csv]}}
    - {{kind: file, name: scores, delivers: feedback, paths: [scores.csv]}}
  gateways: [{{kind: file, name: files, directory: allocations}}]
  notifiers: [{{kind: file, name: told, path: messages.jsonl}}]
  prices: {{published: false}}
strategies: {{enabled: [cost_performance]}}
defaults:
  guardrails:
    - {{metric: quality, margin: 0.1, anchored: true}}
    - {{metric: failure_rate, margin: 0.05}}
  stages: [{{share: 0.3, bake_time: 1h, min_requests: 100}}]
  label_maturity: 0s
  settle_after: 1h
  approval: {{required: {approval}}}
targets: {targets}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedArm:
    """An arm in the log: its share of sessions, and its true means."""

    share: float
    cost_usd: float
    quality: float = 0.9


LARGE = LoggedArm(share=0.5, cost_usd=0.004)
SMALL = LoggedArm(share=0.5, cost_usd=0.001)


def logged(
    arms: Mapping[str, LoggedArm],
    *,
    target: str = "chat",
    hours: int = 8,
    per_hour: int = 1_500,
    seed: int = 1,
    propensities: bool = True,
    per_session: int = 3,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Calls, and their scores a few minutes later; sessions of some calls keep their arm."""
    rng = np.random.default_rng(seed)
    n, names = hours * per_hour, list(arms)
    seconds = np.sort(rng.uniform(0, hours * 3600, n))
    ts = pd.Timestamp(START) + pd.to_timedelta(seconds.round(3), unit="s")
    session = rng.integers(0, n // per_session, n)
    shares = [arms[name].share for name in names]
    arm = rng.choice(len(names), n // per_session, p=shares)[session]
    cost = np.array([arms[name].cost_usd for name in names])[arm]
    good = rng.random(n) < np.array([arms[name].quality for name in names])[arm]
    calls = pd.DataFrame(
        {
            "request_id": [f"{target}-{row}" for row in range(n)],
            "ts": ts,
            "target": target,
            "arm": np.array(names)[arm],
            "session_id": [f"{target}-s{unit}" for unit in session],
            "latency_ms": rng.lognormal(6, 0.4, n).round(3),
            "cost_usd": (cost * rng.lognormal(-0.125, 0.5, n)).round(9),
            "status": np.where(rng.random(n) < 0.01, "error", "ok"),
        }
    )
    if propensities:
        calls["propensity"] = np.array(shares)[arm]
    scores = pd.DataFrame(
        {
            "request_id": calls["request_id"],
            "ts": ts + pd.to_timedelta(rng.uniform(10, 600, n).round(3), unit="s"),
            "score": good.astype(float),
        }
    )
    return calls, scores


def past_of(
    folder: Path, arms: Mapping[str, LoggedArm], log: tuple[pd.DataFrame, pd.DataFrame], hours: int
) -> Past:
    """The log of target chat, checked and kept as a backtest keeps it."""
    configs = tuple(Arm(name=name, config=ModelConfig(model=name)) for name in arms)
    target = Target(name="chat", baseline=next(iter(arms)), arms=configs)
    engine = Engine(Spool(folder / "spool"), EngineLimits())
    files: dict[Kind, tuple[SpoolFile, ...]] = {}
    for kind, frame in zip((Kind.CALLS, Kind.FEEDBACK), log, strict=True):
        batch = Batch(
            source="log",
            kind=kind,
            mapped=Mapped(),
            inputs=(FrameInput(frame=frame, origin="log"),),
            cursor={},
        )
        files[kind] = engine.ingest(batch, targets={"chat": target}, received_at=NOW).files
    return keep_past(
        engine,
        files[Kind.CALLS],
        files[Kind.FEEDBACK],
        targets=["chat"],
        start_s=int(START.timestamp()),
        end_s=int(START.timestamp()) + hours * HOUR_S,
        folder=folder / "log",
    )


def write_log(directory: Path, *logs: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    """The logs as the installation's files."""
    for position, name in enumerate(("calls", "scores")):
        rows = pd.concat([log[position] for log in logs]).sort_values("ts", kind="stable")
        rows.to_csv(directory / f"{name}.csv", index=False)


def configured(
    directory: Path, arms: Mapping[str, tuple[str, ...]], *, approval: bool = False
) -> Path:
    """The configuration file; the first arm of each target is its baseline."""
    targets = [
        {
            "name": target,
            "baseline": names[0],
            "arms": [{"name": name, "model": f"m-{name}"} for name in names],
        }
        for target, names in arms.items()
    ]
    path = directory / "optimizer.yaml"
    path.write_text(CONFIG.format(targets=targets, approval=str(approval).lower()))
    return path


def conducted(
    config: Path, *, start: datetime | None = None, end: datetime | None = None
) -> tuple[Backtest, Walked]:
    """The backtest and what walking left."""
    with tempfile.TemporaryDirectory() as place:
        equipment = wiring.rehearse(settings.load(config, {}), Path(place), clock=lambda: NOW)
        try:
            found = read(equipment, now=NOW, start=start, end=end)
            walked = walk(equipment, found)
            return tell(walked, equipment.ledger, equipment.policies), walked
        finally:
            wiring.close(equipment)


def hours_after(hours: int) -> datetime:
    """The moment so many hours after the log begins."""
    return START + timedelta(hours=hours)
