"""Quality: how good each arm's answers are, from labels that have had time to come.

Scores lie in [0, 1]; ratings, judges and what users do are turned into them where they come in.
Only mature windows are read, by the time of the request. Where labels are missing, too few or
unlike between arms, that is said in the place of a level: no label is no good answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from optimizer.evidence import Insight, Scene, Severity
from optimizer.metrics import DAY_S, HOUR_S, at
from optimizer.policy import Policy
from optimizer.statistics import arms
from optimizer.statistics.arms import Row
from optimizer.statistics.scores import Z_95, against_itself, between_arms, levels
from optimizer.statistics.weeks import history_of

NAME: Final = "quality"
METRIC: Final = "quality"
KEPT: Final = ("quality", "quality_low", "quality_high", "n_quality", "label_share")
"""The numbers every insight of this analyzer carries, where they are known."""
COLUMNS: Final = ("n", "n_quality", "quality", "quality_low", "quality_high", "label_share")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Insights on the quality of each target and arm.

    min_labels: labels below which an arm has no level; min_requests: requests below which missing
    labels say nothing; alert: level below which an arm is told of, in [0, 1], beside the policy's
    hard limit; drop_min: relative fall below an arm's own level that counts; moderate, severe: fall
    in points of the score from which it is an error and critical; chance: that a day of an arm
    which has not changed is called a drop; min_days: days before the last it is measured against;
    noise: smallest spread of a log; label_min: share of requests below which labels are few;
    imbalance_min: relative difference of two arms' labelled shares that counts; differ_min:
    difference of two arms' levels that counts, in points; z_min: how certain both must be; days:
    how far back arms are compared.
    """

    min_labels: int = 30
    min_requests: int = 100
    alert: float = 0.7
    drop_min: float = 0.1
    moderate: float = 0.15
    severe: float = 0.3
    chance: float = 1e-3
    min_days: int = 4
    noise: float = 0.02
    label_min: float = 0.01
    imbalance_min: float = 0.2
    differ_min: float = 0.05
    z_min: float = 4.0
    days: int = 7

    def __call__(self, scene: Scene) -> tuple[Insight, ...]:
        """The insights, most severe first, then by target, arm and kind."""
        table = self.table(scene)
        known = table[table["n_quality"] >= self.min_labels]
        found = [
            *self._missing(scene, table),
            *self._low(known),
            *self._drops(known),
            *self._compared(known),
        ]
        rank = list(Severity)
        return tuple(
            sorted(found, key=lambda i: (-rank.index(i.severity), i.target, i.arm or "", i.kind))
        )

    def table(self, scene: Scene) -> pd.DataFrame:
        """One row for each target and arm with traffic in the trailing days.

        Columns: in_force, quality_min, needed (whether the policy reads quality), n, n_quality,
        quality with its 95 % limits and label_share over the last mature day, or over all mature
        days where that one has too few labels, with start_s and end_s; what
        :func:`optimizer.statistics.scores.against_itself` and
        :func:`optimizer.statistics.scores.between_arms` say; mature, whether any window is.
        """
        now_s = int(scene.now.timestamp())
        limits = _limits(scene)
        recent = arms.within(scene.hours, start_s=now_s - self.days * DAY_S, end_s=now_s)
        recent = arms.coded(recent[recent["target"].isin(limits["target"])])
        cut = dict(zip(limits["target"], limits["cut_s"], strict=True))
        ripe = arms.mature(recent, cut)
        in_force = dict(zip(limits["target"], limits["in_force"], strict=True))
        pairs = recent.groupby(["target", "arm"], sort=True, observed=True)["n"].sum()
        table = pairs.reset_index()[["target", "arm"]].astype("str")
        table = table.merge(limits, on="target").merge(
            self._levels(ripe, cut), on=["target", "arm"], how="left"
        )
        for more in (self._own(scene, limits), between_arms(ripe, in_force)):
            table = table.merge(more, on=["target", "arm"], how="left")
        counts = ["n", "n_quality"]
        return table.assign(
            mature=table["n"].notna(),
            **{name: table[name].fillna(0).astype(np.int64) for name in counts},
            start_s=table["start_s"].fillna(table["cut_s"] - DAY_S).astype(np.int64),
            end_s=table["cut_s"],
        )

    def _levels(self, ripe: pd.DataFrame, cut: Mapping[str, int]) -> pd.DataFrame:
        """Levels over the last mature day, or over all of them where that has too few labels."""
        end = ripe["target"].map(dict(cut)).to_numpy(dtype=np.float64)
        last = ripe["window_start_s"].to_numpy() >= end - DAY_S
        day = levels(ripe[last]).assign(span_s=DAY_S)
        enough = day[day["n_quality"] >= self.min_labels]
        whole = levels(ripe).assign(span_s=self.days * DAY_S)
        told = pd.MultiIndex.from_frame(enough[["target", "arm"]])
        others = whole[~pd.MultiIndex.from_frame(whole[["target", "arm"]]).isin(told)]
        both = pd.concat([enough, others], ignore_index=True)
        end_s = both["target"].map(dict(cut)).to_numpy(dtype=np.int64)
        both = both.assign(start_s=end_s - both["span_s"].to_numpy(dtype=np.int64))
        return both[["target", "arm", *COLUMNS, "start_s"]]

    def _own(self, scene: Scene, limits: pd.DataFrame) -> pd.DataFrame:
        """Every arm against its own days; targets of one maturity are compared at once."""
        history = history_of(scene)
        # Without targets there is still one call, which says so.
        cuts = limits["cut_s"].unique().tolist() or [0]
        parts = [
            against_itself(
                history[history["target"].isin(limits["target"][limits["cut_s"] == cut_s])],
                end_s=cut_s,
                min_labels=self.min_labels,
                min_days=self.min_days,
                noise=self.noise,
            )
            for cut_s in sorted(cuts)
        ]
        return pd.concat(parts, ignore_index=True)

    def _missing(self, scene: Scene, table: pd.DataFrame) -> Sequence[Insight]:
        busy = table[table["n"] >= self.min_requests]
        few = busy[(busy["n_quality"] > 0) & (busy["n_quality"] < self.min_labels)]
        thin = busy[(busy["n_quality"] >= self.min_labels) & (busy["label_share"] < self.label_min)]
        return [
            *(
                _insight(
                    row,
                    "no_data",
                    Severity.INFO,
                    title="no window is mature yet",
                    text="labels are waited for "
                    f"{scene.policies[row.target].label_maturity} after each window",
                    caveat="says nothing about the answers",
                )
                for row in arms.rows(table[~table["mature"]])
            ),
            *(
                _insight(
                    row,
                    "no_labels",
                    Severity.WARNING if row.needed else Severity.INFO,
                    title=f"none of {row.n} requests has a score",
                    text="its quality is unknown, not good"
                    + ("; no change of it can be proven harmless" if row.needed else ""),
                    value=0.0,
                    limit=float(self.min_labels),
                    caveat="wrong if scores come later than the policy's label_maturity",
                )
                for row in arms.rows(busy[busy["n_quality"] == 0])
            ),
            *(
                _insight(
                    row,
                    "insufficient_data",
                    Severity.INFO,
                    title=f"{row.n_quality} scores, {self.min_labels} are needed for a level",
                    text=f"{row.label_share:.1%} of {row.n} requests have a score",
                    value=row.n_quality,
                    limit=float(self.min_labels),
                    caveat="late scores may still arrive",
                )
                for row in arms.rows(few)
            ),
            *(
                _insight(
                    row,
                    "low_label_rate",
                    Severity.INFO,
                    title=f"{row.label_share:.2%} of requests have a score",
                    text=f"{row.n_quality} of {row.n}; the level is that of those who were asked "
                    "or answered",
                    value=row.label_share,
                    limit=self.label_min,
                    caveat="of no matter if they are drawn by chance",
                )
                for row in arms.rows(thin)
            ),
        ]

    def _low(self, known: pd.DataFrame) -> Sequence[Insight]:
        """Levels whose whole interval lies below a limit; the policy's own comes first."""
        broken = known["quality_high"] < known["quality_min"]
        low = ~broken & (known["quality_high"] < self.alert)
        kinds = (
            (broken, "quality_violation", Severity.CRITICAL, known["quality_min"]),
            (low, "quality_low", Severity.WARNING, self.alert),
        )
        return [
            _insight(
                row,
                kind,
                severity,
                title=f"quality {row.quality:.3f} below {row.least:g}",
                text=f"95 % interval [{row.quality_low:.3f}, {row.quality_high:.3f}] of "
                f"{row.n_quality} scores",
                value=row.quality,
                limit=row.least,
                caveat="wrong if mostly the unhappy answer, or a judge became stricter",
            )
            for chosen, kind, severity, least in kinds
            for row in arms.rows(known.assign(least=least)[chosen])
        ]

    def _drops(self, known: pd.DataFrame) -> Sequence[Insight]:
        fallen = (known["p_value"] <= self.chance) & (
            known["recent"] <= (1 - self.drop_min) * known["usual"]
        )
        return [
            _insight(
                row,
                "quality_degradation",
                self._severity(row.usual - row.recent),
                title=f"quality {row.recent:.3f} in the last day, usually {row.usual:.3f} "
                f"({row.recent / row.usual - 1:+.0%}, t = {row.t:.1f})",
                text=f"{row.labels:.0f} scores, against the same hours of {row.days:.0f} days "
                "before",
                value=row.recent,
                limit=row.usual,
                n=row.labels,
                start_s=row.end_s - DAY_S,
                caveat="wrong if other requests came, other users answered, or the judge changed",
            )
            for row in arms.rows(known[fallen])
        ]

    def _severity(self, points: float) -> Severity:
        if points >= self.severe:
            return Severity.CRITICAL
        return Severity.ERROR if points >= self.moderate else Severity.WARNING

    def _compared(self, known: pd.DataFrame) -> Sequence[Insight]:
        """Other arms in use whose labels or levels are unlike those of the arm in force."""
        ratio = known["share_other"] / known["share_own"]
        unlike = (known["label_z"].abs() >= self.z_min) & (
            np.maximum(ratio, 1 / ratio) >= 1 + self.imbalance_min
        )
        enough = known[["n_other", "n_own"]].min(axis=1) >= self.min_labels
        z = known["difference"] / known["error"]
        differs = (
            enough & ~unlike & (z.abs() >= self.z_min)
            & (known["difference"].abs() >= self.differ_min)
        )  # fmt: skip
        return [
            *(
                _insight(
                    row,
                    "labels_imbalanced",
                    Severity.WARNING,
                    title=f"{row.share_other:.1%} of requests of {row.arm} have a score, "
                    f"{row.share_own:.1%} of {row.in_force}",
                    text=f"in the same hours, z = {row.label_z:.1f}: their levels cannot be "
                    "compared",
                    value=row.share_other,
                    limit=row.share_own,
                    caveat="of no matter if labels are drawn by chance at two rates on purpose",
                )
                for row in arms.rows(known[unlike])
            ),
            *(
                _insight(
                    row,
                    "arms_differ",
                    Severity.WARNING if row.difference < 0 else Severity.INFO,
                    title=f"{row.arm} scores {row.difference:+.3f} against {row.in_force}",
                    text=f"95 % interval [{row.difference - Z_95 * row.error:+.3f}, "
                    f"{row.difference + Z_95 * row.error:+.3f}], {row.n_other:.0f} and "
                    f"{row.n_own:.0f} scores in the same hours",
                    value=row.difference,
                    limit=0.0,
                    n=row.n_other,
                    start_s=row.end_s - self.days * DAY_S,
                    caveat="wrong if the arms served different requests; no change rests on it",
                )
                for row in arms.rows(known[differs])
            ),
        ]


def _limits(scene: Scene) -> pd.DataFrame:
    now_s = int(scene.now.timestamp())
    rows = [
        (
            name,
            scene.baselines.get(name, scene.targets[name].baseline),
            policy.safety.quality_min,
            _reads_quality(policy),
            (now_s - int(policy.label_maturity.total_seconds())) // HOUR_S * HOUR_S,
        )
        for name, policy in sorted(scene.policies.items())
        if name in scene.targets
    ]
    columns = ["target", "in_force", "quality_min", "needed", "cut_s"]
    return pd.DataFrame(rows, columns=columns)


def _reads_quality(policy: Policy) -> bool:
    guarded = any(guardrail.metric == METRIC for guardrail in policy.guardrails)
    return guarded or policy.goal.metric == METRIC or policy.safety.quality_min > 0


def _insight(  # noqa: PLR0913 - an insight has this many independent parts
    row: Row,
    kind: str,
    severity: Severity,
    *,
    title: str,
    text: str,
    caveat: str,
    value: float | None = None,
    limit: float | None = None,
    n: float | None = None,
    start_s: int | None = None,
) -> Insight:
    numbers = {name: float(getattr(row, name)) for name in KEPT}
    return Insight(
        analyzer=NAME,
        kind=kind,
        severity=severity,
        target=row.target,
        arm=row.arm,
        metric=METRIC,
        title=title,
        description=f"{row.arm} of {row.target}: {text}",
        value=None if value is None else float(value),
        limit=None if limit is None else float(limit),
        n=int(row.n_quality if n is None else n),
        start=at(int(row.start_s if start_s is None else start_s)),
        end=at(int(row.end_s)),
        caveat=caveat,
        metrics={name: number for name, number in numbers.items() if np.isfinite(number)},
    )
