"""The proposal of a way out, and why every other arm was left."""

from collections.abc import Sequence

import numpy as np

from optimizer.evidence import Estimate, Impact, Proposal, Rejected, Scene, proposal_id
from optimizer.statistics.arms import Row
from optimizer.statistics.outlook import known, predictions
from optimizer.statistics.seasonal import DAY_HOURS
from optimizer.strategies.threshold.case import Case
from optimizer.strategies.threshold.settings import NAME, Response, Settings

ASKS = (
    "its configuration was not changed here, and a change against the past breaks no limit: a "
    "person must agree"
)


def proposal(  # noqa: PLR0913 - a proposal rests on this many things
    scene: Scene,
    case: Case,
    row: Row,
    base: Row,
    *,
    response: Response,
    rate: float,
    settings: Settings,
    rejected: tuple[Rejected, ...],
    notes: tuple[str, ...],
) -> Proposal:
    """The way out to an arm.

    Args:
        scene: the hour's scene.
        case: what is wrong.
        row: the arm to go to.
        base: the arm in force.
        response: which response found it.
        rate: requests an hour, nan = unknown.
        settings: floors and priorities.
        rejected: the other arms.
        notes: kinds of the target's insights.
    """
    own = row.n >= settings.min_requests
    daily = DAY_HOURS * rate * row.base_cost_usd * (1.0 - row.cost_ratio)
    return Proposal(
        id=proposal_id(NAME, row.target, row.arm, scene.now),
        strategy=NAME,
        target=row.target,
        candidate=row.arm,
        rationale=f"{case.wrong(base.arm)}; {_where(case, row, response, own=own)}",
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
        priority=settings.money_priority if case.trigger.money else settings.priority,
        urgent=not case.trigger.money,
        # What held all of the traffic before is no trial, however long ago that was.
        exploratory=not own and response is not Response.ROLL_BACK,
        asks=ASKS if case.trigger.relative and not case.record.ours else "",
    )


def _where(case: Case, row: Row, response: Response, *, own: bool) -> str:
    if response is Response.ROLL_BACK:
        return f"{row.arm} was in force until {case.record.since:%d %b %H:%M} UTC: back to it"
    if response is Response.FALLBACK:
        return f"{row.arm} is the fallback that the operator names"
    best = "cheapest arm that keeps quality" if row.is_money else "best arm within the limits"
    source = f" by its own {row.n} requests" if own else ", by what is published of it"
    return f"{row.arm} is the {best}{source}"


def rejections(
    rows: Sequence[Row], waiting: str | None, chosen: Row | None
) -> tuple[Rejected, ...]:
    """Why each arm that is neither in force nor chosen was left.

    Args:
        rows: every arm of the target.
        waiting: why the target may not change at all yet, None = it may.
        chosen: the arm to go to, None = none.
    """
    return tuple(
        _rejected(row, waiting, chosen) for row in rows if not row.is_base and row is not chosen
    )


def _rejected(row: Row, waiting: str | None, chosen: Row | None) -> Rejected:
    if waiting is not None:
        return Rejected(arm=row.arm, reason="cooldown", detail=waiting)
    reason = row.reason or "outranked"
    detail = (
        f"within the limits, but {chosen.arm} comes first"
        if chosen is not None and not row.reason
        else f"expected failures {row.failure_expected:.3g}, p95 {row.p95_expected_ms:.4g} ms, "
        f"quality {row.quality_expected:.3g}, cost ratio {row.cost_ratio:.3g}; {row.n} requests"
    )
    return Rejected(arm=row.arm, reason=reason, detail=detail)
