"""Discoveries: of the proposals that rest on a test, how many may be false, counted over hours.

The p-values of an hour are one batch. It goes through a procedure that keeps the expected share of
false ones among a week's discoveries at or below alpha; a proposal that is no discovery is refused.
What rests on a prior, and what is urgent, is not tested: the one is to be tried and the other must
be done.

The laws kept here: an hour without a tested proposal changes nothing; the order of proposals
decides nothing; the same hour from the same state has the same end.

References:
    Zrnic, Jiang, Ramdas and Jordan (2020). The power of batching in multiple hypothesis testing.
    arXiv 1910.04968.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from optimizer.cycle.case import Case
from optimizer.evidence import Proposal, ProposalId, Scene
from optimizer.statistics.multiplicity import (
    Method,
    Procedure,
    batch_limits,
    restore,
    start,
)

HOURS: Final = 24
RETEST_AFTER: Final = timedelta(hours=HOURS)
"""The evidence of an hour ago is nearly the same: asking again every hour only spends the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Discoveries:
    """What the hours of one week have tested and found: a value, handed from hour to hour.

    Each procedure has half of alpha. Their discoveries are counted together, and the false share
    of a union is at most the sum of the two: ``V1 / R <= V1 / R1``.

    Attributes:
        alpha: bound on the expected share of false discoveries, in (0, 1).
        since: Monday, 00:00 UTC. A stream that never began anew would hear less with every batch.
        apart: of batches whose p-values are independent.
        sharing: of batches in which a provider serves arms of two proposals: when it is slow, all
            of them are.
        tested: when a proposal was last tested and no discovery, by target and arm.
    """

    alpha: float
    since: datetime
    apart: Procedure
    sharing: Procedure
    tested: Mapping[str, datetime] = field(default_factory=lambda: MappingProxyType({}))

    def test(
        self, scene: Scene, proposals: Sequence[Proposal]
    ) -> tuple[Mapping[ProposalId, str], "Discoveries"]:
        """Why those that are no discovery are refused, and what the next hour begins with.

        Args:
            scene: the hour's scene; the proposals' targets and arms are in it.
            proposals: those that may start otherwise; what rests on no test is passed over.
        """
        asked = {each.id: each for each in proposals if is_tested(each)}
        waiting = {
            name: f"p-value {each.p_value:.2g}, tested once a day: no discovery at "
            f"{at:%d %b %H:%M} UTC"
            for name, each in asked.items()
            if (at := self.tested.get(_key(each))) is not None and scene.now - at < RETEST_AFTER
        }
        batch = [asked[name] for name in sorted(asked.keys() - waiting.keys())]
        if not batch:
            return waiting, self
        refused, after = self._ruled(scene, batch)
        return {**waiting, **refused}, after

    def snapshot(self) -> dict[str, Any]:
        """All that :func:`recalled` needs, for a ledger; ``json.dumps`` takes it as it is."""
        return {
            "alpha": self.alpha,
            "since": self.since.isoformat(),
            "apart": self.apart.snapshot(),
            "sharing": self.sharing.snapshot(),
            "tested": {name: at.isoformat() for name, at in sorted(self.tested.items())},
        }

    def _ruled(
        self, scene: Scene, batch: Sequence[Proposal]
    ) -> tuple[dict[ProposalId, str], "Discoveries"]:
        shared = shares_a_provider(scene, batch)
        values = [0.0 if each.p_value is None else each.p_value for each in batch]
        ruling = (self.sharing if shared else self.apart).test_p_values(values)
        limits = batch_limits(values, float(ruling.level[0]))
        rows = zip(batch, values, limits, ruling.rejected, strict=True)
        missed = [(each, value, limit) for each, value, limit, found in rows if not found]
        told = {
            each.id: f"p-value {value:.2g}, in a batch of {len(batch)} it had to be at most "
            f"{limit:.2g} for at most {100 * self.alpha:g} % false discoveries; tested again in "
            f"{HOURS} h"
            for each, value, limit in missed
        }
        kept = {name: at for name, at in self.tested.items() if scene.now - at < RETEST_AFTER}
        tested = {**kept, **{_key(each): scene.now for each, _, _ in missed}}
        after = replace(self, tested=tested)
        if shared:
            return told, replace(after, sharing=ruling.after)
        return told, replace(after, apart=ruling.after)


def recalled(kept: Mapping[str, Any] | None, *, alpha: float, now: datetime) -> Discoveries:
    """What the hour at ``now`` begins with.

    Args:
        kept: the newest snapshot of an earlier hour; None = there is none. One of an earlier week,
            of another alpha, or that cannot be read, begins nothing: this week starts anew.
        alpha: bound on the false discovery rate, in (0, 1).
        now: aware UTC.

    Raises:
        ValueError: alpha is outside (0, 1).

    Examples:
        >>> from datetime import UTC
        >>> thursday = datetime(2026, 3, 5, 12, tzinfo=UTC)
        >>> fresh = recalled(None, alpha=0.1, now=thursday)
        >>> fresh.since.isoformat(), fresh.apart.alpha
        ('2026-03-02T00:00:00+00:00', 0.05)
        >>> recalled(fresh.snapshot(), alpha=0.1, now=thursday) == fresh
        True
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    fresh = Discoveries(
        alpha=alpha,
        since=midnight - timedelta(days=now.weekday()),
        apart=start(Method.BATCH_BH, alpha=alpha / 2),
        sharing=start(Method.BATCH_PRDS, alpha=alpha / 2),
    )
    if kept is None or (kept.get("alpha"), kept.get("since")) != (alpha, fresh.since.isoformat()):
        return fresh
    try:
        return replace(
            fresh,
            apart=restore(kept["apart"]),
            sharing=restore(kept["sharing"]),
            tested={name: datetime.fromisoformat(at) for name, at in kept["tested"].items()},
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return fresh


def undiscovered(case: Case) -> str | None:
    """Why the proposal is no discovery."""
    return case.undiscovered


def is_tested(proposal: Proposal) -> bool:
    """Whether the proposal rests on a test and must be a discovery."""
    return not (proposal.p_value is None or proposal.exploratory or proposal.urgent)


def shares_a_provider(scene: Scene, batch: Sequence[Proposal]) -> bool:
    """Whether one provider serves arms, candidate or in force, of two proposals of the batch.

    A provider that is not named may be any: those of two such arms are taken to be the same.
    """
    served = Counter(provider for each in batch for provider in _providers(scene, each))
    return max(served.values(), default=0) > 1


def _providers(scene: Scene, proposal: Proposal) -> set[str | None]:
    target = scene.targets[proposal.target]
    in_force = scene.baselines.get(proposal.target, target.baseline)
    named = {proposal.candidate, in_force}
    return {arm.config.provider for arm in target.arms if arm.name in named}


def _key(proposal: Proposal) -> str:
    return f"{proposal.target} {proposal.candidate}"
