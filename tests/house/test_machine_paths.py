"""Nothing in the project names a place of the machine it was written on."""

import re
from pathlib import Path

import pytest

from house import ROOMS, ROOT

PLACES = re.compile(r"(?<![\w./}*-])/(?:tmp|root|work|Users)/\w")
PLACES_BELOW = ("docs", ".ci")
SUFFIXES = {
    "", ".py", ".md", ".yaml", ".yml", ".toml", ".lock", ".sql", ".csv", ".json", ".html", ".j2",
    ".mako", ".cfg", ".svg", ".typed",
}  # fmt: skip


def files() -> list[Path]:
    """Every text file of the project outside its tests."""
    rooms = [ROOT / room for room in (*ROOMS, *PLACES_BELOW) if room != "tests"]
    inside = [path for room in rooms for path in room.rglob("*")]
    return sorted(
        path
        for path in (*ROOT.iterdir(), *inside)
        if path.is_file() and path.suffix in SUFFIXES and "__pycache__" not in path.parts
    )


def test_no_file_names_a_path_of_a_machine() -> None:
    named = {
        path.relative_to(ROOT).as_posix(): found
        for path in files()
        if (found := PLACES.findall(path.read_text(encoding="utf-8", errors="replace")))
    }

    assert len(files()) > 100
    assert named == {}


@pytest.mark.parametrize("place", ["tmp", "root", "work"])
def test_such_a_path_is_noticed(place: str) -> None:
    assert PLACES.search(f"see /{place}/main/file")
    assert PLACES.search(f'path = "/{place}/x"')
    assert not PLACES.search(f"https://example.org/{place}/x")
