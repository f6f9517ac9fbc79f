"""The rollout's next step and the combination of checks, where other tools have published theirs.

Sources: growthbook/growthbook 8f1db445 (MIT part), rampScheduleEvaluator.test.ts; fluxcd/flagger
15bd6ad5, scheduler_deployment_test.go; argoproj/argo-rollouts 9f8d111d, analysis_test.go,
evaluate_test.go and docs/features/analysis.md (both Apache-2.0). Where this project decides
otherwise on purpose, :mod:`deviations` says why.
"""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any

import numpy as np

from canary_points import Series, verdict
from datasets import datasets
from deviations import Tally, tally
from judging import LOOSE, made
from optimizer.aggregates import CLUSTERS, N_CLUSTERS
from optimizer.allocation import SliceName
from optimizer.decision import Decision, State, amend, move
from optimizer.evidence import Check, Outcome, Reason, Verdict
from optimizer.judge import Case, judge
from optimizer.judge.checks import combine
from optimizer.policy import Policy, Stage
from optimizer.rollout import Move, Step, plan, split
from rollouts import HOUR, T0, World, case, decision

WINDOW = timedelta(minutes=5)
HALVES = (Stage(share=0.1, bake_time=HOUR), Stage(share=0.5, bake_time=HOUR))
PHASES = {
    State.PENDING: "Initialized",
    State.VALIDATING: "Initialized",
    State.DEPLOYING: "Progressing",
    State.DEPLOYED: "Promoting",
    State.MONITORING: "Finalising",
    State.COMPLETED: "Succeeded",
    State.ROLLED_BACK: "Failed",
}
STATUS = {
    "Successful": (Outcome.PASS, Reason.NONE),
    "Running": (Outcome.INCONCLUSIVE, Reason.MIN_SAMPLE),
    "Pending": (Outcome.NO_DATA, Reason.NO_ROWS),
    "Inconclusive": (Outcome.INCONCLUSIVE, Reason.WIDE_INTERVAL),
    "Error": (Outcome.INCONCLUSIVE, Reason.NON_FINITE),
    "Failed": (Outcome.FAIL, Reason.HARM),
}
"""Argo's words: what still runs lacks samples, what is pending lacks data, an error is unusable."""


def read(name: str) -> dict[str, Any]:
    file = datasets("canary_vectors") / "canary_vectors" / name
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def world(row: dict[str, Any]) -> World:
    """What the row says of the traffic; ample and healthy where it says nothing.

    The users of a row that is about their number are taken as they are, half of them in each arm,
    over thirteen windows. An unhealthy split sends the canary half as much again as control.
    """
    if row.get("totalUsers") == 0:
        return World(requests=(0.0, 0.0))
    if "minSampleSize" in row:
        each = row["totalUsers"] / 2 / 13
        return World(requests=(each, each))
    return World(
        requests=(200.0, 300.0) if row.get("srm") == "unhealthy" else (200.0, 200.0),
        failure=(0.02, 0.2) if row.get("guardrailLost") else (0.02, 0.02),
        fallback=(0.0, 0.3) if row.get("otherMetricLost") else (0.0, 0.0),
    )


def moment(row: dict[str, Any], name: str, defaults: dict[str, Any], usual: timedelta) -> datetime:
    """The row's time of that name, with the step's start at ``T0``."""
    stated = row.get(name)
    if stated is None or not stated[0].isdigit():
        return T0 + usual
    begins = datetime.fromisoformat(defaults["stepStart"])
    return T0 + (datetime.fromisoformat(stated) - begins)


def growthbook_step(row: dict[str, Any], defaults: dict[str, Any]) -> Step:
    """Our step where GrowthBook has a monitored one.

    The step's interval is the bake time, and the age at which data are stale; the grace period for
    traffic is the longest hold; the sample size is of both arms together. What to do about a broken
    split or missing traffic is no setting here.
    """
    if row.get("status") == "terminal":
        return plan(decision(state=State.ROLLED_BACK), None, Policy(), now=T0 + HOUR)
    interval = timedelta(seconds=defaults["stepIntervalSeconds"])
    grace = timedelta(hours=defaults["noTrafficGraceHours"])
    floor = row.get("minSampleSize", 2) // 2
    policy = replace(
        LOOSE,
        stages=(
            Stage(share=0.1, bake_time=interval, min_requests=floor),
            Stage(share=0.5, bake_time=interval),
        ),
        data_lag_max=interval,
        hold_expires_after=grace,
    )
    until = moment(row, "snapshotAt", defaults, timedelta(minutes=65))
    # Without traffic and a stated time, a row is past the grace period unless it says otherwise.
    late = grace + HOUR if row.get("totalUsers") == 0 and "now" not in row else 2 * HOUR
    late = HOUR / 2 if row.get("now") == "inside grace" else late
    now = moment(row, "now", defaults, late)
    given = Case(decision=decision(), policy=policy)
    frame = made(world(row), windows=(until - T0) // WINDOW)
    found = judge([given], frame, now=now, data_until=until)[given.decision.id]
    return plan(given.decision, found, policy, now=now)


def test_every_ramp_decision_of_growthbook_is_ours_or_declared() -> None:
    table = read("rollout_state_vectors.json")["growthbook"]
    words = {Move.HOLD: "hold", Move.ADVANCE: "advance", Move.ROLL_BACK: "rollback"}

    agrees: dict[str, bool | None] = {}
    for row in table["vectors"]:
        name, expected = row["name"], row["expected"]
        found = words[growthbook_step(row, table["defaults"]).move]
        if "multipleExposures" in row:
            agrees[name] = None
        elif expected.startswith("not rollback"):
            agrees[name] = found != "rollback"
        else:
            agrees[name] = found == {"no-op": "hold"}.get(expected, expected.split(" ")[0])

    assert tally("growthbook", agrees) == Tally(agree=11, deviate=6, not_comparable=1)


def saying(outcome: Outcome) -> Verdict:
    return Verdict(
        decision_id=decision().id,
        at=T0,
        outcome=outcome,
        stage_outcome=outcome,
        reason=Reason.NONE,
        sentence=outcome.value,
        n_canary=1_000,
        n_control=1_000,
    )


def after(before: Decision, step: Step, now: datetime) -> Decision:
    """The decision once the step was applied and proven."""
    changes: dict[str, Any] = {"stage": step.stage}
    if step.move in {Move.START, Move.ADVANCE}:
        changes |= {"stage_entered_at": now}
    if step.move is Move.PROMOTE:
        changes |= {"stage_entered_at": now, "deployed_at": now}
    if step.move is Move.ROLL_BACK:
        changes |= {"abort_to": step.abort_to, "reason": step.reason}
    if step.to is before.state:
        return amend(before, **changes)
    return move(before, step.to, now, **changes)


def walk(start: Decision, policy: Policy, outcome: Outcome) -> list[tuple[str, int]]:
    """Phases and the canary's percentage of an hourly run in which every verdict is the same."""
    current, share = start, 0
    seen: list[tuple[str, int]] = []
    for hour in range(24):
        now = T0 + hour * HOUR
        step = plan(current, saying(outcome), policy, now=now, approved=True)
        current = current if step.move is Move.HOLD else after(current, step, now)
        allocation = split(current, policy, step, generation=1)
        share = round(100 * allocation.share(SliceName.CANARY)) if allocation else share
        if current.state in PHASES and (not seen or seen[-1] != (PHASES[current.state], share)):
            seen.append((PHASES[current.state], share))
    return seen


def phases(steps: list[Any]) -> list[str]:
    """The phases of a sequence, each once."""
    return list(dict.fromkeys(phase for phase, _ in steps))


def test_every_phase_sequence_of_flagger_is_ours_or_declared() -> None:
    rows = {row["name"]: row for row in read("rollout_state_vectors.json")["flagger"]["vectors"]}
    fresh = decision(state=State.PENDING, stage=-1, stage_entered_at=None, created_at=T0)
    policy = Policy(stages=HALVES)
    good = walk(fresh, policy, Outcome.PASS)
    bad = walk(decision(), policy, Outcome.FAIL)

    happy, blue_green, rollback, *rest = rows
    agrees: dict[str, bool | None] = {
        happy: [list(step) for step in good] == rows[happy]["sequence"],
        blue_green: phases(good) == phases(rows[blue_green]["sequence"]),
        rollback: bad[-1][0] == rows[rollback]["expected"]["phase"],
        **dict.fromkeys(rest),
    }

    assert tally("flagger", agrees) == Tally(agree=2, deviate=1, not_comparable=3)


def check(status: str) -> Check:
    outcome, reason = STATUS[status]
    return Check(metric=status, role="guardrail", outcome=outcome, reason=reason)


def combined(*statuses: str) -> tuple[Outcome, Reason | None]:
    outcome, decider = combine([check(status) for status in statuses])
    return outcome, decider.reason if decider else None


def test_every_aggregation_of_argo_is_ours_or_declared() -> None:
    table = read("argo_vectors.json")["run_aggregation"]
    order = table["worst_order_best_to_worst"]

    runs: dict[str, bool | None] = {
        row["expected"]: combined(*row["metrics"].values()) == STATUS[row["expected"]]
        for row in table["vectors"]
    }
    # Of two reasons to be inconclusive neither is worse here; outcomes alone are compared.
    pairs: dict[str, bool | None] = {
        f"{better}+{worse}": combined(better, worse)[0] is STATUS[worse][0]
        for better, worse in combinations(order, 2)
    }

    assert tally("argo/run", runs) == Tally(agree=2, deviate=0, not_comparable=0)
    assert tally("argo/order", pairs) == Tally(agree=13, deviate=2, not_comparable=0)


def unmeasured() -> Verdict:
    return verdict(Series(control=[], canary=[]), 0)


def unusable() -> Verdict:
    """The verdict on an arm whose hash buckets cannot be read: its numbers are not numbers."""
    given = case(policy=LOOSE, urgent=True)
    frame = made(World())
    frame[CLUSTERS] = [b"\x00" * N_CLUSTERS] * len(frame)
    end = T0 + 24 * WINDOW
    return judge([given], frame, now=end + HOUR, data_until=end)[given.decision.id]


def test_every_metric_state_of_argo_is_ours_declared_or_not_comparable() -> None:
    rows = read("argo_vectors.json")["assess_metric_status"]["vectors"]
    found = unmeasured().outcome

    agrees: dict[str, bool | None] = {}
    for place, row in enumerate(rows):
        nothing = row["result"] == {"measurements": 0}
        agrees[str(place)] = found is STATUS[row["expected"]][0] if nothing else None

    assert tally("argo/metric state", agrees) == Tally(agree=1, deviate=1, not_comparable=52)


POINTS = {
    # (success, failure): mean and relative scatter of the canary, against control's mean of 100
    ("true", "false"): (100.0, 0.05),
    ("true", "true"): (105.0, 0.01),
    ("false", "false"): (100.0, 1.5),
}


def points(mean: float, scatter: float) -> list[float]:
    """Thirty positive points of that mean."""
    wave = np.exp(scatter * np.linspace(-1.0, 1.0, 30))
    return [float(value) for value in mean * wave / wave.mean()]


def test_every_condition_of_argo_is_ours_or_not_comparable() -> None:
    """Success: the upper limit of harm below the margin; failure: the lower above the tolerance."""
    agrees: dict[str, bool | None] = {}
    for place, row in enumerate(read("argo_vectors.json")["condition_evaluation"]["vectors"]):
        stated = POINTS.get((row["success"], row["failure"]))
        if stated is None:
            agrees[str(place)] = None
            continue
        mean, scatter = stated
        found = verdict(Series(control=points(100.0, scatter), canary=points(mean, scatter)), 0)
        agrees[str(place)] = found.outcome is STATUS[row["expected"]][0]

        limits = found.checks[0]
        assert limits.harm_upper is not None
        assert limits.harm_lower is not None
        assert limits.margin is not None
        assert (limits.harm_upper < limits.margin) is (row["success"] == "true")
        assert (limits.harm_lower > 0) is (row["failure"] == "true")

    assert tally("argo/condition", agrees) == Tally(agree=3, deviate=0, not_comparable=5)


def test_every_word_of_argo_on_what_is_no_number_is_ours_or_declared() -> None:
    found = {"NaN": unusable(), "[]": unmeasured()}

    agrees: dict[str, bool | None] = {}
    for place, row in enumerate(
        read("argo_vectors.json")["condition_evaluation"]["nan_documented"]
    ):
        ours = found.get(row["value"])
        agrees[str(place)] = ours.outcome is STATUS[row["expected"]][0] if ours else None

    assert {check.reason for check in found["NaN"].checks} >= {Reason.NON_FINITE}
    assert tally("argo/not a number", agrees) == Tally(agree=1, deviate=4, not_comparable=1)
