"""Print every stated gate with its figure: error, power, coverage, speed, savings, vectors.

    python -m bench gates [--quick] [--data DIR]

Runs the benches that state gates, one after the other, and then the published vectors. Without
``--data`` the parts that need the data sets are named as not run. A quick run takes the small
version of every part that has one. Exit status 1: a gate is broken.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

SAID: Final = ("holds:", "broken:", "- holds:", "- broken:", "- FAILS:")
VECTORS: Final = ("-m", "pytest", "-q", "--no-header", "tests/vectors")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts and print their gates; 1 if one is broken."""
    parser = argparse.ArgumentParser(prog="bench.gates", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the small version of each part")
    parser.add_argument("--data", type=Path, help="directory of the data sets")
    given = parser.parse_args(arguments)
    small = ("--quick",) if given.quick else ()
    tables = () if given.data is None else ("--data", str(given.data))
    parts = [
        ("canary: error, power, promotion, coverage", ("-m", "bench", "canary", *small)),
        ("decide: choosing among arms", ("-m", "bench", "decide", *tables, *small)),
        ("judging: time of many rollouts", ("-m", "bench", "judging", "--windows", "1")),
        ("deciding: time of many targets", ("-m", "bench", "deciding")),
        ("deciding: time of many targets", ("-m", "bench", "deciding", "--repeats", "1")),
    ]
    data, measured = str(given.data), str((given.data or Path()) / "coderouterbench")
    needing = [
        ("traces: real traffic", ("-m", "bench", "traces", "--data", data, *small)),
        ("anomalies: labelled series", ("-m", "bench", "anomalies", "--data", data, *small)),
        ("vectors: published reference numbers", VECTORS),
        ("replay: measured outcomes", ("-m", "bench", "replay", "--data", measured, *small)),
    ]
    broken = [title for title, command in parts if not part_holds(title, command, given.data)]
    if given.data is None:
        for title, _ in needing:
            print(f"\n{title}\nNOT RUN: no --data", flush=True)
    else:
        broken += [
            title for title, command in needing if not part_holds(title, command, given.data)
        ]
    print(f"\nbroken: {', '.join(broken)}" if broken else "\nno gate is broken")
    return 1 if broken else 0


def part_holds(title: str, command: Sequence[str], data: Path | None) -> bool:
    """Run one part, show its gates, or its last line if it states none; whether it ended well."""
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
