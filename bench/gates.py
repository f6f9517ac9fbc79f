"""Print every stated gate with its figure: error, power, coverage, winners, speed, vectors.

    python -m bench gates [--quick] [--data DIR]

Runs the benches that state gates, one after the other, and then the published vectors. Without
``--data`` the parts that need the data sets are named as not run. Exit status 1: a gate is broken.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

SAID: Final = ("holds:", "broken:", "- holds:", "- broken:")
VECTORS: Final = ("-m", "pytest", "-q", "--no-header", "tests/vectors")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and print their gates; 1 if one is broken."""
    parser = argparse.ArgumentParser(prog="bench.gates", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the small version of every part")
    parser.add_argument("--data", type=Path, help="directory of the data sets")
    given = parser.parse_args(arguments)
    small = ("--quick",) if given.quick else ()
    parts = [
        ("canary: error, power, promotion, coverage", ("-m", "bench", "canary", *small)),
        ("declaring: first declared winners", ("-m", "bench", "declaring", *small)),
        ("judging: time of many rollouts", ("-m", "bench", "judging", "--windows", "1")),
    ]
    needing = [
        ("traces: real traffic", ("-m", "bench", "traces", "--data", str(given.data), *small)),
        ("anomalies: labelled series", ("-m", "bench", "anomalies", "--data", str(given.data))),
        ("vectors: published reference numbers", VECTORS),
    ]
    broken = [title for title, command in parts if not _holds(title, command, given.data)]
    if given.data is None:
        for title, _ in needing:
            print(f"\n{title}\nNOT RUN: no --data", flush=True)
    else:
        broken += [title for title, command in needing if not _holds(title, command, given.data)]
    print(f"\nbroken: {', '.join(broken)}" if broken else "\nno gate is broken")
    return 1 if broken else 0


def _holds(title: str, command: Sequence[str], data: Path | None) -> bool:
    """Run one part, show its gates and its last line, and say whether it ended well."""
    print(f"\n{title}", flush=True)
    environment = dict(os.environ)
    if data is not None:
        environment["LLMOPT_DATASETS"] = str(data)
    ran = subprocess.run(  # noqa: S603 - our own modules
        (sys.executable, *command), check=False, capture_output=True, text=True, env=environment
    )
    print("\n".join(_gates(ran.stdout.splitlines())), flush=True)
    if ran.returncode != 0:
        print(ran.stderr[-2_000:], flush=True)
    return ran.returncode == 0


def _gates(lines: Iterable[str]) -> list[str]:
    kept = [line for line in lines if line.strip()]
    return [line for line in kept if line.startswith(SAID)] or kept[-1:]


if __name__ == "__main__":
    sys.exit(main())
