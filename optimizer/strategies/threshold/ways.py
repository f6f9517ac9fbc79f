"""Ways out: arms a sick target may go to, what is against each, and which response finds one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.evidence import Scene
from optimizer.statistics import arms
from optimizer.statistics.arms import Row
from optimizer.statistics.outlook import outlook
from optimizer.strategies.threshold.changed import NOW
from optimizer.strategies.threshold.record import Record
from optimizer.strategies.threshold.settings import Response, Settings

SOFT: Final = frozenset({"", "no_evidence"})
"""Reasons that are none against an arm which the ledger or the operator names."""

LIMITS: Final = (
    *("failure_max", "p95_max", "quality_min", "request_max", "margin"),
    *("is_money", *NOW),
)

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where to go; row None = nowhere. missed: what was not possible, response by response."""

    response: Response
    row: Row | None = None
    missed: tuple[str, ...] = ()


def options(
    scene: Scene,
    recent: pd.DataFrame,
    sick: pd.DataFrame,
    records: Mapping[str, Record],
    settings: Settings,
) -> pd.DataFrame:
    """Every arm of the sick targets with the reason against it, best first.

    Args:
        scene: the hour's scene.
        recent: aggregates of the last days of those targets.
        sick: one row a target: its limits, its trigger, and what its arm in force does now.
        records: their pasts.
        settings: floors of rows.
    """
    cuts = dict(zip(sick["target"], sick["mature_s"], strict=True))
    book = outlook(
        {name: scene.targets[name] for name in sick["target"]},
        scene.baselines,
        recent,
        arms.mature(recent, cuts),
        min_requests=settings.min_requests,
        min_labels=settings.min_labels,
    )
    book = book.merge(sick[["target", *LIMITS]], on="target", how="left")
    own = (book["n"] >= settings.min_requests).to_numpy()
    money = book["is_money"].to_numpy(dtype=np.bool_)
    tests = {
        "disabled": ~book["enabled"].to_numpy(dtype=np.bool_),
        "recently_rolled_back": _among(book, {name: r.aborted for name, r in records.items()}),
        "left_sick": _among(book, {name: r.left for name, r in records.items()}),
        "unsafe": _unsafe(book),
        "no_better": _no_better(book),
        "quality": money & ~(book["quality_gap"] + book["margin"] >= 0).to_numpy(),
        "not_cheaper": money
        & ~(book["cost_ratio"] < book["cost_factor"].fillna(1.0)).to_numpy(dtype=np.bool_),
        "no_evidence": ~own
        & ~book[["prior_quality", "prior_failure_rate", "prior_latency_ms"]]
        .notna()
        .any(axis=1)
        .to_numpy(),
    }
    reason = np.select(list(tests.values()), list(tests), default="")
    # A safety limit asks for the best arm, money for the cheapest one.
    order = book.assign(
        reason=np.where(book["is_base"], "in_force", reason),
        first=np.where(money, book["cost_ratio"], ~own),
        second=np.where(money, 0.0, -book["quality_expected"].fillna(0.0)),
    )
    return order.sort_values(["target", "first", "second", "cost_ratio", "arm"])


def way(
    rows: Sequence[Row],
    chain: Sequence[Response],
    *,
    back: str | None,
    no_way_back: str,
    fallback: str | None,
) -> Way:
    """The first response of the chain that finds an arm.

    Args:
        rows: the target's arms, best first, with the reason against each.
        chain: responses, in the order in which they are tried.
        back: the arm to roll back to, None = there is none.
        no_way_back: why there is none.
        fallback: the arm the operator names, None = none.
    """
    found = {row.arm: row for row in rows}
    missed: list[str] = []
    for response in chain:
        if response is Response.LOG:
            break
        if response is Response.ADJUST:
            free = next((row for row in rows if not row.reason), None)
            if free is not None:
                return Way(response=response, row=free, missed=tuple(missed))
            missed.append("no other arm is known to be better and within the limits")
            continue
        rolls = response is Response.ROLL_BACK
        name, none = (back, no_way_back) if rolls else (fallback, "no fallback arm is configured")
        row = None if name is None else found.get(name)
        if row is not None and row.reason in SOFT:
            return Way(response=response, row=row, missed=tuple(missed))
        what = "the way back" if rolls else "the fallback"
        missed.append(none if name is None else f"{what}, {name}: {_against(row)}")
    return Way(response=Response.LOG, missed=tuple(missed))


def _against(row: Row | None) -> str:
    return "left the configuration" if row is None else str(row.reason)


def _among(book: pd.DataFrame, named: Mapping[str, frozenset[str]]) -> BoolArray:
    pairs = zip(book["target"], book["arm"], strict=True)
    return np.fromiter((arm in named[name] for name, arm in pairs), np.bool_, count=len(book))


def _unsafe(book: pd.DataFrame) -> BoolArray:
    """Arms that are expected to break an absolute limit themselves."""
    return np.asarray(
        (book["failure_expected"] > book["failure_max"])
        | (book["p95_expected_ms"] > book["p95_max"])
        | (book["quality_expected"] < book["quality_min"])
        | (book["cost_ratio"] * book["base_cost_usd"] > book["request_max"]),
        dtype=np.bool_,
    )


def _no_better(book: pd.DataFrame) -> BoolArray:
    """Arms that are expected to be no better in what changed than the arm in force is now."""
    return np.asarray(
        (book["failure_expected"] >= book["failure_now"])
        | (book["quality_expected"] <= book["quality_now"])
        | (np.exp(book["log_latency_ratio"]) >= book["latency_factor"]),
        dtype=np.bool_,
    )
