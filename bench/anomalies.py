"""Find labelled anomalies: the analyzers' rules against a windowed Gaussian, by NAB's own score.

    python -m bench anomalies --data DIR [--quick] [--write docs/performance.md]

``DIR`` holds the directory ``nab``. Exit status 1: the standard score is not above that of the
windowed Gaussian on the whole corpus; a quick run promises nothing. The same data give the same
tables.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench.nab.corpus import Labelled, Profile, read_corpus, read_profiles
from bench.nab.detectors import DETECTORS, OURS
from bench.nab.report import Report, Result, checked, markdown
from bench.nab.scoring import alarms, at_threshold, best
from bench.sections import renew

QUICK: Final = 3
"""Of a quick run, every third series."""
LIMIT: Final = 1.0
"""The strength from which the analyzers tell of an anomaly."""


def compared(
    corpus: Sequence[Labelled], profiles: dict[str, Profile], *, quick: bool = False
) -> Report:
    """Every detector on every series."""
    chosen = corpus[::QUICK] if quick else corpus
    results = {}
    for name, detect in DETECTORS.items():
        scores = {each.name: detect(each) for each in chosen}
        found = {key: best(chosen, scores, profile) for key, profile in profiles.items()}
        fixed = {
            key: at_threshold(chosen, scores, profile, LIMIT) for key, profile in profiles.items()
        }
        results[name] = Result(
            scores=found,
            fixed=fixed if name == OURS else {},
            alarms=alarms(chosen, scores, found["standard"].threshold),
        )
    windows = sum(len(each.windows) for each in chosen)
    return Report(results=results, series=len(chosen), windows=windows, quick=quick)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 if a gate is broken."""
    parser = argparse.ArgumentParser(prog="bench.anomalies", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="directory of the data sets")
    parser.add_argument("--quick", action="store_true", help="a third of the series")
    parser.add_argument("--write", type=Path, help="file whose anomalies section is renewed")
    given = parser.parse_args(arguments)
    report = compared(read_corpus(given.data), read_profiles(given.data), quick=given.quick)
    text = markdown(report)
    print(text)
    if given.write is not None:
        renew(given.write, "anomalies", text)
    return 0 if all(gate.holds for gate in checked(report)) else 1


if __name__ == "__main__":
    sys.exit(main())
