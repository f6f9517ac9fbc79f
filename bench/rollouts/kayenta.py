"""Kayenta's judge, rendered anew by its rules, to be put beside the project's own.

``NetflixACAJudge-v1.0`` sees time series: one point a minute, or 5, or 15, of one metric of control
and experiment. A metric is High or Low where the Mann-Whitney interval of the shift lies beyond a
fraction of the Hodges-Lehmann estimate and the effect is large enough; groups of metrics are scored
by the share that passes, and the weighted sum of the groups decides. The defaults are production's.
Words and labels are Kayenta's.

References:
    Graff and Sanden (2018), Automated Canary Analysis at Netflix with Kayenta. The configuration
    and its defaults: spinnaker/kayenta, docs/canary-config.md, commit a69573be (Apache-2.0).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from bench.rollouts.mann_whitney import Shift, shift_interval

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
Direction = Literal["increase", "decrease", "either"]

NOISE: Final = 1e-5
"""Standard deviation of what is added to two constant arms, in units of their value."""
TOO_MANY_WITHOUT_DATA: Final = 0.5
"""Share of metrics without data from which a run scores zero."""


class Label(Enum):
    """What a metric is classified as."""

    PASS = "Pass"
    HIGH = "High"
    LOW = "Low"
    NODATA = "Nodata"
    NODATA_FAIL_METRIC = "NodataFailMetric"
    ERROR = "Error"


_FAILED: Final = frozenset({Label.HIGH, Label.LOW, Label.NODATA_FAIL_METRIC})


def mean_ratio(control: npt.ArrayLike, experiment: npt.ArrayLike) -> float:
    """Mean of experiment over that of control; nan where either is zero.

    Examples:
        >>> mean_ratio([100, 100], [10, 10])
        0.1
    """
    means = [float(np.mean(np.asarray(arm, dtype=np.float64))) for arm in (control, experiment)]
    return float("nan") if 0.0 in means else means[1] / means[0]


def cles(control: npt.ArrayLike, experiment: npt.ArrayLike) -> float:
    """Chance that a point of experiment lies above one of control, ties counted half.

    References:
        Vargha and Delaney (2000), J. Educ. Behav. Stat. 25:101.

    Examples:
        >>> cles([1, 2, 3], [3, 4, 5])
        0.9444444444444444
    """
    below, above = (np.asarray(arm, dtype=np.float64) for arm in (control, experiment))
    ordered = np.sort(below)
    wins = np.searchsorted(ordered, above, side="left") + np.searchsorted(
        ordered, above, side="right"
    )
    return float(wins.sum()) / (2.0 * above.size * below.size)


def cohens_d(control: npt.ArrayLike, experiment: npt.ArrayLike) -> float:
    """Distance of the means in pooled standard deviations; the report's, not the judge's.

    Examples:
        >>> round(cohens_d([1, 2, 3], [2, 3, 4]), 6)
        1.0
    """
    arms = [np.asarray(arm, dtype=np.float64) for arm in (control, experiment)]
    squares = sum((arm.size - 1) * float(arm.var(ddof=1)) for arm in arms)
    pooled = np.sqrt(squares / (arms[0].size + arms[1].size - 2))
    return float(abs(arms[1].mean() - arms[0].mean()) / pooled)


_MEASURES: Final[Mapping[str, tuple[Callable[[FloatArray, FloatArray], float], float]]] = (
    MappingProxyType({"meanRatio": (mean_ratio, 1.0), "cles": (cles, 0.5)})
)
"""Effect sizes by name, each with the value at which the arms are equal."""


def iqr_outliers(
    data: npt.ArrayLike, *, factor: float = 1.5, reduced_sensitivity: bool = False
) -> BoolArray:
    """Which points lie beyond the quartiles by ``factor`` interquartile ranges, same shape.

    reduced_sensitivity: points inside the first and last percentile never do, as in the judge.

    Examples:
        >>> iqr_outliers([21, 23, 24, 25, 50, 29, 23, 21]).nonzero()[0].tolist()
        [4]
    """
    values = np.asarray(data, dtype=np.float64)
    if values.size == 0:
        return np.zeros(0, dtype=bool)
    first, lower, upper, last = np.percentile(values, [1, 25, 75, 99])
    fences = lower - factor * (upper - lower), upper + factor * (upper - lower)
    if reduced_sensitivity:
        fences = min(first, fences[0]), max(last, fences[1])
    return np.asarray((values < fences[0]) | (values > fences[1]))


def sigma_outliers(data: npt.ArrayLike, *, k: float = 3.0) -> BoolArray:
    """Which points lie more than ``k`` standard deviations from the mean, same shape.

    Examples:
        >>> sigma_outliers([1, 1, 1, 5, -1, -1, -1, -5], k=1.0).nonzero()[0].tolist()
        [3, 7]
    """
    values = np.asarray(data, dtype=np.float64)
    return np.asarray(np.abs(values - values.mean()) > k * values.std())


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a metric is judged.

    tolerance: of the Hodges-Lehmann estimate, what the interval must leave between itself and zero;
    confidence: of the two-sided interval; nan: what becomes of missing points, "replace" makes them
    zero; outlier_factor: None keeps outliers; critical: a failure beyond the critical effect fails
    the run; must_have_data: a metric without data fails; effect sizes are in units of ``measure``,
    None = the value at which the arms are equal.
    """

    tolerance: float = 0.25
    confidence: float = 0.98
    direction: Direction = "either"
    nan: Literal["remove", "replace"] = "remove"
    outlier_factor: float | None = None
    critical: bool = False
    must_have_data: bool = False
    measure: Literal["meanRatio", "cles"] = "meanRatio"
    allowed_increase: float | None = None
    allowed_decrease: float | None = None
    critical_increase: float | None = None
    critical_decrease: float | None = None


PRODUCTION: Final = Settings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """A classified metric; ``critical`` fails the run, deviation is the ratio of the means."""

    label: Label
    critical: bool = False
    deviation: float = 1.0
    reason: str = ""


def classify(
    control: npt.ArrayLike, experiment: npt.ArrayLike, settings: Settings = PRODUCTION
) -> Label:
    """The label of a metric, from its points in time; nan = no point.

    Examples:
        >>> classify([1, 1, 1, 1, 1], [1, 4, 2, 3, 1]), classify([], [1.0])
        (<Label.PASS: 'Pass'>, <Label.NODATA: 'Nodata'>)
    """
    return examine(control, experiment, settings).label


def examine(
    control: npt.ArrayLike, experiment: npt.ArrayLike, settings: Settings = PRODUCTION
) -> Classification:
    """The classification of a metric, with its deviation and whether it fails the run."""
    arms = [_cleaned(points, settings) for points in (control, experiment)]
    below, above = arms
    if min(below.size, above.size) == 0:
        return _without_data(settings)
    if np.array_equal(np.sort(below), np.sort(above)):
        return Classification(label=Label.PASS, reason="the arms' data are identical")
    if np.unique(np.concatenate(arms)).size == 1:
        return Classification(label=Label.PASS)
    if all(np.unique(arm).size == 1 for arm in arms):
        # The rank test knows no shift between two constants. Any seed does: only labels matter.
        chance = np.random.default_rng(0)
        below, above = (arm + NOISE * arm[0] * chance.standard_normal(arm.size) for arm in arms)
    try:
        shift = shift_interval(above, below, confidence=settings.confidence)
    except ValueError as error:
        return Classification(label=Label.ERROR, reason=str(error))
    measure, equal = _MEASURES[settings.measure]
    effect = measure(below, above)
    label = _compared(shift, effect, equal, settings)
    return Classification(
        label=label,
        critical=settings.critical and _is_critical(label, effect, equal, settings),
        deviation=mean_ratio(below, above),
        reason="" if label is Label.PASS else f"classified as {label.value}",
    )


def mean_inequality(control: npt.ArrayLike, experiment: npt.ArrayLike) -> Label:
    """The label of Kayenta's naive benchmark classifier: whichever mean is larger.

    Examples:
        >>> mean_inequality([1, 2], [1, 3])
        <Label.HIGH: 'High'>
    """
    means = [float(np.mean(np.asarray(arm, dtype=np.float64))) for arm in (control, experiment)]
    if means[0] == means[1]:
        return Label.PASS
    return Label.HIGH if means[1] > means[0] else Label.LOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A classified metric of a run, with the groups it belongs to; muted ones are not scored."""

    name: str
    groups: tuple[str, ...]
    found: Classification
    muted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A run's score and its groups', in 0 to 100, and whether it passes."""

    score: float
    groups: Mapping[str, float]
    passed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """Groups' weights, percent, the rest shared by groups without one; the run's thresholds."""

    weights: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    marginal: float | None = None
    passing: float | None = None


def judge(metrics: Sequence[Metric], scoring: Scoring = Scoring()) -> Verdict:
    """The verdict on a run: a critical failure or too little data score zero, else the sum.

    Examples:
        >>> high = Classification(label=Label.HIGH)
        >>> judge([Metric(name="errors", groups=("all",), found=high)]).score
        0.0
    """
    scored = [metric for metric in metrics if not metric.muted]
    members: dict[str, list[Label]] = {}
    for metric in scored:
        for group in metric.groups:
            members.setdefault(group, []).append(metric.found.label)
    groups = {name: _group_score(labels) for name, labels in members.items()}
    known = {name: score if score is not None else 0.0 for name, score in groups.items()}
    critical = [each for each in scored if each.found.critical and each.found.label != Label.PASS]
    absent = sum(metric.found.label is Label.NODATA for metric in scored)
    score, reason = 0.0, ""
    if critical:
        reason = f"{critical[0].name} failed critically"
    elif not scored or absent / len(scored) >= TOO_MANY_WITHOUT_DATA:
        reason = "too many metrics without data"
    else:
        score = _weighted(groups, scoring.weights)
    return Verdict(score=score, groups=known, passed=passes(score, scoring), reason=reason)


def passes(score: float, scoring: Scoring) -> bool:
    """Whether a run of this final score passes; it fails at the marginal score and below.

    Examples:
        >>> passes(85.0, Scoring(marginal=75.0, passing=95.0)), passes(85.0, Scoring(marginal=75.0))
        (False, True)
    """
    if scoring.marginal is not None and score <= scoring.marginal:
        return False
    return scoring.passing is None or score >= scoring.passing


def _cleaned(points: npt.ArrayLike, settings: Settings) -> FloatArray:
    values = np.asarray(points, dtype=np.float64)
    missing = np.isnan(values)
    values = np.where(missing, 0.0, values) if settings.nan == "replace" else values[~missing]
    if settings.outlier_factor is None:
        return values
    far = iqr_outliers(values, factor=settings.outlier_factor, reduced_sensitivity=True)
    return values[~far]


def _without_data(settings: Settings) -> Classification:
    if settings.nan == "replace":
        return Classification(label=Label.PASS)
    if settings.must_have_data and not settings.critical:
        return Classification(label=Label.NODATA_FAIL_METRIC, reason="missing data")
    return Classification(label=Label.NODATA, critical=settings.critical, reason="missing data")


def _compared(shift: Shift, effect: float, equal: float, settings: Settings) -> Label:
    """High or Low where the interval and the effect both say so; an unknown effect is no bar."""
    bound = settings.tolerance * abs(shift.estimate)
    rises = settings.direction != "decrease" and shift.lower > bound
    falls = settings.direction != "increase" and shift.upper < -bound
    if rises and not effect < _or(settings.allowed_increase, equal):
        return Label.HIGH
    if falls and not effect > _or(settings.allowed_decrease, equal):
        return Label.LOW
    return Label.PASS


def _is_critical(label: Label, effect: float, equal: float, settings: Settings) -> bool:
    if label is Label.HIGH:
        return not effect < _or(settings.critical_increase, equal)
    return label is Label.LOW and not effect > _or(settings.critical_decrease, equal)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _group_score(labels: Sequence[Label]) -> float | None:
    """Percentage of a group's metrics that pass; None where none has data."""
    passed = labels.count(Label.PASS)
    total = passed + sum(label in _FAILED for label in labels)
    return 100.0 * passed / total if total else None


def _weighted(groups: Mapping[str, float | None], weights: Mapping[str, float]) -> float:
    """The weighted sum of the groups' scores; a group without data counts as passed."""
    free = [name for name in groups if name not in weights]
    rest = (100.0 - sum(weights.values())) / len(free) if free else 0.0
    total = sum(
        (100.0 if score is None else score) * weights.get(name, rest) / 100.0
        for name, score in groups.items()
    )
    return round(total, 2)
