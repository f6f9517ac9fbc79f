"""Walking: the hourly run at every hour of the period, on what was known at that hour.

::

    hand on an hour -> aggregate -> reconcile -> analyze -> propose -> decide -> judge -> step

These are the steps of the hourly flow, in its order, on a ledger and a gateway of the backtest
alone. Nothing later than the hour can be used, because it is not there yet. Where a canary is in
force, calls that the log holds of its two arms play canary and control
(:mod:`optimizer.engine.past`), and the judge reads them as it always does.

Left out are the guard, whose looks between the hours would end harm sooner, and experiments, which
need traffic that was split for them. Where a person would be asked, the answer is yes, at once.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

import pandas as pd

from optimizer.allocation import Allocation
from optimizer.analyzers.drift import changed_arms
from optimizer.decision import State
from optimizer.engine.past import SOURCE, Past, deliver
from optimizer.engine.spool import DATASETS
from optimizer.engine.walked import Read, Walked
from optimizer.errors import OptimizerError
from optimizer.evidence import Considered, Insight, Proposal, Scene
from optimizer.loop.approval import answer
from optimizer.loop.backtest.reading import Progress
from optimizer.loop.decide import HISTORY_DAYS, gather, settle_proposals
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.evaluate import assess, record_looks
from optimizer.loop.explored import with_explored
from optimizer.loop.keep import compact, prune
from optimizer.loop.observe import EVER_S, aggregate
from optimizer.loop.reconcile import reconcile
from optimizer.loop.restarts import restart_evidence
from optimizer.loop.steps import tick
from optimizer.metrics import HOUR_S, at
from optimizer.ports import Intake

ACTOR: Final = "backtest"
_GRAINS: Final = timedelta(days=7)
_DAYS: Final = timedelta(days=365)
_TAKEN_OVER: Final = 2
"""How many times the baseline's calls another arm serves if it is in force in its place."""

_LOG = logging.getLogger(__name__)


Consider = Callable[[Scene, Sequence[Insight]], Sequence[Considered]]
"""What a strategy made of every target: strategies of ours can say why they left what they left."""


@dataclass(slots=True, kw_only=True)
class _Walk:
    """A walk on its way; ``hour`` is the moment it has come to."""

    equipment: Equipment
    past: Past
    hour: datetime
    intakes: int = 0
    shares: list[tuple[str, str, int, float]] = field(default_factory=list)
    left: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    details: dict[tuple[str, str, str], str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def acting(self) -> Acting:
        """Who acts: this hour's run."""
        return Acting(actor=ACTOR, run_id=f"{ACTOR}-{self.hour:%Y%m%dT%H%M}", now=self.hour)


def walk(
    equipment: Equipment,
    found: Read,
    *,
    progress: Progress = lambda *_: None,
) -> Walked:
    """Let every hour of the period pass.

    Args:
        equipment: of a rehearsal, with an empty ledger.
        found: the log.
        progress: told of every hour.

    Raises:
        UnavailableError: the disk or the memory did not suffice.
    """
    period = found.period
    in_force = _in_force(equipment, found)
    begun = _Walk(
        equipment=replace(
            equipment,
            sources=(),
            notifiers=(),
            clock=None,
            targets={
                name: replace(equipment.targets[name], baseline=in_force[name])
                for name in found.targets
            },
        ),
        past=found.past,
        hour=period.start,
    )
    _hand_on(begun, found.history_s, period.start_s, ())
    hours = range(period.start_s, period.end_s, HOUR_S)
    for number, hour_s in enumerate(hours, start=1):
        begun.hour = at(hour_s)
        _optimize(begun)
        _serve(begun, in_force)
        progress("walking the hours", number, len(hours))
    return Walked(
        read=found,
        in_force=in_force,
        offered={
            name: tuple(arm.name for arm in equipment.targets[name].arms) for name in found.targets
        },
        shares=pd.DataFrame(begun.shares, columns=["target", "arm", "cell_s", "share"]).astype(
            {"target": "str", "arm": "str", "cell_s": "int64", "share": "float64"}
        ),
        left=MappingProxyType(dict(sorted(begun.left.items()))),
        details=MappingProxyType(begun.details),
        failed=MappingProxyType(dict(sorted(begun.failed.items()))),
    )


def _in_force(equipment: Equipment, found: Read) -> dict[str, str]:
    """The arm in force when the first run looks, as far as the log tells by then.

    The configured baseline, unless another arm served more than twice as many calls: then that one
    had taken its place. Of a target without a call before the period the first hour tells: nothing
    else says which arm it begins with.
    """
    start_s = found.period.start_s
    first = found.past.served(start_s=start_s, end_s=start_s + HOUR_S)
    seen = first | found.past.served(start_s=found.history_s, end_s=start_s)
    return {
        name: _leading(equipment.targets[name].baseline, seen.get(name, {}))
        for name in found.targets
    }


def _leading(baseline: str, served: Mapping[str, int]) -> str:
    largest = max(served, key=lambda arm: (served[arm], arm), default=baseline)
    took_over = served.get(largest, 0) > _TAKEN_OVER * served.get(baseline, 0)
    return largest if took_over else baseline


def _hand_on(state: _Walk, start_s: int, end_s: int, splits: Sequence[Allocation]) -> None:
    """Let what came in become part of the ledger, in one transaction."""
    delivered = deliver(
        state.past, state.equipment.engine.spool, start_s=start_s, end_s=end_s, splits=splits
    )
    state.equipment.ledger.intake.commit(
        Intake(
            source=SOURCE,
            expected_version=state.intakes,
            cursor={"until_s": end_s},
            files=delivered.files,
            dirty_windows=delivered.windows,
            n_rows=delivered.n_rows,
            n_duplicates=0,
            n_quarantined=0,
            n_late=0,
            newest_s=delivered.newest_s,
            at=at(end_s),
        )
    )
    state.intakes += 1


def _serve(state: _Walk, in_force: Mapping[str, str]) -> None:
    """An hour of the log passes under the splits in force."""
    start_s = int(state.hour.timestamp())
    splits = state.equipment.ledger.effects.desired_all()
    for name, split in sorted(splits.items()):
        # While another canary is tried the arm that was promoted is baseline and control at once.
        shares: defaultdict[str, float] = defaultdict(float)
        for part in split.slices:
            shares[part.arm] += part.share
        state.shares += [
            (name, arm, start_s, share) for arm, share in shares.items() if arm != in_force[name]
        ]
    canaries = [split for split in splits.values() if split.decision_id is not None]
    _hand_on(state, start_s, start_s + HOUR_S, canaries)


def _optimize(state: _Walk) -> None:
    """One hourly run."""
    equipment, acting, as_of = state.equipment, state.acting, state.hour
    aggregate(equipment.ledger, equipment.engine, as_of=as_of, lateness=equipment.lateness)
    for finding in reconcile(equipment, acting=acting):
        if finding.kind == "failed":
            state.failed[finding.target] = finding.detail
    scene = gather(equipment, as_of=as_of)
    insights = [each for analyzer in equipment.analyzers.values() for each in analyzer(scene)]
    proposals = _proposals(state, scene, insights)
    seen = with_explored(equipment, scene, proposals)
    decided = settle_proposals(equipment, seen, proposals, acting=acting)
    for decision in decided.plan.decisions:
        if decision.id in decided.created and decision.state is State.AWAITING_APPROVAL:
            with _apart(state, decision.target):
                answer(
                    equipment,
                    decision.id,
                    agreed=True,
                    reason="assumed",
                    acting=acting,
                    as_of=as_of,
                )
    restart_evidence(equipment, changed_arms(insights, equipment.targets), acting=acting)
    assessments = assess(equipment, acting=acting, as_of=as_of)
    record_looks(equipment, assessments, acting=acting)
    for assessment in assessments:
        if assessment.is_due:
            with _apart(state, assessment.decision.target):
                tick(equipment, assessment.decision.id, acting=acting, as_of=as_of)
    if as_of.hour == 0:
        _keep(equipment, as_of)


def _proposals(state: _Walk, scene: Scene, insights: Sequence[Insight]) -> list[Proposal]:
    """What the strategies propose; what they leave is counted."""
    proposals: list[Proposal] = []
    for strategy in state.equipment.strategies.values():
        consider: Consider | None = getattr(strategy, "consider", None)
        if consider is None:
            proposals.extend(strategy(scene, insights))
            continue
        for considered in consider(scene, insights):
            if considered.proposal is not None:
                proposals.append(considered.proposal)
            for rejected in considered.rejected:
                key = (considered.target, rejected.arm, rejected.reason)
                state.left[key] += 1
                state.details[key] = rejected.detail
    return proposals


@contextmanager
def _apart(state: _Walk, target: str) -> Iterator[None]:
    """One failing target never stops the others."""
    try:
        yield
    except OptimizerError as error:
        _LOG.warning("%s: %s", target, error)
        state.failed[target] = str(error)


def _keep(equipment: Equipment, as_of: datetime) -> None:
    """The daily housekeeping, so that neither files nor aggregates pile up."""
    width = timedelta(days=1)
    prune(
        equipment,
        as_of,
        grains=max(_GRAINS, equipment.feedback_horizon + width),
        hours=timedelta(days=max(equipment.baseline_days, HISTORY_DAYS)) + width,
        days=_DAYS,
    )
    before = _manifest(equipment)
    compact(equipment, as_of)
    # A sweep waits for readers, by the real clock, in which these files are always new.
    equipment.engine.spool.discard(before - _manifest(equipment))


def _manifest(equipment: Equipment) -> set[str]:
    files = equipment.ledger.intake.files
    return {file.name for name in DATASETS for file in files(name, start_s=-EVER_S, end_s=EVER_S)}
