"""Drift: behaviour that changed without anyone changing it, arm by arm and hour by hour.

What began in the last three hours is an anomaly, told by the analyzer of that name; drift lasts.
Every target x arm is compared with itself: hours with the same hours of the weeks before, the last
day's latency with the days before. What is too short to have a usual hour is not judged. Changes
are alerts and reasons to collect evidence anew, never reasons to promote.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from optimizer.evidence import Insight, Scene, Severity
from optimizer.metrics import DAY_S, HOUR_S, at
from optimizer.statistics import arms
from optimizer.statistics.anomalies import lasting_shifts
from optimizer.statistics.arms import Row
from optimizer.statistics.hourly import COLUMNS, MEASURES, Hourly, hourly
from optimizer.statistics.latency_days import Reshaped, reshaped
from optimizer.statistics.model_changes import Rule, model_changes
from optimizer.statistics.runs import ALARM
from optimizer.statistics.shifts import discoveries, read, shifts
from optimizer.targets import ModelConfig, Target

FloatArray = npt.NDArray[np.float64]

NAME: Final = "drift"
MODEL_CHANGED: Final = "model_changed"
MIN_LABELS: Final = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a measure is to a reader.

    metric: its name in a policy, None = none; worse: 1 if more is worse, -1 if less is, 0 neither;
    severe: relative change from which a change for the worse is an error.
    """

    label: str
    metric: str | None = None
    worse: int = 0
    severe: float = 0.5


ABOUT: Final[Mapping[str, About]] = {
    "failure_share": About(label="failure share", metric="failure_rate", worse=1),
    "latency_ms": About(label="typical latency, ms", metric="latency_ms", worse=1),
    "latency_tail_ms": About(label="tail latency, ms", metric="latency_ms", worse=1),
    "cost_usd": About(label="typical cost, USD", metric="cost_usd", worse=1),
    "quality": About(label="quality", metric="quality", worse=-1, severe=0.15),
    "input_tokens": About(label="input tokens a request"),
    "output_tokens": About(label="output tokens a request"),
}

ALONE: Final = ("cost_usd", "quality", "output_tokens")
TOGETHER: Final = ("latency_ms", "latency_tail_ms")
TRAFFIC: Final = ("input_tokens",)
"""What a model makes alone, together with its provider's load, and what its requests make; an
outage is no other model, so failures are none of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """Insights on changed behaviour of each target x arm.

    min_requests: below it an hour says nothing; min_hours: hours before a change that make a usual
    one; alarm: height of the cumulative sum; change_min: smallest relative change that matters;
    false_share: expected share of false ones among the reported changes of a run.
    """

    min_requests: int = 100
    min_hours: int = 96
    alarm: float = ALARM
    change_min: float = 0.05
    false_share: float = 0.05

    def __call__(self, scene: Scene) -> tuple[Insight, ...]:
        """The insights, most severe first, then by target, arm and kind."""
        end_s = int(scene.now.timestamp()) // HOUR_S * HOUR_S
        known = scene.hours[scene.hours["target"].isin(list(scene.targets))]
        if known.empty:
            return ()
        start_s = int(known["window_start_s"].min()) // HOUR_S * HOUR_S
        recent = arms.within(known, start_s=start_s, end_s=end_s)
        if (end_s - start_s) // HOUR_S < self.min_hours:
            return ()
        series = hourly(
            recent,
            start_s=start_s,
            end_s=end_s,
            columns=COLUMNS,
            min_requests=self.min_requests,
            min_hours=self.min_hours,
        )
        if series.keys.empty:
            return ()
        changes, judged = self._compared(series, scene)
        rule = Rule(alone=ALONE, together=TOGETHER, traffic=TRAFFIC, strong=2 * self.alarm)
        slower = changes[changes["measure"].isin(TOGETHER)]
        moved = set(zip(slower["target"], slower["arm"], strict=True))
        found = [
            *(_changed(row) for row in arms.rows(changes)),
            *(_model_changed(row) for row in arms.rows(model_changes(changes, judged, rule))),
            *(
                _shape(each, end_s)
                for each in reshaped(series, recent)
                if (each.target, each.arm) not in moved
            ),
        ]
        rank = list(Severity)
        return tuple(
            sorted(
                found,
                key=lambda i: (
                    *(-rank.index(i.severity), i.target, i.arm or "", i.kind),
                    *(i.metric or "", i.title),
                ),
            )
        )

    def _compared(self, series: Hourly, scene: Scene) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Shifts that last, and which arms of each model were judged, by measure."""
        keys = _with_models(series.keys, scene.targets)
        changed: list[pd.DataFrame] = []
        judged: list[pd.DataFrame] = []
        for name, measure in MEASURES.items():
            found = measure(series.sums)
            least = MIN_LABELS if name == "quality" else self.min_requests
            log = np.where(found.count >= least, found.log, np.nan)
            if name == "quality":
                log = np.where(_mature(series, scene), log, np.nan)
            # Columns that no series knows yet are left off: there the newest hour is an older one.
            width = np.flatnonzero((~np.isnan(log)).any(axis=0)).max(initial=-1) + 1
            reading = read(log[:, :width], series.start_s[:width], error=found.error[:, :width])
            moved = shifts(reading, min_hours=self.min_hours, alarm=self.alarm)
            lasting = lasting_shifts(reading, moved)
            changed.append(_named(lasting, keys, name, series, found.count))
            judged.append(keys[reading.hours >= self.min_hours].assign(measure=name))
        tests = sum(len(frame) for frame in judged)
        changes = pd.concat(changed, ignore_index=True)
        real = discoveries(changes["p_value"], tests=2 * tests, level=self.false_share)
        matters = (changes["ratio"] - 1.0).abs() >= self.change_min
        return changes[real & matters], pd.concat(judged, ignore_index=True)


def changed_arms(
    insights: Sequence[Insight], targets: Mapping[str, Target]
) -> Mapping[tuple[str, str], datetime]:
    """From when on the evidence of an arm counts again: the hour in which its model changed.

    A change seen in several arms of a model, or in the only arm that could show it, holds for every
    arm of that model in any target; one that other arms of the model do not show holds for its own
    arm alone. Keyed by (target, arm); of several changes the latest counts.
    """
    users: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for target in targets.values():
        for arm in target.arms:
            users[_identity(arm.config)].append((target.name, arm.name))
    model_of = {key: model for model, keys in users.items() for key in keys}
    since: dict[tuple[str, str], datetime] = {}
    for insight in insights:
        key = (insight.target, insight.arm or "")
        if insight.kind != MODEL_CHANGED or key not in model_of:
            continue
        shared = insight.metrics["arms_changed"] > 1 or insight.metrics["arms_judged"] <= 1
        for each in users[model_of[key]] if shared else [key]:
            since[each] = max(insight.start, since.get(each, insight.start))
    return since


def _identity(config: ModelConfig) -> str:
    return config.model if config.provider is None else f"{config.provider}/{config.model}"


def _with_models(keys: pd.DataFrame, targets: Mapping[str, Target]) -> pd.DataFrame:
    """The keys with their row and model; an arm that left the configuration is its own model."""
    model_of = {
        (target.name, arm.name): _identity(arm.config)
        for target in targets.values()
        for arm in target.arms
    }
    pairs = zip(keys["target"], keys["arm"], strict=True)
    models = [model_of.get(pair, "/".join(("", *pair))) for pair in pairs]
    return keys.assign(row=np.arange(len(keys)), model=pd.Series(models, dtype="str"))


def _mature(series: Hourly, scene: Scene) -> npt.NDArray[np.bool_]:
    """Which hours are old enough for their quality to count, shape (S, H)."""
    now_s = int(scene.now.timestamp())
    cut = {
        name: now_s - int(policy.label_maturity.total_seconds())
        for name, policy in scene.policies.items()
    }
    limit = series.keys["target"].map(cut).to_numpy(dtype=np.float64)
    return np.asarray(series.start_s + HOUR_S <= limit[:, None], dtype=np.bool_)


def _named(
    found: pd.DataFrame, keys: pd.DataFrame, measure: str, series: Hourly, count: FloatArray
) -> pd.DataFrame:
    """The rows with target, arm, model and measure, when they began and ended, and on how many."""
    rows, first, last = (
        found[name].to_numpy(dtype=np.int64) for name in ("row", "onset", "newest")
    )
    total = np.cumsum(count[rows], axis=1) if rows.size else np.zeros((0, 1))
    index = np.arange(rows.size)
    n = total[index, last] - total[index, first] + count[rows, first]
    names = keys.iloc[rows].reset_index(drop=True)
    return found.assign(
        target=names["target"],
        arm=names["arm"],
        model=names["model"],
        measure=measure,
        start_s=series.start_s[first],
        end_s=series.start_s[last] + HOUR_S,
        n=n.astype(np.int64),
    )


def _insight(
    row: Row,
    kind: str,
    severity: Severity,
    *,
    title: str,
    text: str,
    caveat: str,
    value: float,
    numbers: Mapping[str, float],
) -> Insight:
    return Insight(
        analyzer=NAME,
        kind=kind,
        severity=severity,
        target=row.target,
        arm=row.arm,
        metric=ABOUT[row.measure].metric,
        title=title,
        description=f"{row.arm} of {row.target}: {text}",
        value=value,
        limit=row.before,
        n=row.n,
        start=at(row.start_s),
        end=at(row.end_s),
        caveat=caveat,
        metrics=numbers,
    )


def _shift_numbers(row: Row) -> dict[str, float]:
    return {
        "before": row.before,
        "after": row.before * row.ratio,
        "change": row.ratio - 1.0,
        "shift_z": row.shift_z,
        "cusum": row.height,
        "p_value": row.p_value,
        "hours_before": float(row.hours),
        "change_point": float(row.confirmed),
    }


def _changed(row: Row) -> Insight:
    about, change = ABOUT[row.measure], row.ratio - 1.0
    after = row.before * row.ratio
    return _insight(
        row,
        "behaviour_change",
        _severity(about, change),
        title=f"{about.label} {after:.4g} since {at(row.start_s):%Y-%m-%d %H:%M} UTC, usually "
        f"{row.before:.4g} ({change:+.0%})",
        text=f"a run of {row.shift_z:+.1f} standard deviations in the median hour, height "
        f"{row.height:.1f}, against {row.hours} hours before"
        + ("; least squares put a change point there too" if row.confirmed else ""),
        caveat="wrong if the mix of requests or the arm's share of traffic changed in that hour",
        value=after,
        numbers=_shift_numbers(row),
    )


def _severity(about: About, change: float) -> Severity:
    harm = change * about.worse
    if about.worse and harm <= 0:
        return Severity.INFO
    return Severity.ERROR if harm >= about.severe else Severity.WARNING


def _model_changed(row: Row) -> Insight:
    about, change = ABOUT[row.measure], row.ratio - 1.0
    return _insight(
        row._replace(start_s=row.hour_s),
        MODEL_CHANGED,
        Severity.ERROR,
        title=f"model {row.model} behaves differently since {at(row.hour_s):%Y-%m-%d %H:%M} UTC: "
        f"{about.label} {row.before * row.ratio:.4g}, usually {row.before:.4g} ({change:+.0%})",
        text=f"seen in {row.arms_changed} of {row.arms_judged} arms of that model that had enough "
        "hours; evidence from before that hour is about another model",
        caveat="wrong if all of them had other requests in that hour, which input tokens and "
        "arms of other models in the same targets do not show",
        value=row.before * row.ratio,
        numbers=_shift_numbers(row)
        | {"arms_changed": float(row.arms_changed), "arms_judged": float(row.arms_judged)},
    )


def _shape(found: Reshaped, end_s: int) -> Insight:
    return Insight(
        analyzer=NAME,
        kind="distribution_change",
        severity=Severity.WARNING,
        target=found.target,
        arm=found.arm,
        metric="latency_ms",
        title=f"latencies of the last day are distributed differently: stability index "
        f"{found.psi:.2f}, limit {found.limit:.2f}",
        description=f"{found.arm} of {found.target}: no earlier of {found.days} days exceeded "
        f"{found.usual_psi:.2f}; largest difference of the distributions {found.distance:.3f} "
        f"(Kolmogorov-Smirnov over sessions, p = {found.p_value:.2g})",
        value=found.psi,
        limit=found.limit,
        n=found.n,
        start=at(end_s - DAY_S),
        end=at(end_s),
        caveat="wrong if the last day had other requests, or is of a kind the days before lack",
        metrics={
            "psi": found.psi,
            "usual_psi": found.usual_psi,
            "ks_distance": found.distance,
            "ks_p_value": found.p_value,
            "days": float(found.days),
        },
    )
