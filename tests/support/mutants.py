"""Copies of the package with one text changed, and what the tests say of them.

The same module is the plugin of the pytest that runs on a copy: it makes sure that the copy was
what the tests imported.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from hypothesis import Phase, settings

from house import ROOT

TREE: Final = "MUTANT_TREE"
"""Environment variable that names the directory of the copy."""
MODULES: Final = "MUTANT_MODULES"
"""Environment variable that names the modules that must have been imported from it."""
PROFILE: Final = "mutants"
LONGEST_S: Final = 300.0
"""A mutant that never ends is caught by nobody."""


class Mutant(NamedTuple):
    """One change: ``old`` to ``new`` in ``file``, relative to the package, and who must notice."""

    name: str
    file: str
    old: str
    new: str
    caught_by: str

    @property
    def module(self) -> str:
        """The module's dotted name."""
        return ".".join(("optimizer", *Path(self.file).with_suffix("").parts))


def read(table: str) -> list[Mutant]:
    """The changes of a table: a test, then the changes that it must notice, three lines each.

    ``name: file`` is followed by ``- `` with the old text and ``+ `` with the new one.
    """
    lines = [line.strip() for line in table.strip().splitlines()]
    mutants, test, at = [], "", 0
    while at < len(lines):
        if "::" in lines[at]:
            test, at = lines[at], at + 1
        name, _, file = lines[at].partition(": ")
        old, new = lines[at + 1], lines[at + 2]
        assert (old[:2], new[:1]) == ("- ", "+"), f"{name}: {old!r} and {new!r} are no change"
        mutants.append(Mutant(name, file, old[2:], new[2:], test))
        at += 3
    return mutants


def copied(place: Path) -> Path:
    """``place`` with a copy of the package in it."""
    shutil.copytree(
        ROOT / "optimizer", place / "optimizer", ignore=shutil.ignore_patterns("__pycache__")
    )
    return place


def changed(place: Path, mutant: Mutant) -> None:
    """Change the copy; the text stands in the file exactly once, or the table is out of date."""
    path = place / "optimizer" / mutant.file
    text = path.read_text(encoding="utf-8")
    found = text.count(mutant.old)
    assert found == 1, f"{mutant.name}: {found} times in {mutant.file}: {mutant.old!r}"
    path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")


def verdict(
    place: Path, tests: list[str], *, modules: set[str]
) -> subprocess.CompletedProcess[str]:
    """What the tests say of a copy; ``modules`` are those that they must have imported from it."""
    search = [str(place), str(ROOT), str(ROOT / "tests" / "support")]
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "--tb=short"),
            *("-p", "no:cacheprovider", "-p", "mutants", "-c", str(ROOT / "pyproject.toml")),
            # The configuration's own entry would put the checkout before the copy.
            *(f"--rootdir={ROOT}", "-o", f"pythonpath={shlex.join(search)}"),
            *(str(ROOT / test) for test in tests),
        ],
        cwd=place,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(search),
            "PYTHONDONTWRITEBYTECODE": "1",
            # Half of the start-up; the tests here need no plugin but the one above.
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "HYPOTHESIS_PROFILE": PROFILE,
            TREE: str(place),
            MODULES: " ".join(sorted(modules)),
        },
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests() -> None:
    """Offer the profile in time: the same examples each time, and no search for smaller ones."""
    settings.register_profile(
        PROFILE,
        max_examples=50,
        deadline=None,
        derandomize=True,
        phases=(Phase.explicit, Phase.generate),
    )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Answer with an internal error if the tests read another package than the copy."""
    home = Path(os.environ[TREE], "optimizer").resolve()
    origins = {
        name: Path(str(module.__file__)).resolve()
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] == "optimizer"
    }
    strangers = [name for name, path in origins.items() if not path.is_relative_to(home)]
    missing = set(os.environ[MODULES].split()) - set(origins)
    if strangers or missing:
        sys.stderr.write(f"not imported: {missing}; not of the copy: {strangers}\n")
        session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
