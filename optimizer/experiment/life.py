"""The life of an experiment, as a state machine.

::

    DRAFT -+-> RUNNING <-> PAUSED
           |      |           |
           |      +-----------+-> COMPLETED #   (a winner, or none in time)
           +------+-----------+-> CANCELLED #   (stopped, or its arms are not what they were)

``#`` marks final states. A final state is reached only when the target's traffic is proven to be
back on the baseline: until then ``ends_as`` names it, and the experiment counts as in flight. A
paused experiment, and one that has spent its budget for the day, holds no traffic and keeps its
evidence. Transitions are checked here, stored by compare-and-set on ``version`` and appended to the
experiment's log, each entry hashed over its predecessor.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import NewType

from optimizer.allocation import Allocation
from optimizer.allocation import experiment as side_by_side
from optimizer.evidence import Estimate
from optimizer.experiment.design import Design
from optimizer.recorded import check_arrow

ExperimentId = NewType("ExperimentId", str)


class ExperimentState(Enum):
    """Where an experiment stands."""

    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing follows."""
        return self in FINAL

    @property
    def in_flight(self) -> bool:
        """Whether it holds the target: no rollout starts meanwhile."""
        return self in IN_FLIGHT


FINAL = frozenset({ExperimentState.COMPLETED, ExperimentState.CANCELLED})
IN_FLIGHT = frozenset({ExperimentState.RUNNING, ExperimentState.PAUSED})

TRANSITIONS: Mapping[ExperimentState, frozenset[ExperimentState]] = MappingProxyType(
    {
        ExperimentState.DRAFT: frozenset({ExperimentState.RUNNING, ExperimentState.CANCELLED}),
        ExperimentState.RUNNING: frozenset({ExperimentState.PAUSED, *FINAL}),
        ExperimentState.PAUSED: frozenset({ExperimentState.RUNNING, *FINAL}),
        ExperimentState.COMPLETED: frozenset(),
        ExperimentState.CANCELLED: frozenset(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """One experiment on its way.

    turn: how often this design was begun, from 1; baseline: the arm in force when it began, which
    is the arm others are compared with for harm; before: the split to return to; configs: of its
    arms, as they were; start_asked: a person asked for the start; started_at: when it left DRAFT;
    running_since: when its split was first proven in force; evidence_from: start of the first whole
    hour that counts; shares: of the experiment's traffic, one an arm of the design; dropped: arms
    taken out because they do harm; resting_since: the budget of that UTC day is spent; leader: the
    arm declared the best while it goes on; winner: the arm declared the best at its end, estimates:
    what it rests on; ends_as: the final state on its way, reached when the traffic is back;
    generation: of the last split that was proven; hold_reason: why a draft does not start.

    Raises:
        ValueError: shares that are not one an arm.
    """

    id: ExperimentId
    target: str
    name: str
    design: Design
    created_at: datetime
    created_by: str
    turn: int = 1
    state: ExperimentState = ExperimentState.DRAFT
    version: int = 0
    salt: str = ""
    baseline: str = ""
    before: Allocation | None = None
    configs: Mapping[str, Mapping[str, object]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    start_asked: bool = False
    started_at: datetime | None = None
    running_since: datetime | None = None
    evidence_from: datetime | None = None
    shares: tuple[float, ...] = ()
    dropped: tuple[str, ...] = ()
    resting_since: datetime | None = None
    leader: str | None = None
    winner: str | None = None
    estimates: tuple[Estimate, ...] = ()
    ends_as: ExperimentState | None = None
    ended_at: datetime | None = None
    reason: str = ""
    hold_reason: str = ""
    generation: int = 0

    def __post_init__(self) -> None:
        """Check that shares belong to arms."""
        if self.shares and len(self.shares) != len(self.design.arms):
            msg = f"{len(self.shares)} shares for the {len(self.design.arms)} arms of {self.id}"
            raise ValueError(msg)

    @property
    def alive(self) -> tuple[str, ...]:
        """The arms that are still compared, in the design's order."""
        return tuple(arm for arm in self.design.arms if arm not in self.dropped)

    @property
    def holds_traffic(self) -> bool:
        """Whether its split is the one that should be in force."""
        return (
            self.state is ExperimentState.RUNNING
            and self.ends_as is None
            and self.resting_since is None
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of an experiment's log.

    kind: transition (state changed), split (a split was proven in force), change (what is wanted
    changed), evidence (it begins anew), note. ``evidence`` is JSON-able; ``hash`` covers everything
    else and the predecessor's hash.
    """

    experiment_id: ExperimentId
    seq: int
    at: datetime
    kind: str
    from_state: ExperimentState
    to_state: ExperimentState
    actor: str
    reason: str
    run_id: str = ""
    evidence: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    prev_hash: str = ""
    hash: str = ""


def draft(design: Design, now: datetime, *, actor: str, turn: int = 1) -> Experiment:
    """The experiment of a design before it starts; its id is that of design and turn.

    Examples:
        >>> from datetime import UTC
        >>> design = Design(name="prompts", target="support", arms=("a", "b"))
        >>> draft(design, datetime(2026, 1, 1, tzinfo=UTC), actor="ada").id
        'x-...'
    """
    # What is as usual is left out, so that a later release's new fields change no id; neither does
    # who starts it.
    asked = {
        each.name: str(value)
        for each in fields(design)
        if (value := getattr(design, each.name)) != each.default and each.name != "auto"
    }
    text = json.dumps([asked, turn], sort_keys=True)
    identity = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Experiment(
        id=ExperimentId(f"x-{identity}"),
        target=design.target,
        name=design.name,
        design=design,
        created_at=now,
        created_by=actor,
        turn=turn,
        salt=f"x-{hashlib.sha256(f'salt|{identity}'.encode()).hexdigest()[:16]}",
    )


def move(
    experiment: Experiment, to: ExperimentState, now: datetime, **changes: object
) -> Experiment:
    """The experiment in its next state, with ``version`` one higher and ``changes`` applied.

    Raises:
        IllegalTransitionError: the state machine has no such arrow.
    """
    check_arrow(f"experiment {experiment.id}", experiment.state, to, TRANSITIONS)
    moved = replace(
        experiment,
        state=to,
        version=experiment.version + 1,
        ended_at=now if to.is_final else experiment.ended_at,
    )
    return replace(moved, **changes)  # type: ignore[arg-type]


def amend(experiment: Experiment, **changes: object) -> Experiment:
    """The experiment in the same state, with ``version`` one higher and ``changes`` applied."""
    return replace(experiment, version=experiment.version + 1, **changes)  # type: ignore[arg-type]


def trial_split(experiment: Experiment, *, generation: int = 0) -> Allocation:
    """The split of an experiment that holds traffic.

    Raises:
        ValueError: it has not begun.
    """
    return side_by_side(
        experiment.target,
        baseline=experiment.baseline,
        arms=experiment.design.arms,
        shares=experiment.shares,
        share=experiment.design.share,
        generation=generation,
        salt=experiment.salt,
    )
