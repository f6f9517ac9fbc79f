"""The clock and the environment are read at named edges only, whatever a noqa says."""

import ast
from pathlib import Path

import pytest

from house import ROOT, python_files

READERS = {
    "clock": {
        "datetime.now",
        "datetime.utcnow",
        "datetime.today",
        "date.today",
        "time.time",
        "time.time_ns",
        "pd.Timestamp.now",
        "Timestamp.now",
    },
    "environment": {"os.environ", "os.environb", "os.getenv", "os.putenv"},
}
# Each edge, a module or a whole package, and why it is one.
EDGES = {
    "clock": {
        "optimizer/cli": "a person's command happens now",
        "optimizer/web": "a person's click happens now",
        "optimizer/client": "an allocation is stale by the application's clock",
        "optimizer/wiring": "hands the clock to the adapters that need one",
        "flows": "a run without a schedule starts now",
    },
    "environment": {
        "optimizer/settings": "the only reader of the environment",
        "flows": "Prefect is configured by its environment",
    },
}


def reads(tree: ast.AST, names: set[str]) -> list[str]:
    """Where the tree uses one of the names, or imports it from its module."""
    found = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and any(("." + ast.unparse(node)).endswith("." + name) for name in names)
    ]
    imported = [
        f"line {node.lineno}: from {node.module} import {alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if f"{node.module}.{alias.name}" in names
    ]
    return found + imported


def is_edge(path: Path, kind: str) -> bool:
    name = path.relative_to(ROOT).as_posix()
    return any(name == f"{edge}.py" or name.startswith(f"{edge}/") for edge in EDGES[kind])


@pytest.mark.parametrize("kind", sorted(READERS))
def test_only_named_edges_read(kind: str) -> None:
    offences = {
        path.relative_to(ROOT).as_posix(): lines
        for path in python_files("optimizer", "tasks", "flows")
        if not is_edge(path, kind)
        and (lines := reads(ast.parse(path.read_text(encoding="utf-8")), READERS[kind]))
    }

    assert offences == {}


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("import datetime as dt\ndt.datetime.now(dt.UTC)", "clock"),
        ("from datetime import datetime\ndatetime.now()", "clock"),
        ("from time import time", "clock"),
        ("import os\nos.environ['HOME']", "environment"),
        ("from os import environ", "environment"),
    ],
)
def test_every_way_to_read_is_seen(source: str, kind: str) -> None:
    assert reads(ast.parse(source), READERS[kind])
