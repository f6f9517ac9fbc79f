"""Whether the data of a rollout can be trusted, and what needs no statistics to be seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt

from optimizer.judge.case import Case
from optimizer.judge.limits import anytime_deviate, deviate_beyond
from optimizer.judge.sums import CANARY, CONTROL, Sums, arms
from optimizer.metrics import HOUR_S
from optimizer.statistics.anytime import (
    TIGHTEST_PROMOTE,
    TIGHTEST_ROLLBACK,
    bernoulli_exceeds,
)
from optimizer.statistics.evalues import (
    SRM_CONCENTRATION,
    Side,
    beta_binomial_log_evalue,
    exact_increments,
    log_evalue,
)
from optimizer.statistics.screening import excess_and_variance, log_evalue_limit

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

SRM_ALARM: Final = 1_000.0
"""E-value at which the split of units counts as broken."""
LABEL_ALARM: Final = 2_000.0
"""E-value, each way, at which the arms' labels count as unlike."""
SICK_ALPHA: Final = 0.001
"""Error of the limit that calls control sick."""
CIRCUIT_REQUESTS: Final = 20
"""Requests in a row that must all fail to open the circuit."""
CIRCUIT_CONTROL: Final = 0.5
"""Control's share of failures above which a dead canary is not the canary's fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What is wrong with the data of each case, shape (N,).

    srm_log_e: log e-value against the planned split; circuit: requests in a row that all failed,
    0 = closed; sick: control breaks the safety limit on failures itself, ``control_failing`` is the
    share that says so; canary_sick: so does the canary, which is asked of urgent decisions only.
    """

    srm_log_e: FloatArray
    circuit: IntArray
    sick: BoolArray
    control_failing: FloatArray
    canary_sick: BoolArray

    @property
    def srm(self) -> BoolArray:
        """Whether units are not split as planned."""
        return np.asarray(self.srm_log_e >= np.log(SRM_ALARM))


def examine(cases: Sequence[Case], sums: Sums, data_until: datetime) -> Health:
    """The health of every case."""
    failing, sick = _sick(cases, sums, data_until, CONTROL, np.ones(len(cases), dtype=bool))
    urgent = np.array([case.decision.urgent for case in cases], dtype=bool)
    _, canary_sick = _sick(cases, sums, data_until, CANARY, urgent & sick)
    return Health(
        srm_log_e=_split_log_e(cases, sums),
        circuit=_circuit(sums),
        sick=sick,
        control_failing=failing,
        canary_sick=canary_sick,
    )


def _split_log_e(cases: Sequence[Case], sums: Sums) -> FloatArray:
    """Log e-value against units being split as planned.

    A unit that comes back in later windows is counted in each, so counts are divided by how often
    requests come back beyond one window: dispersion of requests over requests a unit and window.
    """
    units, rows = sums.totals["n_units"], sums.totals["n"]
    total = units.sum(axis=1)
    spread = np.fmax.reduce(sums.clustered.dispersion, axis=1)
    inside = rows.sum(axis=1) / np.where(total > 0, total, np.nan)
    repeats = np.fmax(np.where(sums.single, 1.0, spread / inside), 1.0)
    ratio = np.array([case.control_ratio for case in cases])
    return beta_binomial_log_evalue(
        units[:, CANARY] / repeats,
        total / repeats,
        1.0 / (1.0 + ratio),
        concentration=SRM_CONCENTRATION,
    )


def _circuit(sums: Sums) -> IntArray:
    """Requests the canary lost since its last answer, while control kept answering.

    Whole windows only; 0 where there are fewer than 20 or control fails in half of its own.
    """
    windows, size = sums.windows, len(sums.foreign)
    rows, failed = windows.counts["n"], windows.counts["n_failed"]
    answered = failed[:, CANARY] < rows[:, CANARY]
    last = np.full(size, -1)
    np.maximum.at(last, windows.case[answered], windows.start_s[answered])
    dead = windows.start_s > last[windows.case]
    sent, lost = (
        np.stack(
            [
                np.bincount(windows.case[dead], weights=counts[dead, arm], minlength=size)
                for arm in (CONTROL, CANARY)
            ]
        )
        for counts in (rows, failed)
    )
    control_lives = lost[CONTROL] < CIRCUIT_CONTROL * sent[CONTROL]
    opened = (sent[CANARY] >= CIRCUIT_REQUESTS) & control_lives
    return np.where(opened, sent[CANARY], 0).astype(np.int64)


def _sick(
    cases: Sequence[Case], sums: Sums, data_until: datetime, arm: int, asked: BoolArray
) -> tuple[FloatArray, BoolArray]:
    """An arm's share of failures, and whether it is proven above the safety limit.

    Over all the evidence, or over its last hour alone: an outage may follow a healthy day. Cases
    that are not ``asked``, shape (N,), count as healthy.
    """
    size = len(cases)
    limit = np.array([case.policy.safety.failure_rate_max for case in cases])
    windows = sums.windows
    recent = windows.start_s >= data_until.timestamp() - HOUR_S
    spread = sums.clustered.dispersion[:, arm]
    effect = np.where(sums.single, 1.0, spread)
    effect = np.where(np.isfinite(effect), effect, 1.0)
    share, sick = np.full(size, np.nan), np.zeros(size, dtype=bool)
    for chosen in (np.ones_like(recent), recent):
        rows, failed = (
            np.bincount(
                windows.case[chosen],
                weights=windows.counts[name][chosen, arm],
                minlength=size,
            )
            for name in ("n", "n_failed")
        )
        broken = np.zeros(size, dtype=bool)
        broken[asked] = bernoulli_exceeds(
            (failed / effect)[asked], (rows / effect)[asked], limit[asked], alpha=SICK_ALPHA
        )
        seen = failed / np.where(rows > 0, rows, np.nan)
        share = np.where(broken & ~sick, seen, share)
        sick |= broken
    return share, sick


def unlabelled_imbalance(sums: Sums, case: IntArray) -> BoolArray:
    """Whether the arms' answered requests are labelled in different shares, both ways, shape (n,).

    Counted on answered requests, so that an arm that fails less is not taken for one that is
    labelled more. Single requests: exact test at an e-value of 2,000 each way. Otherwise a
    confidence sequence of the same error each way.
    """
    single = sums.single[case]
    control, canary = arms(sums.clustered.unlabelled, case)
    error = np.full(case.size, 1.0 / LABEL_ALARM)
    units = sums.clustered.answered[case].sum(axis=1)
    nothing, level = np.zeros(case.size), np.zeros(case.size, dtype=bool)
    z = deviate_beyond(canary, control, sign=1, relative=level, limit=nothing)
    sides = (
        side >= anytime_deviate(units, error, tightest)
        for side, tightest in ((z, TIGHTEST_ROLLBACK), (-z, TIGHTEST_PROMOTE))
    )
    with np.errstate(invalid="ignore"):
        differs = np.logical_or(*sides)
    return np.asarray(np.where(single, _label_test(sums, case, single), differs))


def _label_test(sums: Sums, case: IntArray, single: BoolArray) -> BoolArray:
    """The exact test of single requests, shape (n,); false where they are not single."""
    windows = sums.windows
    position = np.full(len(sums.foreign), -1)
    position[case] = np.where(single, np.arange(case.size), -1)
    asked = position[windows.case]
    answered = windows.counts["n"] - windows.counts["n_failed"]
    open_ = np.clip(answered - windows.counts["n_quality"], 0, answered)
    # A window without open requests adds exactly nothing, whatever its sizes.
    chosen = (asked >= 0) & windows.mature & open_.any(axis=1)
    asked, answered, open_ = asked[chosen], answered[chosen], open_[chosen]
    counts = [each[:, arm] for arm in (CANARY, CONTROL) for each in (open_, answered)]
    excess, variance = (
        np.bincount(asked, weights=each, minlength=case.size).astype(np.float64)
        for each in excess_and_variance(*counts)
    )
    alarm = np.zeros(case.size, dtype=bool)
    for side in (Side.HIGHER, Side.LOWER):
        # Few cases come near the alarm; only their windows are priced exactly.
        near = log_evalue_limit(excess, variance, side=side) >= np.log(LABEL_ALARM)
        where = near[asked]
        increments = exact_increments(*(each[where] for each in counts), side=side)
        state = np.zeros((case.size, increments.shape[-1]))
        np.add.at(state, asked[where], increments)
        alarm |= log_evalue(state) >= np.log(LABEL_ALARM)
    return alarm
