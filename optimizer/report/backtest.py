"""A backtest as it is told: figures, decisions with their ends, refusals, and what is unknown."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.decision import State
from optimizer.engine.past import Past
from optimizer.engine.past_sums import PastSums, opened
from optimizer.metrics import DAY_S, HOUR_S
from optimizer.policy import Policy
from optimizer.ports import Ledger
from optimizer.report.backtest_figures import (
    RANDOMISED,
    TargetFigures,
    TotalFigures,
    account,
    bases,
)
from optimizer.report.backtest_scenarios import QUALITY, UNCHANGED, Outlook, Scenarios, chosen
from optimizer.report.backtest_value import (
    DECISIONS,
    arm_scenario,
    cumulated,
    value_costs,
    value_differences,
    whole_swaps,
)
from optimizer.report.page import short
from optimizer.report.story import Chapter, Story, read_story

FATES_WITHOUT_REFUSAL: Final = frozenset({"accepted", "awaiting_approval"})

UNKNOWABLE: Final = "unknown"
"""The outcome of a canary of whose arm the log holds nothing."""

FloatArray = npt.NDArray[np.float64]


class Walk(Protocol):
    """What walking the hours left, beside the ledger.

    in_force: the arm of each target at the start; offered: its arms; shares: target, arm, cell_s,
    share of what decisions moved; left and details: hours in which a strategy left an arm and its
    last words on that, by (target, arm, reason); n_rows, n_duplicates and by_reason count what was
    read; failed: targets that could not be decided on, and why.
    """

    past: Past
    start: datetime
    end: datetime
    in_force: Mapping[str, str]
    offered: Mapping[str, Sequence[str]]
    shares: pd.DataFrame
    left: Mapping[tuple[str, str, str], int]
    details: Mapping[tuple[str, str, str], str]
    failed: Mapping[str, str]
    n_rows: int
    n_duplicates: int
    by_reason: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A decision: when and what, how it ended on the log, and what the arm saved while it served.

    outcome: promoted, rolled back and by what, not proven, unknown, in flight, or how it ended;
    canary_requests: that the log could play at most.
    """

    id: str
    at: datetime
    target: str
    baseline: str
    candidate: str
    strategy: str
    outcome: str
    why: str
    promoted_at: datetime | None
    ended_at: datetime | None
    canary_requests: int
    worth: Outlook


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Proposals or arms that came to nothing for one reason: hours, and the last words on it."""

    target: str
    arm: str
    reason: str
    hours: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Money spent by the end of each hour, USD, all of one shape (H,).

    half_width: of the interval of ``decided``, by day's end, Unix seconds; nan = unknown.
    """

    hour_s: npt.NDArray[np.int64]
    spent: FloatArray
    decided: FloatArray
    best: FloatArray
    half_width: Mapping[int, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """All of it; curves: by target, all together under the empty name."""

    start: datetime
    end: datetime
    rows: int
    duplicates: int
    set_aside: Mapping[str, int]
    targets: tuple[TargetFigures, ...]
    total: TotalFigures
    decisions: tuple[Made, ...]
    refused: tuple[Refused, ...]
    left: tuple[Refused, ...]
    failed: Mapping[str, str]
    notes: tuple[str, ...]
    curves: Mapping[str, Series] = field(repr=False)


def tell(walk: Walk, ledger: Ledger, policies: Mapping[str, Policy]) -> Backtest:
    """The backtest, from what the walk left, its ledger among it.

    Raises:
        UnavailableError: the disk or the memory did not suffice.
    """
    start_s, end_s = (int(moment.timestamp()) for moment in (walk.start, walk.end))
    with opened(walk.past, start_s=start_s, end_s=end_s, in_force=walk.in_force) as sums:
        return _told(sums, walk, policies, read_story(ledger, policies, since=walk.start))


def _told(sums: PastSums, walk: Walk, policies: Mapping[str, Policy], story: Story) -> Backtest:
    basis = bases(sums.propensities())
    sums.weigh(sorted(name for name, how in basis.items() if how == RANDOMISED))
    hours = range(int(walk.start.timestamp()), int(walk.end.timestamp()), HOUR_S)
    scenarios = _scenarios(sums, walk, policies, story, hours)
    targets, total = account(
        scenarios,
        offered=walk.offered,
        in_force=walk.in_force,
        basis=basis,
        policies=policies,
    )
    made = tuple(_made(chapter, scenarios) for chapter in story.chapters)
    return Backtest(
        start=walk.start,
        end=walk.end,
        rows=walk.n_rows,
        duplicates=walk.n_duplicates,
        set_aside=walk.by_reason,
        targets=targets,
        total=total,
        decisions=made,
        refused=_refused(story),
        left=tuple(
            Refused(target=key[0], arm=key[1], reason=key[2], hours=n, detail=walk.details[key])
            for key, n in walk.left.items()
        ),
        failed=walk.failed,
        notes=_notes(targets, total, made, _unvalued(scenarios, walk)),
        curves=_curves(scenarios, targets, hours),
    )


def _scenarios(
    sums: PastSums, walk: Walk, policies: Mapping[str, Policy], story: Story, hours: range
) -> Scenarios:
    shares = pd.concat(
        [
            _named(walk.shares, story),
            walk.shares.assign(scenario=DECISIONS),
            whole_swaps(walk.offered, hours),
        ],
        ignore_index=True,
    )
    costs = value_costs(sums, shares)
    metrics = {rail.metric for name in walk.in_force for rail in policies[name].guardrails}
    return Scenarios(
        calls=sums.calls(),
        costs=costs,
        others={
            metric: value_differences(sums, costs, shares, metric)
            for metric in sorted({QUALITY, *metrics})
        },
    )


def _named(shares: pd.DataFrame, story: Story) -> pd.DataFrame:
    """The shares under the decisions that brought their arms: the newest one of each hour."""
    parts = [shares.assign(scenario=pd.Series(dtype="str"))[:0]]
    for chapter in story.chapters:
        decision = chapter.decision
        own = (shares["target"] == decision.target) & (shares["arm"] == decision.candidate)
        since = own & (shares["cell_s"] >= int(decision.created_at.timestamp()))
        later = [
            int(other.decision.created_at.timestamp())
            for other in story.of(decision.target)
            if other.decision.candidate == decision.candidate
            and other.decision.created_at > decision.created_at
        ]
        until = min(later, default=None)
        since &= True if until is None else shares["cell_s"] < until
        parts.append(shares[since].assign(scenario=str(decision.id)))
    return pd.concat(parts, ignore_index=True)


def _made(chapter: Chapter, scenarios: Scenarios) -> Made:
    decision = chapter.decision
    looked = [look.verdict.n_canary for look in chapter.looks]
    own = [(str(decision.id), decision.target)]
    worth = scenarios.outlook(decision.id, own, [decision.target])
    return Made(
        id=decision.id,
        at=decision.created_at,
        target=decision.target,
        baseline=decision.baseline,
        candidate=decision.candidate,
        strategy=decision.strategy,
        outcome=_outcome(chapter, worth),
        why=short(decision, _why(chapter)),
        promoted_at=decision.deployed_at,
        ended_at=decision.ended_at,
        canary_requests=max(looked, default=0),
        worth=worth,
    )


def _why(chapter: Chapter) -> str:
    """What promoted the candidate, or ended it, or holds it."""
    for event in chapter.events:
        if chapter.is_promoted and event.to_state is State.DEPLOYED:
            return event.reason
    decision = chapter.decision
    said = chapter.looks[-1].detail if chapter.looks else decision.rationale
    return decision.reason or said


def _outcome(chapter: Chapter, worth: Outlook) -> str:
    """How the decision ended on the log, in a word or two."""
    decision = chapter.decision
    if chapter.is_promoted:
        return "promoted"
    if worth.elsewhere > 0 and worth.unknown_requests >= worth.elsewhere:
        return UNKNOWABLE
    if not decision.state.is_final:
        return "in flight"
    if decision.state.value == "rolled_back" and chapter.deciding is None:
        return "not proven"
    return chapter.ended


def _refused(story: Story) -> tuple[Refused, ...]:
    """Proposals that were refused, by target, arm and reason."""
    hours: Counter[tuple[str, str, str]] = Counter()
    details: dict[tuple[str, str, str], str] = {}
    for proposal, fate, reason in story.proposals:
        if fate not in FATES_WITHOUT_REFUSAL:
            key = (proposal.target, proposal.candidate, fate)
            hours[key] += 1
            details[key] = reason
    return tuple(
        Refused(target=key[0], arm=key[1], reason=key[2], hours=n, detail=details[key])
        for key, n in sorted(hours.items())
    )


def _curves(
    scenarios: Scenarios, targets: Sequence[TargetFigures], hours: range
) -> dict[str, Series]:
    names = [figures.target for figures in targets]
    best = {
        figures.target: arm_scenario(figures.best.name)
        for figures in targets
        if figures.best.name != UNCHANGED
    }
    groups = {"": names} | {name: [name] for name in names}
    return {label: _series(scenarios, group, best, hours) for label, group in groups.items()}


def _series(
    scenarios: Scenarios, names: Sequence[str], best: Mapping[str, str], hours: range
) -> Series:
    index = pd.Index(list(hours), dtype="int64")
    calls = scenarios.calls[scenarios.calls["target"].isin(list(names))]
    spent = calls.groupby("cell_s")["spend_usd"].sum().reindex(index, fill_value=0.0)
    pairs = [(DECISIONS, name) for name in names]
    saved = [
        chosen(scenarios.costs.hours, each)
        .groupby("cell_s")["saving_usd"]
        .sum()
        .reindex(index, fill_value=0.0)
        for each in (pairs, [(best[name], name) for name in names if name in best])
    ]
    return Series(
        hour_s=index.to_numpy(),
        spent=spent.cumsum().to_numpy(dtype=np.float64),
        decided=(spent - saved[0]).cumsum().to_numpy(dtype=np.float64),
        best=(spent - saved[1]).cumsum().to_numpy(dtype=np.float64),
        half_width={
            day_s + DAY_S: half
            for day_s, half in cumulated(chosen(scenarios.costs.spread, pairs)).items()
        },
    )


def _unvalued(scenarios: Scenarios, walk: Walk) -> list[str]:
    """Arms of which the log tells nothing."""
    cells = scenarios.costs.prices
    seen = set(zip(cells["target"], cells["arm"], strict=True))
    return [
        f"{arm} on {target}"
        for target, arms in sorted(walk.offered.items())
        for arm in arms
        if (target, arm) not in seen
    ]


def _notes(
    targets: Sequence[TargetFigures],
    total: TotalFigures,
    made: Sequence[Made],
    dark: Sequence[str],
) -> tuple[str, ...]:
    """What the reader must know before believing a figure."""
    notes = []
    mixed = [each.target for each in targets if each.basis != RANDOMISED]
    if mixed:
        notes.append(
            f"{', '.join(mixed)}: arms were not assigned by known chances, so that a difference "
            "between them may be one between their requests. Log propensities to remove that doubt."
        )
    unknown = [each for each in made if each.outcome == UNKNOWABLE]
    if unknown:
        what = ", ".join(f"{each.candidate} on {each.target}" for each in unknown)
        first = {each.target: each.at for each in reversed(unknown)}
        since = ", ".join(f"{name} from {at:%Y-%m-%d %H:%M}" for name, at in sorted(first.items()))
        notes.append(
            f"{what}: would have needed a canary of an arm that the log holds no requests of. "
            "Whether it had been promoted is unknown, and so is what would have followed "
            f"({since}); the figures go on as if it had been taken back."
        )
    if dark:
        notes.append(
            f"{', '.join(dark)}: the log holds no requests of known cost, so that no yardstick "
            "knows these arms."
        )
    if total.spent.unpriced:
        notes.append(
            f"{total.spent.unpriced:,} of {total.spent.requests:,} requests have no known cost: "
            "they are in no figure of money."
        )
    notes.append(
        "Yardsticks are picked with the whole period in hand and look better than they would have "
        "been. Canaries are played by requests the log holds of both arms, at most as many as a "
        "canary would have had; the five-minute guard and experiments are not run, policy points "
        "outside are not asked, and a person who would have been asked says yes at once. An "
        "interval does not know of other weeks."
    )
    return tuple(notes)
