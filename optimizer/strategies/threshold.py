"""The way out of an arm in force that breaks an absolute limit.

The fixed rules that guard safety come before every search for improvement. A rollout in flight is
left to its guard, which rolls it back; here are the targets nobody is changing, whose arm went bad
by itself. A limit counts as broken when the data prove it, not when one window looks bad. Broken
safety limits are urgent, a broken budget is not.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.evidence import (
    Considered,
    Estimate,
    Impact,
    Insight,
    Proposal,
    Rejected,
    Scene,
    Severity,
    proposal_id,
)
from optimizer.metrics import DAY_S, HOUR_S
from optimizer.statistics import arms
from optimizer.statistics.arms import Row
from optimizer.statistics.outlook import Z_95, known, outlook, predictions
from optimizer.statistics.planning import wilson_interval
from optimizer.statistics.quantiles import snap_to_edge

NAME: Final = "threshold"
ABORTED: Final = frozenset({"rolled_back", "cancelled"})
TAIL: Final = 0.05
"""Share of requests that may lie beyond a p95."""

ENDLESS_MS: Final = 1e12
"""Beyond every histogram: a limit that is never broken."""

BROKEN: Final[Mapping[str, tuple[Severity, str]]] = {
    "failure_rate": (
        Severity.CRITICAL,
        "failures {r.failure_rate:.4f} (low {r.failure_low:.4f}) > {r.failure_max:g}, n = {r.n}",
    ),
    "quality": (
        Severity.CRITICAL,
        "quality {r.quality:.4f} (high {r.quality_high:.4f}) < {r.quality_min:g}, n {r.n_quality}",
    ),
    "latency": (
        Severity.ERROR,
        "p95 {r.p95_ms:.0f} ms above {r.p95_max:g} ms, n = {r.n_latency}",
    ),
    "request_budget": (
        Severity.WARNING,
        "{r.cost_usd:.6g} USD a request above {r.request_max:g}, n = {r.n_cost}",
    ),
    "hourly_budget": (
        Severity.WARNING,
        "{r.hour_usd:.6g} USD in the last hour above {r.hourly_max:g}",
    ),
    "daily_budget": (
        Severity.WARNING,
        "{r.day_usd:.6g} USD since midnight UTC above {r.daily_max:g}",
    ),
}
"""What can be broken, most severe first, with the sentence that says so."""

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Proposes the best safe arm where the arm in force provably breaks a limit of the policy.

    min_requests, min_labels: rows of the last hour below which nothing is proven; days: how far
    back other arms' own traffic counts; priority, budget_priority: of the proposals.
    """

    min_requests: int = 100
    min_labels: int = 100
    days: int = 7
    priority: int = 100
    budget_priority: int = 50

    def __call__(self, scene: Scene, insights: Sequence[Insight]) -> tuple[Proposal, ...]:
        """The proposals, by target."""
        considered = self.consider(scene, insights)
        return tuple(each.proposal for each in considered if each.proposal is not None)

    def consider(self, scene: Scene, insights: Sequence[Insight]) -> tuple[Considered, ...]:
        """Every idle target that breaks a limit, with the arm proposed, if any, and the others."""
        now_s = int(scene.now.timestamp())
        names = _idle(scene)
        recent = arms.within(scene.hours, start_s=now_s - self.days * DAY_S, end_s=now_s)
        recent = recent[recent["target"].isin(names)]
        broken = self._broken(scene, recent, names)
        if broken.empty:
            return ()
        book = self._options(scene, recent[recent["target"].isin(broken["target"])], broken)
        rates = arms.requests_per_hour(recent, now_s=now_s)
        notes = {
            name: tuple(i.kind for i in insights if i.target == name) for name in broken["target"]
        }
        sick = {str(row.target): row for row in arms.rows(broken)}
        return tuple(
            self._conclude(scene, sick[name], options, rates.get(name, 0.0), notes[name])
            for name, options in arms.rows_by_target(book)
        )

    def _broken(self, scene: Scene, recent: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
        """One row for each target whose arm in force breaks a limit in its newest fresh hour."""
        now_s = int(scene.now.timestamp())
        limits = _limits(scene, names)
        fresh = arms.newest(recent, dict(zip(limits["target"], limits["fresh_s"], strict=True)))
        spent = fresh.groupby("target")["cost_nusd"].sum() * 1e-9
        today = arms.within(recent, start_s=now_s // DAY_S * DAY_S, end_s=now_s)
        day = today.groupby("target")["cost_nusd"].sum() * 1e-9
        in_force = dict(zip(limits["target"], limits["in_force"], strict=True))
        served = arms.pooled(fresh[fresh["arm"] == fresh["target"].map(in_force)], ("target",))
        ripe = recent[recent["arm"] == recent["target"].map(in_force)]
        cuts = dict(zip(limits["target"], limits["mature_s"], strict=True))
        oldest = {name: cut - HOUR_S for name, cut in cuts.items()}
        scored = arms.measured(
            arms.pooled(arms.newest(arms.mature(ripe, cuts), oldest), ("target",), latency=False)
        )
        seen = arms.measured(served).drop(columns=["n_quality", "quality", "quality_variance"])
        seen = seen.merge(limits, on="target").merge(
            scored[["target", "n_quality", "quality", "quality_variance"]], on="target", how="left"
        )
        slower = arms.slower_than(
            served, snap_to_edge(np.minimum(seen["p95_max"].to_numpy(), ENDLESS_MS))
        )
        spread = np.sqrt(seen["quality_variance"])
        seen = seen.assign(
            slow_low=wilson_interval(slower, seen["n_latency"])[0],
            quality_high=np.minimum(1.0, seen["quality"] + Z_95 * spread),
            cost_low=seen["cost_usd"] * np.exp(-Z_95 * np.sqrt(seen["log_cost_variance"])),
            hour_usd=seen["target"].map(spent),
            day_usd=seen["target"].map(day),
        )
        return self._named(seen)

    def _named(self, seen: pd.DataFrame) -> pd.DataFrame:
        """The rows that break something, with the most severe thing they break."""
        tests = {
            "failure_rate": (seen["n"] >= self.min_requests)
            & (seen["failure_low"] > seen["failure_max"]),
            "quality": (seen["n_quality"] >= self.min_labels)
            & (seen["quality_high"] < seen["quality_min"]),
            "latency": (seen["n_latency"] >= self.min_requests) & (seen["slow_low"] > TAIL),
            "request_budget": (seen["n_cost"] >= self.min_requests)
            & (seen["cost_low"] > seen["request_max"]),
            "hourly_budget": seen["hour_usd"] > seen["hourly_max"],
            "daily_budget": seen["day_usd"] > seen["daily_max"],
        }
        broken = np.select(
            [test.to_numpy(dtype=np.bool_) for test in tests.values()], list(tests), default=""
        )
        named: pd.DataFrame = seen.assign(broken=broken)[broken != ""]
        return named

    def _options(self, scene: Scene, recent: pd.DataFrame, broken: pd.DataFrame) -> pd.DataFrame:
        """Every arm of the broken targets with the reason against it, best first."""
        cuts = dict(zip(broken["target"], broken["mature_s"], strict=True))
        book = outlook(
            {name: scene.targets[name] for name in broken["target"]},
            scene.baselines,
            recent,
            arms.mature(recent, cuts),
            min_requests=self.min_requests,
            min_labels=self.min_labels,
        )
        limits = ["failure_max", "p95_max", "quality_min", "request_max", "margin", "broken"]
        book = book.merge(broken[["target", *limits]], on="target", how="left")
        own = (book["n"] >= self.min_requests).to_numpy()
        budget = book["broken"].str.endswith("_budget").to_numpy(dtype=np.bool_)
        tests = {
            "disabled": ~book["enabled"].to_numpy(dtype=np.bool_),
            "recently_rolled_back": _recently_aborted(scene, book),
            "no_evidence": ~own
            & ~book[["prior_quality", "prior_failure_rate", "prior_latency_ms"]]
            .notna()
            .any(axis=1)
            .to_numpy(),
            "unsafe": _unsafe(book),
            "quality": budget & ~(book["quality_gap"] + book["margin"] >= 0).to_numpy(),
            "not_cheaper": budget & ~(book["cost_ratio"] < 1).to_numpy(),
        }
        reason = np.select(list(tests.values()), list(tests), default="")
        # A safety limit asks for the best arm, a budget for the cheapest one.
        order = book.assign(
            reason=np.where(book["is_base"], "in_force", reason),
            first=np.where(budget, book["cost_ratio"], ~own),
            second=np.where(budget, 0.0, -book["quality_expected"].fillna(0.0)),
        )
        return order.sort_values(["target", "first", "second", "cost_ratio", "arm"])

    def _conclude(
        self, scene: Scene, sick: Row, rows: Sequence[Row], rate: float, notes: tuple[str, ...]
    ) -> Considered:
        base = next(row for row in rows if row.is_base)
        severity, sentence = BROKEN[sick.broken]
        told = f"{severity.value}: {base.arm} of {base.target}: {sentence.format(r=sick)}"
        cooling = _cooling(scene, base.target)
        free = [row for row in rows if not row.reason] if cooling is None else []
        chosen = free[0] if free else None
        rejected = tuple(
            _rejected(row, cooling, chosen) for row in rows if not row.is_base and row is not chosen
        )
        proposal = None
        if chosen is not None:
            proposal = self._proposal(scene, base, chosen, told, rate, rejected, notes)
        return Considered(strategy=NAME, target=base.target, proposal=proposal, rejected=rejected)

    def _proposal(  # noqa: PLR0917 - a proposal rests on this many things
        self,
        scene: Scene,
        base: Row,
        row: Row,
        told: str,
        rate: float,
        rejected: tuple[Rejected, ...],
        notes: tuple[str, ...],
    ) -> Proposal:
        budget = row.broken.endswith("_budget")
        own = row.n >= self.min_requests
        daily = 24 * rate * row.base_cost_usd * (1.0 - row.cost_ratio)
        return Proposal(
            id=proposal_id(NAME, row.target, row.arm, scene.now),
            strategy=NAME,
            target=row.target,
            candidate=row.arm,
            rationale=f"{told}; {row.arm} is the "
            + ("cheapest arm that keeps quality" if budget else "best arm within the limits")
            + (f" by its own {row.n} requests" if own else ", by what is published of it"),
            expected=Impact(
                cost_reduction_pct=known(100 * (1 - row.cost_ratio)),
                quality_delta=known(row.quality_gap),
                latency_delta_pct=known(100 * np.expm1(row.log_latency_ratio)),
                daily_saving_usd=known(daily),
                n=int(row.n),
                method=f"cost from {row.cost_from}, quality from {row.quality_from}",
            ),
            estimates=tuple(Estimate(**values) for values in predictions(row, base)),
            rejected=rejected,
            insights=notes,
            priority=self.budget_priority if budget else self.priority,
            urgent=not budget,
            exploratory=not own,
        )


def _idle(scene: Scene) -> Sequence[str]:
    return [
        name
        for name in sorted(scene.targets)
        if name in scene.policies and name not in scene.in_flight and name not in scene.paused
    ]


def _limits(scene: Scene, names: Sequence[str]) -> pd.DataFrame:
    """One row a target: its limits, infinite where there is none, and its times in Unix seconds."""
    now_s = int(scene.now.timestamp())
    rows = []
    for name in names:
        policy, target = scene.policies[name], scene.targets[name]
        safety, budget = policy.safety, policy.budget
        quality = next((g for g in policy.guardrails if g.metric == "quality"), None)
        rows.append(
            (
                name,
                scene.baselines.get(name, target.baseline),
                safety.failure_rate_max,
                safety.latency_p95_ms_max,
                safety.quality_min,
                *(
                    np.inf if limit is None else limit
                    for limit in (budget.per_request_usd, budget.hourly_usd, budget.daily_usd)
                ),
                np.inf if quality is None else quality.margin,
                now_s - int(policy.data_lag_max.total_seconds()),
                now_s - int(policy.label_maturity.total_seconds()),
            )
        )
    columns = [
        "target",
        "in_force",
        "failure_max",
        "p95_max",
        "quality_min",
        "request_max",
        "hourly_max",
        "daily_max",
        "margin",
        "fresh_s",
        "mature_s",
    ]
    return pd.DataFrame(rows, columns=columns)


def _recently_aborted(scene: Scene, book: pd.DataFrame) -> BoolArray:
    aborted = {
        (past.target, past.arm)
        for past in scene.past
        if past.state in ABORTED
        and past.target in scene.policies
        and scene.now - past.ended_at < scene.policies[past.target].retry_after
    }
    pairs = zip(book["target"], book["arm"], strict=True)
    return np.fromiter((pair in aborted for pair in pairs), dtype=np.bool_, count=len(book))


def _unsafe(book: pd.DataFrame) -> BoolArray:
    """Arms that are expected to break an absolute limit themselves."""
    return np.asarray(
        (book["failure_expected"] > book["failure_max"])
        | (book["p95_expected_ms"] > book["p95_max"])
        | (book["quality_expected"] < book["quality_min"])
        | (book["cost_ratio"] * book["base_cost_usd"] > book["request_max"]),
        dtype=np.bool_,
    )


def _cooling(scene: Scene, target: str) -> str | None:
    recent = [at for at in scene.changes.get(target, ()) if at <= scene.now]
    wait = scene.policies[target].cooldown
    if recent and scene.now - max(recent) < wait:
        return f"last change at {max(recent).isoformat()}, cooldown {wait}"
    return None


def _rejected(row: Row, cooling: str | None, chosen: Row | None) -> Rejected:
    if cooling is not None:
        return Rejected(arm=row.arm, reason="cooldown", detail=cooling)
    reason = row.reason or "outranked"
    detail = (
        f"within the limits, but {chosen.arm} comes first"
        if chosen is not None and not row.reason
        else f"expected failures {row.failure_expected:.3g}, p95 {row.p95_expected_ms:.4g} ms, "
        f"quality {row.quality_expected:.3g}, cost ratio {row.cost_ratio:.3g}; {row.n} requests"
    )
    return Rejected(arm=row.arm, reason=reason, detail=detail)
