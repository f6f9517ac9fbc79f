"""A backtest as it is told: figures, decisions with their ends, refusals, and what is unknown."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd

from optimizer.decision import State
from optimizer.engine.past_sums import PastSums, opened
from optimizer.engine.walked import Walked
from optimizer.metrics import HOUR_S
from optimizer.policy import Policy
from optimizer.ports import Ledger
from optimizer.report.backtest.curves import curves_of
from optimizer.report.backtest.figures import RANDOMISED, account, bases
from optimizer.report.backtest.notes import notes_on
from optimizer.report.backtest.records import UNKNOWABLE, Backtest, Made, Refused
from optimizer.report.backtest.scenarios import QUALITY, Outlook, Scenarios
from optimizer.report.backtest.value import (
    DECISIONS,
    value_costs,
    value_differences,
    whole_swaps,
)
from optimizer.report.page import short
from optimizer.report.story import Chapter, Story, read_story

FATES_WITHOUT_REFUSAL: Final = frozenset({"accepted", "awaiting_approval"})


def tell(walked: Walked, ledger: Ledger, policies: Mapping[str, Policy]) -> Backtest:
    """The backtest, from what the walk left, its ledger among it.

    Raises:
        UnavailableError: the disk or the memory did not suffice.
    """
    read = walked.read
    span = {"start_s": read.period.start_s, "end_s": read.period.end_s}
    with opened(read.past, **span, in_force=walked.in_force) as sums:
        return _told(sums, walked, policies, read_story(ledger, policies, since=read.period.start))


def _told(sums: PastSums, walked: Walked, policies: Mapping[str, Policy], story: Story) -> Backtest:
    read = walked.read
    basis = bases(sums.propensities())
    sums.weigh(sorted(name for name, how in basis.items() if how == RANDOMISED))
    hours = range(read.period.start_s, read.period.end_s, HOUR_S)
    scenarios = _scenarios(sums, walked, policies, story, hours)
    targets, total = account(
        scenarios,
        offered=walked.offered,
        in_force=walked.in_force,
        basis=basis,
        policies=policies,
    )
    made = tuple(_made(chapter, scenarios) for chapter in story.chapters)
    return Backtest(
        start=read.period.start,
        end=read.period.end,
        rows=read.n_rows,
        duplicates=read.n_duplicates,
        set_aside=read.by_reason,
        targets=targets,
        total=total,
        decisions=made,
        refused=_refused(story),
        left=tuple(
            Refused(target=key[0], arm=key[1], reason=key[2], hours=n, detail=walked.details[key])
            for key, n in walked.left.items()
        ),
        failed=walked.failed,
        notes=notes_on(targets, total, made, _unvalued(scenarios, walked.offered)),
        curves=curves_of(scenarios, targets, hours),
    )


def _scenarios(
    sums: PastSums, walked: Walked, policies: Mapping[str, Policy], story: Story, hours: range
) -> Scenarios:
    shares = pd.concat(
        [
            _named(walked.shares, story),
            walked.shares.assign(scenario=DECISIONS),
            whole_swaps(walked.offered, hours),
        ],
        ignore_index=True,
    )
    costs = value_costs(sums, shares)
    metrics = {rail.metric for name in walked.in_force for rail in policies[name].guardrails}
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


def _unvalued(scenarios: Scenarios, offered: Mapping[str, Sequence[str]]) -> list[str]:
    """Arms of which the log holds no request of known cost."""
    cells = scenarios.costs.prices
    seen = set(zip(cells["target"], cells["arm"], strict=True))
    return [
        f"{arm} on {target}"
        for target, arms in sorted(offered.items())
        for arm in arms
        if (target, arm) not in seen
    ]
