"""Choose among arms of known truth: wrong winners, units, regret, changes, against others' rules.

    python -m bench decide [--quick] [--data DIR] [--jobs N] [--write docs/performance.md]

``DIR`` holds the data sets coderouterbench and routellm; without it the real tables are left out.
Exit status 1: a stated gate is broken. The same code gives the same tables, however many processes
share the work.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.races.cells import raced
from bench.races.replays import tabled
from bench.races.report import PICTURE, gates, markdown, plot
from bench.sections import renew


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write; 1 if a gate is broken."""
    parser = argparse.ArgumentParser(prog="bench.decide", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small version, within a minute")
    parser.add_argument("--data", type=Path, help="directory of the data sets")
    parser.add_argument("--jobs", type=int, default=1, help="processes for the real tables")
    parser.add_argument("--write", type=Path, help="file whose section on choosing is renewed")
    given = parser.parse_args(arguments)
    found = raced(quick=given.quick)
    on_tables = None
    if given.data is not None:
        on_tables = tabled(given.data, quick=given.quick, jobs=given.jobs)
    text = markdown(found, on_tables)
    print(text)
    if given.write is not None:
        renew(given.write, "decide", text)
        plot(found, given.write.with_name(PICTURE))
    return 0 if all(gate.holds for gate in gates(found, on_tables)) else 1


if __name__ == "__main__":
    sys.exit(main())
