"""The project's own tree, as the house tests see it."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("optimizer", "tasks", "flows", "tests", "bench", "deployments", "examples")


def python_files(*places: str) -> list[Path]:
    """The project's Python files below each place, sorted; "." is every room."""
    rooms = [room for place in places for room in (ROOMS if place == "." else (place,))]
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))
