"""Verdicts: what the checks of a decision and the health of its data mean together.

The laws kept here: harm that is proven fails whatever else is missing, with two exceptions that
hold and page instead of returning traffic to a control that is itself failing, or believing labels
that are unlike between the arms. PASS needs every required check to pass on healthy, fresh data.
Nothing measured, or nothing understood, is never PASS.

An urgent decision leaves an arm that provably breaks a limit. It is not asked for the goal, and a
sick control holds it only where there is no good way on either: the canary breaks the limit too, or
is worse in something else.
"""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from optimizer.aggregates import CLUSTERS, HISTOGRAM, KEYS, SUMS
from optimizer.errors import DataError
from optimizer.evidence import Check, DecisionId, Outcome, Reason, Spent, Verdict
from optimizer.judge.bulk import build
from optimizer.judge.case import Case
from optimizer.judge.checks import BROKEN, checks, combine
from optimizer.judge.health import Health, examine
from optimizer.judge.health_checks import LOG_SRM_ALARM, circuit_check, control_check, split_checks
from optimizer.judge.means import PROMOTE_CLUSTERS
from optimizer.judge.sums import CANARY, CONTROL, Sums, collect
from optimizer.judge.wording import stale, subject
from optimizer.metrics import METRICS

CASES_AT_ONCE: Final = 2_500
"""Cases whose rows are held at once: some 300 bytes a case and window beside the grains."""

_URGENT: Final = "every guardrail holds, and an urgent change needs no gain"


class _Facts(NamedTuple):
    """What is known of one case; a tuple, which is made in a fifth of a frozen class's time."""

    case: Case
    now: datetime
    data_until: datetime
    required: tuple[Check, ...]
    spent: tuple[Spent, ...]
    rows: tuple[int, int]
    stage_rows: int
    clusters: int
    foreign: int
    srm_log_e: float
    circuit: int
    sick: bool
    control_failing: float
    canary_sick: bool

    @property
    def stuck(self) -> bool:
        """Whether control is sick and leaving it is no way out, so that a person is needed."""
        if not self.sick or not self.case.decision.urgent:
            return self.sick
        return self.canary_sick or any(each.outcome is Outcome.FAIL for each in self.required)


class _Finding(NamedTuple):
    """An outcome with its reason and a clause that explains it."""

    outcome: Outcome
    reason: Reason
    clause: str


def judge(
    cases: Sequence[Case],
    grains: pd.DataFrame,
    *,
    now: datetime,
    data_until: datetime,
    looking: bool = True,
) -> dict[DecisionId, Verdict]:
    """One verdict for each case, from the 5-minute grains of its control and canary slices.

    It may be asked as often as one likes. A case with a plan takes one of its planned looks where
    ``looking`` and the data end later than at the look before; what its looks have spent comes with
    the case and goes on with the verdict. All other tests hold at every look and keep no state.

    Args:
        cases: at most one a target.
        grains: 5-minute aggregates (schema: :mod:`optimizer.aggregates`) of slices control and
            canary; more targets, slices or older windows are ignored.
        now: the time of this look, aware UTC.
        data_until: end of the newest complete window, aware UTC; later windows are ignored.
        looking: whether planned looks may be taken: by the hourly run, not by the guard, which
            looks far more often.

    Raises:
        DataError: grains lack a column.
        ValueError: two cases of one target.
    """
    missing = {*KEYS, *SUMS, HISTOGRAM, CLUSTERS} - set(grains.columns)
    if missing:
        raise DataError(f"grains lack the columns {sorted(missing)}")
    targets = pd.Index([case.decision.target for case in cases])
    if not targets.is_unique:
        raise ValueError(f"two cases of target {targets[targets.duplicated()][0]}")
    owner = targets.get_indexer(pd.Index(grains["target"]))
    verdicts: dict[DecisionId, Verdict] = {}
    with without_collector():
        for start in range(0, len(cases), CASES_AT_ONCE):
            part = cases[start : start + CASES_AT_ONCE]
            rows = grains.iloc[np.flatnonzero((owner >= start) & (owner < start + len(part)))]
            for verdict in _part(part, rows, now=now, data_until=data_until, looking=looking):
                verdicts[verdict.decision_id] = verdict
    return verdicts


@contextmanager
def without_collector() -> Iterator[None]:
    """Python's collector of cycles rests meanwhile, if it was at work.

    It looks again whenever hundreds of objects more are alive, at all that were made before them: a
    quarter of the time. No verdict refers back to itself, so that it would find nothing to free.
    """
    worked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if worked:
            gc.enable()


def _part(
    cases: Sequence[Case],
    grains: pd.DataFrame,
    *,
    now: datetime,
    data_until: datetime,
    looking: bool,
) -> list[Verdict]:
    """Verdicts; a case whose numbers break the arithmetic is cut out by halving."""
    try:
        sums = collect(cases, grains, now=now, data_until=data_until)
        health = examine(cases, sums, data_until)
        required = checks(cases, sums, until=data_until, looking=looking)
    except BROKEN as error:
        if len(cases) == 1:
            return [_unusable(cases[0], error, now, data_until)]
        middle = len(cases) // 2
        return [
            verdict
            for half in (cases[:middle], cases[middle:])
            for verdict in _part(half, grains, now=now, data_until=data_until, looking=looking)
        ]
    return _verdicts(_facts(cases, sums, health, required, (now, data_until)))


def _facts(
    cases: Sequence[Case],
    sums: Sums,
    health: Health,
    required: Sequence[tuple[tuple[Check, ...], tuple[Spent, ...]]],
    times: tuple[datetime, datetime],
) -> list[_Facts]:
    """What is known of each case; times: of this look, and the end of the data."""
    columns = (
        sums.totals["n"].astype(np.int64),
        sums.stage_n.min(axis=1).astype(np.int64),
        sums.clustered.clusters.min(axis=1),
        sums.foreign,
        health.srm_log_e,
        health.circuit,
        health.sick,
        health.control_failing,
        health.canary_sick,
    )
    return [
        _Facts(case, *times, own, spent, (rows[CONTROL], rows[CANARY]), *figures)
        for case, (own, spent), rows, *figures in zip(
            cases, required, *(column.tolist() for column in columns), strict=True
        )
    ]


def _verdicts(cases: Sequence[_Facts]) -> list[Verdict]:
    """One verdict a case."""
    findings = [_findings(facts) for facts in cases]
    splits = split_checks([facts.srm_log_e for facts in cases])
    return build(
        Verdict,
        decision_id=[facts.case.decision.id for facts in cases],
        at=[facts.now for facts in cases],
        outcome=[final.outcome for _, final in findings],
        stage_outcome=[Outcome.PASS if stage is None else stage.outcome for stage, _ in findings],
        reason=[final.reason for _, final in findings],
        sentence=[_sentence(*pair) for pair in zip(cases, findings, strict=True)],
        checks=[_all_checks(*pair) for pair in zip(cases, splits, strict=True)],
        n_canary=[facts.rows[CANARY] for facts in cases],
        n_control=[facts.rows[CONTROL] for facts in cases],
        data_until=[facts.data_until for facts in cases],
        spent=[facts.spent if facts.case.plan is not None else () for facts in cases],
        page=[facts.stuck or _broken(facts) for facts in cases],
    )


def _findings(facts: _Facts) -> tuple[_Finding | None, _Finding]:
    """What keeps the case in its stage, None where nothing does, and what the verdict says."""
    stage = _harm(facts) or _unhealthy(facts) or _floors(facts)
    return stage, stage or _required(facts)


def _sentence(facts: _Facts, findings: tuple[_Finding | None, _Finding]) -> str:
    foreign = f"; {facts.foreign} rows of other arms were ignored" if facts.foreign else ""
    return f"{subject(facts.case)}: {findings[1].clause}{foreign}"


def _all_checks(facts: _Facts, split: Check) -> tuple[Check, ...]:
    failing = _failing_control(facts) if facts.sick else None
    limit = facts.case.policy.safety.failure_rate_max
    control = control_check(failing, limit, stuck=facts.stuck)
    return (*facts.required, split, control, circuit_check(facts.circuit))


def _broken(facts: _Facts) -> bool:
    return Reason.NON_FINITE in [each.reason for each in facts.required]


def _harm(facts: _Facts) -> _Finding | None:
    """Proven harm. While control is failing itself, only more failures still count as harm."""
    if facts.circuit:
        clause = f"the canary's last {facts.circuit:,} requests all failed, control's did not"
        return _Finding(outcome=Outcome.FAIL, reason=Reason.CIRCUIT, clause=clause)
    if Outcome.FAIL not in [check.outcome for check in facts.required]:
        return None
    for check in facts.required:
        if check.outcome is Outcome.FAIL and (not facts.sick or check.metric == "failure_rate"):
            return _Finding(outcome=Outcome.FAIL, reason=check.reason, clause=check.detail)
    return None


def _unhealthy(facts: _Facts) -> _Finding | None:
    """What keeps the data from proving anything good."""
    policy, rows = facts.case.policy, facts.rows
    if min(rows) == 0:
        clause = f"no data: {rows[CANARY]:,} canary and {rows[CONTROL]:,} control requests"
        return _Finding(outcome=Outcome.NO_DATA, reason=Reason.NO_ROWS, clause=clause)
    if facts.now - facts.data_until > policy.data_lag_max:
        clause = stale(facts.data_until, facts.now, policy.data_lag_max)
        return _Finding(outcome=Outcome.INCONCLUSIVE, reason=Reason.STALE, clause=clause)
    if facts.srm_log_e >= LOG_SRM_ALARM:
        clause = f"sessions are not split as planned (log e-value {facts.srm_log_e:.1f})"
        return _Finding(outcome=Outcome.INCONCLUSIVE, reason=Reason.SRM, clause=clause)
    if facts.stuck:
        clause = f"{_failing_control(facts)}{_no_way_out(facts)}: held, a person is needed"
        return _Finding(outcome=Outcome.INCONCLUSIVE, reason=Reason.CONTROL_SICK, clause=clause)
    return None


def _failing_control(facts: _Facts) -> str:
    limit = facts.case.policy.safety.failure_rate_max
    return (
        f"control itself fails {facts.control_failing:.1%} of its requests, more than the "
        f"{limit:.1%} allowed"
    ).replace("%", " %")


def _no_way_out(facts: _Facts) -> str:
    """What an urgent canary has against it."""
    if facts.canary_sick:
        return ", and so does the canary"
    harm = next((check for check in facts.required if check.outcome is Outcome.FAIL), None)
    return f", but {harm.detail}" if harm is not None and facts.case.decision.urgent else ""


def _floors(facts: _Facts) -> _Finding | None:
    """What the stage still lacks; a promoted arm has no stage."""
    if facts.case.is_watched:
        return None
    floor = facts.case.policy.stages[max(facts.case.decision.stage, 0)].min_requests
    if facts.stage_rows < floor:
        clause = f"not yet: {facts.stage_rows:,} of {floor:,} requests per arm in this stage"
        return _Finding(outcome=Outcome.INCONCLUSIVE, reason=Reason.MIN_SAMPLE, clause=clause)
    if facts.clusters < PROMOTE_CLUSTERS:
        clause = f"not yet: {facts.clusters} of {PROMOTE_CLUSTERS} independent groups of sessions"
        return _Finding(outcome=Outcome.INCONCLUSIVE, reason=Reason.MIN_CLUSTERS, clause=clause)
    crossed = next((each for each in facts.spent if each.harm.crossings), None)
    if crossed is not None:
        # A tolerated blip is no reason to give the canary more traffic.
        label = METRICS[crossed.metric].label
        clause = f"not yet: {label}: the last look showed harm, the next one has to confirm it"
        return _Finding(outcome=Outcome.INCONCLUSIVE, reason=Reason.BETWEEN_LOOKS, clause=clause)
    return None


def _required(facts: _Facts) -> _Finding:
    outcome, decider = combine(facts.required)
    if decider is None:
        return _Finding(outcome=outcome, reason=Reason.NO_ROWS, clause="nothing is required")
    clause = decider.detail
    if outcome is Outcome.PASS:
        clause = f"every guardrail and the goal hold: {facts.required[-1].detail}"
        if not facts.case.asks_goal:
            better = (each for each in facts.required if (each.harm_upper or 0.0) < 0)
            clause = f"{_URGENT}: {next(better, facts.required[-1]).detail}"
    return _Finding(outcome=outcome, reason=decider.reason, clause=clause)


def _unusable(case: Case, error: Exception, now: datetime, data_until: datetime) -> Verdict:
    return Verdict(
        decision_id=case.decision.id,
        at=now,
        outcome=Outcome.INCONCLUSIVE,
        stage_outcome=Outcome.INCONCLUSIVE,
        reason=Reason.NON_FINITE,
        sentence=f"{subject(case)}: the numbers are unusable: {error}",
        data_until=data_until,
        spent=case.spent,
        page=True,
    )
