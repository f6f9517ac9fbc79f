"""A world of applications that ask models, in place of the real one; seeded, with a known truth.

It knows the optimizer only as an application does: it reads the published allocation through
:mod:`optimizer.client`, does what it is told, and writes request logs and scores into files. What
the gateway publishes therefore shapes the traffic of the next half hour.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from optimizer.client import Allocations, Choice
from optimizer.integrations.simulated.arrivals import Requests, arriving, joined, nothing
from optimizer.integrations.simulated.configuration import WorldSettings, configuration
from optimizer.integrations.simulated.outcomes import LUCK, outcomes
from optimizer.integrations.simulated.planning import Planned, plan_check
from optimizer.integrations.simulated.published import PublishedTarget, published
from optimizer.integrations.simulated.records import (
    CALLS,
    FEEDBACK,
    Dirt,
    call_lines,
    feedback_lines,
    prefix,
    read_calls,
    read_scores,
    soiled,
)
from optimizer.integrations.simulated.verity import true_harms
from optimizer.metrics import HOUR_S, at, floor_s

STEP_S = 1_800
"""Files hold half an hour."""

TRUTH_KEYS = ["target", "hour_s", "arm", "slice"]


@dataclass(slots=True)
class _Traffic:
    """What one target has waiting: requests of running sessions."""

    waiting: Requests = field(default_factory=nothing)
    sessions: int = 0
    requests: int = 0


class SimulatedWorld:
    """The world; time passes only by :meth:`advance`.

    ``truth`` has a row for each target, hour, arm and slice: requests, failures, money, and what
    the same requests would have cost, failed and scored by the published means of the arm that
    served at the start (``base_*``) and of the arm itself (``true_*``).
    """

    def __init__(
        self,
        *,
        seed: int,
        directory: Path,
        start: datetime,
        settings: WorldSettings | None = None,
        targets: tuple[PublishedTarget, ...] | None = None,
    ) -> None:
        self.directory = directory
        self.start = start
        self.settings = WorldSettings() if settings is None else settings
        self.targets = published() if targets is None else targets
        self.dirt = Dirt()
        self._seed = seed
        self._step = floor_s(start, STEP_S)
        self._traffic = {target.name: _Traffic() for target in self.targets}
        self._late: dict[str, list[str]] = {CALLS: [], FEEDBACK: []}
        self._unscored = pd.DataFrame({"request_id": [], "due_s": [], "score": []})
        self._truth: list[pd.DataFrame] = []
        for name in (CALLS, FEEDBACK):
            (self.logs / name).mkdir(parents=True, exist_ok=True)
        self._allocations = Allocations(
            directory / "allocations",
            baselines={
                target.name: {"arm": target.baseline.name, "model": target.baseline.model}
                for target in self.targets
            },
            check_every_s=0.0,
            # Publisher and readers live in the same simulated time.
            clock=lambda: float(self._step),
        )

    @property
    def logs(self) -> Path:
        """Where calls and feedback are written."""
        return self.directory / "logs"

    @property
    def now(self) -> datetime:
        """Up to when the world has come."""
        return at(self._step)

    @property
    def plan(self) -> tuple[Planned, ...]:
        """What the guardrails ask of a rollout in this world."""
        return plan_check(self.targets, self.settings)

    def true_harms(self, target: str, arm: str) -> tuple[str, ...]:
        """Guardrails that the arm truly breaks, known to nobody but the world.

        Raises:
            KeyError: no such target or arm.
        """
        found = {item.name: item for item in self.targets}[target]
        return true_harms(found, arm, self.settings)

    def configuration(self) -> str:
        """A complete optimizer.yaml for this world."""
        return configuration(self.targets, self.settings)

    def advance(self, until: datetime) -> int:
        """Let the world run; files hold what arrived before ``until``. Returns the requests made.

        Raises:
            ValueError: ``until`` is not on a half hour.
        """
        until_s = floor_s(until, 1)
        if until_s % STEP_S:
            raise ValueError(f"until = {until.isoformat()} is not on a half hour")
        made = 0
        while self._step < until_s:
            made += self._half_hour()
        return made

    @property
    def truth(self) -> pd.DataFrame:
        """What really happened, by target, hour, arm and slice."""
        if not self._truth:
            return pd.DataFrame(columns=[*TRUTH_KEYS, "n"])
        every = pd.concat(self._truth)
        return every.groupby(TRUTH_KEYS, as_index=False).sum()

    @property
    def base_usd(self) -> float:
        """What all requests would have cost by the published mean of the arm of the start, USD."""
        return float(self.truth["base_cost_usd"].sum()) if self._truth else 0.0

    def traffic_log(self) -> pd.DataFrame:
        """Every call in the files, once, with its ``score`` (nan where none has arrived)."""
        scores = read_scores(self.logs)
        return read_calls(self.logs).merge(
            scores[["request_id", "score"]], on="request_id", how="left"
        )

    def _half_hour(self) -> int:
        end_s = self._step + STEP_S
        frames = [self._calls(index, target, end_s) for index, target in enumerate(self.targets)]
        calls = pd.concat(frames, ignore_index=True).sort_values("at_s", kind="stable")
        rng = np.random.default_rng([self._seed, len(self.targets), self._step])
        self._write(CALLS, call_lines(calls), rng)
        self._remember_scores(calls, rng)
        due = self._unscored["due_s"] < end_s
        self._write(FEEDBACK, feedback_lines(self._unscored[due].sort_values("due_s")), rng)
        self._unscored = self._unscored[~due]
        self._truth.append(_truth(calls))
        self._step = end_s
        return len(calls)

    def _calls(self, index: int, target: PublishedTarget, end_s: int) -> pd.DataFrame:
        traffic = self._traffic[target.name]
        arrived = arriving(
            np.random.default_rng([self._seed, index, self._step]),
            start_s=self._step,
            minutes=STEP_S // 60,
            requests_per_hour=self.settings.requests_per_hour,
            first_session=traffic.sessions,
        )
        traffic.sessions = max(traffic.sessions, int(arrived.session.max(initial=-1)) + 1)
        due, traffic.waiting = joined(traffic.waiting, arrived).split(end_s)
        parts = list(self._served(target, due))
        frame = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
        frame["request_id"] = [
            f"{target.name}-{traffic.requests + number}" for number in range(len(frame))
        ]
        traffic.requests += len(frame)
        return frame

    def _served(self, target: PublishedTarget, due: Requests) -> Iterator[pd.DataFrame]:
        """The requests with what became of them, arm by arm."""
        sessions, which = np.unique(due.session, return_inverse=True)
        choices = [
            self._allocations.choose(target.name, f"{target.name}/{session}")
            for session in sessions.tolist()
        ]
        arm_of = np.array([choice.arm for choice in choices])[which]
        text_of = _texts(choices)
        for name in sorted(set(arm_of.tolist())):
            mine = np.flatnonzero(arm_of == name)
            arm, some = target.arm(name), due.take(mine)
            made = outcomes(arm, dict(zip(LUCK, some.luck, strict=True)), some.at_s)
            answered = ~made.failed
            yield pd.DataFrame(
                {
                    "target": target.name,
                    "arm": name,
                    "slice": [choices[position].slice for position in which[mine]],
                    "assigned": [text_of[position] for position in which[mine]],
                    "session_id": [choices[position].unit for position in which[mine]],
                    "at_s": some.at_s,
                    "status": np.where(made.refused, "429", np.where(made.failed, "error", "ok")),
                    "latency_ms": made.latency_ms,
                    "input_tokens": np.where(made.refused, 0, round(arm.input_tokens)),
                    "output_tokens": made.output_tokens,
                    "cost_usd": np.round(made.cost_usd, 9),
                    "quality": np.where(answered, made.quality, np.nan),
                    "base_cost_usd": target.baseline.cost_usd * (1 - target.baseline.failure_rate),
                    "true_cost_usd": arm.cost_usd * answered,
                    "base_quality": np.where(answered, target.baseline.quality_mean, np.nan),
                    "true_quality": np.where(answered, arm.quality_mean, np.nan),
                }
            )

    def _remember_scores(self, calls: pd.DataFrame, rng: np.random.Generator) -> None:
        """Some answers are scored, some time later."""
        settings = self.settings
        scored = calls["quality"].notna().to_numpy() & (
            rng.uniform(0, 1, len(calls)) < settings.label_rate
        )
        delay = settings.label_delay_min_s + rng.exponential(
            settings.label_delay_mean_s - settings.label_delay_min_s, len(calls)
        )
        delay = np.minimum(delay, settings.label_delay_max_s)
        fresh = pd.DataFrame(
            {
                "request_id": calls["request_id"],
                "due_s": calls["at_s"] + delay,
                "score": calls["quality"],
            }
        )[scored]
        self._unscored = pd.concat([self._unscored, fresh]) if len(self._unscored) else fresh

    def _write(self, kind: str, lines: list[str], rng: np.random.Generator) -> None:
        written, kept, dirt = soiled(lines, rng)
        self.dirt += dirt
        name = at(self._step).strftime("%Y-%m-%dT%H%M.jsonl")
        path = self.logs / kind / name
        path.write_text("".join([*self._late[kind], *written]), encoding="utf-8")
        self._late[kind] = kept


def _texts(choices: list[Choice]) -> list[str]:
    """The assigned part of each choice's log line, made once for each generation and slice."""
    made: dict[tuple[int | None, str], str] = {}
    for choice in choices:
        key = (choice.generation, choice.slice)
        if key not in made:
            made[key] = prefix(choice)
    return [made[choice.generation, choice.slice] for choice in choices]


def _truth(calls: pd.DataFrame) -> pd.DataFrame:
    ok = calls["status"] == "ok"
    return (
        calls.assign(
            hour_s=(calls["at_s"] // HOUR_S).astype(np.int64) * HOUR_S,
            n=1,
            n_failed=(~ok).astype(np.int64),
            n_answered=ok.astype(np.int64),
        )
        .groupby(TRUTH_KEYS, as_index=False)[
            [
                "n",
                "n_failed",
                "n_answered",
                "cost_usd",
                "base_cost_usd",
                "true_cost_usd",
                "quality",
                "base_quality",
                "true_quality",
            ]
        ]
        .sum()
    )
