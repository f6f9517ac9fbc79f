"""Sentences for the one who was paged: target, arm, metric, value, limit and sample sizes."""

from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from optimizer.evidence import Check, Outcome, Reason
from optimizer.judge.case import Case
from optimizer.metrics import METRICS, Direction, MetricKind

REMEMBERED: Final = 1_024
"""Margins whose wording is remembered: most decisions have those of one policy."""

_WHY = {
    Reason.NO_ROWS: "no data yet",
    Reason.MIN_SAMPLE: "too few requests",
    Reason.BETWEEN_LOOKS: "no harm seen, to be decided at a planned look",
    Reason.MIN_CLUSTERS: "too few independent sessions",
    Reason.MIN_EVENTS: "too few events to bound the harm",
    Reason.LABELS_IMMATURE: "the labels are not old enough",
    Reason.LABELS_IMBALANCED: "the two arms are labelled in different shares",
    Reason.BASELINE_NEAR_ZERO: "control is too close to zero for a relative comparison",
    Reason.NON_FINITE: "the numbers are unusable",
}
_SHARES, _SCORES = (
    frozenset(each.name for each in METRICS.values() if each.kind is kind)
    for kind in (MetricKind.SHARE, MetricKind.SCORE)
)
# Every sentence asks for these, and a module finds them in half the time of their class.
_FAIL, _PASS, _WIDE = Outcome.FAIL, Outcome.PASS, Reason.WIDE_INTERVAL
# The usual one comes first: a tuple finds it by identity, a set would hash the enumeration.
_MORE_HELPS = (Reason.WIDE_INTERVAL, Reason.MIN_SAMPLE, Reason.MIN_CLUSTERS, Reason.MIN_EVENTS)


def subject(case: Case) -> str:
    """Who is judged, e.g. ``checkout, arm mini against large``."""
    decision = case.decision
    return f"{decision.target}, arm {decision.candidate} against {decision.baseline}"


def amount(metric: str, value: float, *, relative: bool) -> str:
    """A value of a metric, or of harm in it, as people read it.

    Examples:
        >>> amount("quality", 0.0612, relative=False), amount("cost_usd", 0.25, relative=True)
        ('0.0612', '25.0 %')
        >>> amount("failure_rate", 0.005, relative=False)
        '0.50 points'
    """
    value += 0.0  # A limit of zero gain is a harm of minus zero.
    if relative:
        return f"{100.0 * value:.1f} %"
    if metric in _SHARES:
        return f"{100 * value:.2f} points"
    if metric in _SCORES:
        return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.4f}"  # noqa: PLR2004 - digits
    return f"{value:.4g} {METRICS[metric].unit}"


def samples(check: Check) -> str:
    """The sample sizes of a check, e.g. ``1,204 canary and 1,187 control requests``."""
    estimate = check.estimate
    kind = "labelled requests" if check.metric == "quality" else "requests"
    if estimate is None:
        return f"no {kind}"
    return f"{estimate.n_canary:,} canary and {estimate.n_control:,} control {kind}"


def explain(check: Check, *, needed: float | None, hours: float | None) -> str:
    """One clause on a check, without its subject.

    needed: further rows per arm, None = no number is known to do; hours: their time at the present
    rate.
    """
    if check.outcome is _FAIL:
        return _failed(check)
    if check.outcome is _PASS:
        return _passed(check)
    return _open(check, needed, hours)


def _failed(check: Check) -> str:
    metric = METRICS[check.metric]
    verb = "rose" if metric.direction is Direction.LOWER else "fell"
    spread = _spread(check)
    n = samples(check)
    if check.role == "goal":
        return f"the goal is missed: {metric.label} {verb} by {spread} against control ({n})"
    allowed = "no harm is tolerated"
    if check.tolerance:
        limit = amount(check.metric, check.tolerance, relative=check.relative)
        allowed = f"more than the {limit} allowed"
    return f"{metric.label} {verb} by {spread} against control, {allowed} ({n})"


def _spread(check: Check) -> str:
    """The harm seen with its limits; a limit that stands alone is written in words."""
    seen, low, high = (
        None if value is None else amount(check.metric, value, relative=check.relative)
        for value in (check.harm, check.harm_lower, check.harm_upper)
    )
    if seen and low and high:
        return f"{seen} [{low}, {high}]"
    known = [f"at least {low}"] if low else []
    known += [f"at most {high}"] if high else []
    limits = " and ".join(known)
    return f"{seen} ({limits})" if seen and limits else seen or limits or "an unknown amount"


def _passed(check: Check) -> str:
    label, relative = METRICS[check.metric].label, check.relative
    upper, margin = check.harm_upper or 0.0, check.margin or 0.0
    if check.role == "goal":
        gain = amount(check.metric, -upper, relative=relative)
        return f"{label} improves by at least {gain} ({samples(check)})"
    if upper < 0:
        better = amount(check.metric, -upper, relative=relative)
        return f"{label}: better than control by at least {better} ({samples(check)})"
    most = amount(check.metric, upper, relative=relative)
    limit = amount(check.metric, margin, relative=relative)
    return f"harm to {label} is at most {most}, below the margin of {limit} ({samples(check)})"


def _open(check: Check, needed: float | None, hours: float | None) -> str:
    if check.reason is not _WIDE:
        label, why = METRICS[check.metric].label, _WHY.get(check.reason, check.reason.value)
        return f"not yet: {label}: {why} ({samples(check)}){_more(check, needed, hours)}"
    if check.role != "goal" and check.margin is not None and check.margin <= 0:
        label = METRICS[check.metric].label
        return f"not yet: earlier promotions have spent the whole margin of {label}"
    upper = amount(check.metric, check.harm_upper or 0.0, relative=check.relative)
    before, after = _wide(check.metric, check.role, check.margin or 0.0, check.relative)
    return f"{before}{upper}{after} ({samples(check)}){_more(check, needed, hours)}"


@lru_cache(maxsize=REMEMBERED)
def _wide(metric: str, role: str, margin: float, relative: bool) -> tuple[str, str]:  # noqa: FBT001
    """What is said before and after the harm that there may be."""
    label = METRICS[metric].label
    if role == "goal":
        gain = amount(metric, -margin, relative=relative)
        return f"not yet: a gain in {label} above {gain} is not proven: harm may be up to ", ""
    limit = amount(metric, margin, relative=relative)
    return f"not yet: harm to {label} may be up to ", f", above the margin of {limit}"


def _more(check: Check, needed: float | None, hours: float | None) -> str:
    if check.reason not in _MORE_HELPS:
        return ""
    if needed is None:
        known = check.reason is _WIDE
        return "; at the present estimate more data would not show it" if known else ""
    kind = "labelled requests" if check.metric == "quality" else "requests"
    when = "" if hours is None else f", some {hours:,.1f} h at the present rate"
    return f"; about {_rounded(needed):,} more {kind} per arm are needed{when}"


def _rounded(count: float) -> int:
    """Two significant digits, upward in doubt."""
    whole = round(count)
    if whole < 100:  # noqa: PLR2004 - two digits
        return max(1, whole)
    step: int = 10 ** (len(str(whole)) - 2)
    return -(-whole // step) * step


def stale(data_until: datetime, now: datetime, limit: timedelta) -> str:
    """The data are too old."""
    age = (now - data_until).total_seconds() / 3600
    allowed = limit.total_seconds() / 3600
    end = data_until.strftime("%Y-%m-%d %H:%M UTC")
    return f"the data end at {end}, {age:.1f} h ago, more than the {allowed:g} h allowed"
