"""Evidence: what analyzers claim, what strategies propose, what the judge concludes.

Not knowing is a value: INCONCLUSIVE and NO_DATA carry a reason and never turn into a number.
The contracts of the two families, Analyzer and Strategy, live here, below both.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from types import MappingProxyType
from typing import NewType

import pandas as pd

from optimizer.policy import Policy
from optimizer.targets import Target

HISTORY_SUMS = ("n", "n_cost", "cost_nusd", "n_quality", "quality_e6", "quality_sq_e9")
"""Sums of a scene's history; the rest of an aggregate is only kept for its hours."""

DecisionId = NewType("DecisionId", str)
ProposalId = NewType("ProposalId", str)


class Severity(Enum):
    """How soon someone should look."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


class Outcome(Enum):
    """What a check or a verdict says."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    NO_DATA = "no_data"


class Reason(Enum):
    """Why a check knows nothing yet, or what decided."""

    NONE = "none"
    NO_ROWS = "no_rows"
    MIN_SAMPLE = "min_sample"
    MIN_CLUSTERS = "min_clusters"
    MIN_EVENTS = "min_events"
    STALE = "stale"
    SRM = "srm"
    LABELS_IMMATURE = "labels_immature"
    LABELS_IMBALANCED = "labels_imbalanced"
    BASELINE_NEAR_ZERO = "baseline_near_zero"
    NON_FINITE = "non_finite"
    WIDE_INTERVAL = "wide_interval"
    BETWEEN_LOOKS = "between_looks"
    HARM = "harm"
    GOAL_MISSED = "goal_missed"
    CONTROL_SICK = "control_sick"
    CIRCUIT = "circuit"
    CONFIG_CHANGED = "config_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A measured effect of an arm against another, or of one arm alone.

    ``effect`` with its limits ``[lower, upper]`` in ``unit``; ``canary`` and ``control`` are the
    two arms' own values; n_* are rows. Fields are None where nothing could be estimated.
    """

    metric: str
    unit: str
    effect: float | None = None
    lower: float | None = None
    upper: float | None = None
    canary: float | None = None
    control: float | None = None
    n_canary: int = 0
    n_control: int = 0
    confidence: float = 0.95
    method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One metric of a verdict: harm (positive = worse) with limits against margin and tolerance.

    ``harm_lower`` is the limit the rollback rule reads, ``harm_upper`` the one promotion reads;
    ``variance`` is the variance of the harm estimate (for anchors).
    """

    metric: str
    role: str
    outcome: Outcome
    reason: Reason = Reason.NONE
    harm: float | None = None
    harm_lower: float | None = None
    harm_upper: float | None = None
    variance: float | None = None
    margin: float | None = None
    tolerance: float | None = None
    relative: bool = False
    estimate: Estimate | None = None
    method: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RampPlan:
    """What the looks of a rollout are spread over; frozen before it starts.

    hours: planned length of the ramp; requests: canary requests by then, at the traffic expected;
    extended: canary requests when the last stage's hold expires, >= requests; measured: share of
    requests in which each metric is known, 1 where it is not named.
    """

    hours: float
    requests: float
    extended: float
    measured: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        """Refuse a plan without an end or without traffic."""
        if not (0 < self.hours < math.inf and 0 < self.requests <= self.extended < math.inf):
            msg = f"a ramp of {self.hours} h with {self.requests} to {self.extended} requests"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looks:
    """The planned looks one test has taken: what its next boundary depends on.

    fractions: information seen at each look as a fraction of the plan's, increasing; until: end of
    the data of the newest look, so that the same look is known again; spent: the error spent so
    far; crossings: successive looks, up to the newest, that reached their boundary; closed: whether
    the newest was the last.
    """

    fractions: tuple[float, ...] = ()
    until: datetime | None = None
    spent: float = 0.0
    crossings: int = 0
    closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the tests of one check have spent: that of harm, and that of promotion.

    since: start of the evidence they looked at; evidence that starts anew has spent nothing.
    """

    metric: str
    role: str
    since: datetime | None = None
    harm: Looks = Looks()
    promotion: Looks = Looks()


def spent_until(spent: Sequence[Spent]) -> datetime | None:
    """End of the data of the newest planned look; None where none was taken."""
    looks = [until for each in spent for until in (each.harm.until, each.promotion.until) if until]
    return max(looks, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the judge says of one decision at one look.

    ``outcome`` is FAIL as soon as harm is proven (act now) and PASS only when every required check
    passes (promotion). ``stage_outcome`` PASS lets an early stage advance: no harm proven, samples
    and clusters enough, data fresh, split as planned. ``page`` asks for a person, because the
    control itself is sick. ``sentence`` explains the verdict with numbers and names the metric that
    decided. ``spent`` is what planned looks have spent, this one included; it is stored before the
    verdict is acted on.
    """

    decision_id: DecisionId
    at: datetime
    outcome: Outcome
    stage_outcome: Outcome
    reason: Reason
    sentence: str
    checks: tuple[Check, ...] = ()
    n_canary: int = 0
    n_control: int = 0
    data_until: datetime | None = None
    page: bool = False
    spent: tuple[Spent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """An analyzer's claim about a target or arm, with what would make it wrong."""

    analyzer: str
    kind: str
    severity: Severity
    target: str
    arm: str | None = None
    metric: str | None = None
    title: str
    description: str
    value: float | None = None
    limit: float | None = None
    n: int = 0
    start: datetime
    end: datetime
    caveat: str = ""
    metrics: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """Change against the baseline, in percent: saving > 0, quality > 0 and latency < 0 are better.

    ``confidence`` is the posterior probability that the saving is above 0, None = unknown;
    lower/upper bound the saving where measured; ``method`` says how.
    """

    cost_reduction_pct: float | None = None
    cost_reduction_lower_pct: float | None = None
    cost_reduction_upper_pct: float | None = None
    quality_delta: float | None = None
    quality_delta_lower: float | None = None
    quality_delta_upper: float | None = None
    latency_delta_pct: float | None = None
    daily_saving_usd: float | None = None
    confidence: float | None = None
    n: int = 0
    method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An alternative that was considered and not taken, with the reason."""

    arm: str
    reason: str
    detail: str
    estimates: tuple[Estimate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A candidate arm for a target, with what it rests on.

    priority: larger is taken first; exploratory: rests on a prior, not on traffic of its own;
    urgent: a safety reason, arbitration puts it before any saving; asks: why a person must agree
    whatever the policy says, empty = only if the policy says so; planned_hours: how long the
    rollout needs by the plan check; p_value: chance of evidence as strong, given that it was strong
    enough to be proposed, were the weakest of its measured claims untrue; None = it rests on no
    test, but on a prior or on a broken limit.
    """

    id: ProposalId
    strategy: str
    target: str
    candidate: str
    rationale: str
    expected: Impact
    estimates: tuple[Estimate, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    insights: tuple[str, ...] = ()
    priority: int = 0
    urgent: bool = False
    exploratory: bool = False
    asks: str = ""
    planned_hours: float | None = None
    p_value: float | None = None

    def __post_init__(self) -> None:
        """Refuse a p-value that is none."""
        if self.p_value is not None and not 0.0 <= self.p_value <= 1.0:
            msg = f"p_value = {self.p_value} of {self.id} lies outside [0, 1]"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """How a rollout ended; before: the arm then in force; deployed_at: None = never full share."""

    target: str
    arm: str
    state: str
    ended_at: datetime
    reason: str
    strategy: str = ""
    before: str = ""
    deployed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What a strategy expected of a promotion, and what the holdback showed."""

    strategy: str
    target: str
    expected: Impact
    actual: Impact
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Winner:
    """An arm that an experiment declared the best, and that is not the baseline it ran against.

    rule: how the experiment's traffic was split; since: start of the hours it rests on.
    """

    experiment: str
    rule: str
    target: str
    arm: str
    baseline: str
    since: datetime
    ended_at: datetime
    reason: str
    estimates: tuple[Estimate, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """Sums over promotions of what they cost against the reference; positive harm is worse."""

    target: str
    metric: str
    reference_arm: str
    harm: float = 0.0
    variance: float = 0.0
    promotions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that one hour reads, for the pure middle.

    ``hours`` are 1-hour aggregates of the last days (schema: :mod:`optimizer.aggregates`);
    ``baselines`` names the arm in force per target; ``in_flight`` targets have a decision that is
    not final; ``past`` holds ended rollouts, newest last; ``changes`` the start times of decisions
    of the last day per target; ``paused`` targets start nothing; ``settled`` holds what promotions
    of the last months promised and did; ``history`` goes weeks further back than ``hours``, with
    the columns target, arm, window_start_s and ``HISTORY_SUMS``, None = nothing is older;
    ``explored`` holds per target what was logged of an arm that is proposed, with the columns
    ``EXPLORED``, and nothing of targets whose proposed arms did not serve; ``experiments`` names
    the experiment that holds a target; ``winners`` what experiments of the last days declared the
    best, oldest first; ``told`` what strategies told in earlier hours of the last days, and when.
    """

    now: datetime
    targets: Mapping[str, Target]
    policies: Mapping[str, Policy]
    baselines: Mapping[str, str]
    hours: pd.DataFrame
    in_flight: Mapping[str, DecisionId]
    past: tuple[Past, ...] = ()
    anchors: Mapping[tuple[str, str], Anchor] = field(default_factory=lambda: MappingProxyType({}))
    changes: Mapping[str, Sequence[datetime]] = field(default_factory=lambda: MappingProxyType({}))
    paused: frozenset[str] = frozenset()
    exploration_spent_usd: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    settled: tuple[Settled, ...] = ()
    explored: Mapping[str, pd.DataFrame] = field(default_factory=lambda: MappingProxyType({}))
    history: pd.DataFrame | None = None
    experiments: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    winners: tuple[Winner, ...] = ()
    told: tuple[tuple[datetime, Insight], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Considered:
    """What a strategy made of one target: a proposal or none, why not others, and what it tells."""

    strategy: str
    target: str
    proposal: Proposal | None = None
    rejected: tuple[Rejected, ...] = ()
    insights: tuple[Insight, ...] = ()


def proposal_id(strategy: str, target: str, candidate: str, now: datetime) -> ProposalId:
    """The id of a strategy's proposal of one hour; the same arguments give the same id.

    Examples:
        >>> from datetime import UTC
        >>> proposal_id("pareto", "support", "small", datetime(2026, 1, 1, tzinfo=UTC))
        'p-...'
    """
    text = f"{strategy}\n{target}\n{candidate}\n{now.isoformat()}"
    return ProposalId("p-" + hashlib.sha256(text.encode()).hexdigest()[:16])


Analyzer = Callable[[Scene], Sequence[Insight]]
Strategy = Callable[[Scene, Sequence[Insight]], Sequence[Proposal]]
