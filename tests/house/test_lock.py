"""requirements.lock pins what pyproject.toml asks for, and says nothing of where it came from."""

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from house import ROOT

LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PINNED = re.compile(r"^(?P<name>[\w.-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;]+)", re.MULTILINE)


def requirements() -> list[Requirement]:
    """What the project needs to run, to be built and to be developed."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    lists = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        pyproject["build-system"]["requires"],
    ]
    return [Requirement(line) for lines in lists for line in lines]


def pins() -> dict[str, set[str]]:
    """Each locked name's versions; there are several where Python versions differ."""
    found: dict[str, set[str]] = {}
    for match in PINNED.finditer(LOCK):
        found.setdefault(canonicalize_name(match["name"]), set()).add(match["version"])
    return found


def test_every_requirement_is_locked_within_its_bounds() -> None:
    locked = pins()

    outside = [
        str(requirement)
        for requirement in requirements()
        if not (versions := locked.get(canonicalize_name(requirement.name), set()))
        or not all(requirement.specifier.contains(version) for version in versions)
    ]

    assert outside == [], "run `make lock`"


def test_every_locked_package_has_hashes() -> None:
    entries = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)

    unhashed = [entry for entry in entries if PINNED.match(entry) and "--hash=sha256:" not in entry]

    assert unhashed == []
    assert len(pins()) > len(requirements())


def test_the_lock_names_no_registry_and_no_machine() -> None:
    options = [line for line in LOCK.splitlines() if line.startswith("-")]
    places = re.findall(r"\w+://\S*|(?<=\s)/\S+", LOCK)

    assert options == []
    assert places == []
