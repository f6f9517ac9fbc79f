"""A process that takes ticks when it is told to, so that two can be told at once.

``python racing.py DIRECTORY URL NAME``; each line of input is ``DECISION NOW ROUND``, each line of
output what became of it.
"""

import os
import subprocess
import sys
from datetime import datetime
from pathlib import Path

from optimizer.errors import ConflictError
from optimizer.evidence import DecisionId
from optimizer.loop.reconcile import reconcile
from optimizer.loop.steps import tick
from rollout_scene import acting, equipment

SUPPORT = Path(__file__).parent


class Racer:
    """One of the processes, seen from the test."""

    def __init__(self, directory: Path, url: str, name: str) -> None:
        path = os.pathsep.join([str(SUPPORT.parents[1]), str(SUPPORT)])
        self.process = subprocess.Popen(
            [sys.executable, __file__, str(directory), url, name],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def heard(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()


def race(directory: Path, url: str, name: str) -> None:
    """Reconcile and tick at every line, until the input ends."""
    given = equipment(directory, url=url)
    _say("ready")
    for line in sys.stdin:
        decision, now, number = line.split()
        moment = datetime.fromisoformat(now)
        who = acting(moment, f"{name}-{number}")
        reconcile(given, acting=who)
        try:
            found = tick(given, DecisionId(decision), acting=who, as_of=moment)
        except ConflictError as error:
            _say(f"conflict: {error}")
        else:
            _say("moved" if found.is_due else "held")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    race(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
