"""What the detectors reached, as gates and as a section of a document."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bench.nab.detectors import NARROW, OURS, RELEASED
from bench.nab.scoring import Alarms, Score
from bench.replay_report import Gate

MADE: Final = (
    "Made by `python -m bench anomalies --data DIR` on the Numenta Anomaly Benchmark, release 1.1 "
    "(MIT), groups realAWSCloudwatch, realAdExchange and the artificial ones"
)
RULES: Final = (
    "The rules are those of the anomaly and drift analyzers, on one series at a time, every point "
    "scored from those before it, and told again within a week only if it is stronger. Values are "
    "taken as they are, because they may be 0 or negative, where the analyzers take logarithms. "
    "Scores are the benchmark's: 0 for no alarm at all, 100 for one at the beginning of every "
    "window and none elsewhere, with one threshold for all series, the best one of each detector; "
    "the second row chooses none."
)
FOUND: Final = (
    "Windows found, and false alarms in a week of one series, at the best threshold of the "
    "standard profile:"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One detector: its best score by profile, at the analyzers' own limits, and its alarms.

    fixed: scores by profile without any choice of a threshold, empty = it has no such limit;
    alarms: by group, at the best threshold of the standard profile.
    """

    scores: Mapping[str, Score]
    fixed: Mapping[str, float]
    alarms: Mapping[str, Alarms]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The results by detector, on so many series."""

    results: Mapping[str, Result]
    series: int
    windows: int
    quick: bool


def checked(report: Report) -> tuple[Gate, ...]:
    """What must hold: a standard score above both windowed Gaussians on the same series.

    A quick run states nothing: a third of the windows is too few for one threshold over all.
    """
    if report.quick:
        return ()
    ours = report.results[OURS].scores["standard"].value
    others = {name: report.results[name].scores["standard"].value for name in (RELEASED, NARROW)}
    return tuple(
        Gate(
            text=f"standard score {ours:.1f} is above that of the {name} ({value:.1f})",
            holds=ours > value,
        )
        for name, value in others.items()
    )


def markdown(report: Report) -> str:
    """The section."""
    some = " (quick: a part of the corpus)" if report.quick else ""
    gates = checked(report)
    return "\n".join(
        [
            "## Anomalies in labelled series\n",
            f"{MADE}: {report.series} series with {report.windows} windows{some}. {RULES}\n",
            *_scores(report),
            f"\n{FOUND}\n",
            *_groups(report),
            "\nWhat must hold:\n" if gates else "\nNothing is promised on a part of the corpus.",
            *(f"- {'holds' if gate.holds else 'broken'}: {gate.text}" for gate in gates),
        ]
    )


def _scores(report: Report) -> Sequence[str]:
    profiles = list(report.results[OURS].scores)
    lines = [
        _line(["detector", *(name.replace("_", " ") for name in profiles)]),
        _line(["---"] * (len(profiles) + 1)),
    ]
    for name, result in report.results.items():
        lines.append(_line([name, *(f"{result.scores[each].value:.1f}" for each in profiles)]))
        if result.fixed:
            fixed = [f"{result.fixed[each]:.1f}" for each in profiles]
            lines.append(_line([f"{name}, limits as in production", *fixed]))
    return lines


def _groups(report: Report) -> Sequence[str]:
    lines = [
        _line(["detector", "group", "series", "windows", "found", "false alarms a week"]),
        _line(["---"] * 6),
    ]
    for name, result in report.results.items():
        for group, each in result.alarms.items():
            counts = [str(each.series), str(each.windows), str(each.found)]
            lines.append(_line([name, group, *counts, f"{each.false_per_week:.2f}"]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
