"""Every setting is read by something other than the settings themselves."""

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import BaseModel

from house import ROOT, python_files
from optimizer.policy import Policy
from optimizer.settings.fields import models_in
from optimizer.settings.model import PolicySettings, Settings

# Who reads a setting as it is written: the composition root, the commands, and the flows.
OUTSIDE = [ROOT / "optimizer" / "wiring.py", *python_files("optimizer/cli", "flows")]
BUILD = ROOT / "optimizer" / "settings" / "build.py"
# Who reads what `build` makes of it: everything below and beside the loop.
CORE = [
    path
    for path in python_files("optimizer")
    if not {"settings", "cli", "web"} & set(path.relative_to(ROOT).parts)
    and path.name != "policy.py"
]
# Read by pydantic, to tell one kind of a family from another.
BY_PYDANTIC = {"kind"}
# Handed on by build as they are, to the dataclass of the same fields.
WHOLE = {
    "goal",
    "safety",
    "budget",
    "approval",
    "blast_radius",
    "stages",
    "freezes",
    "price",
    "prior",
    "needs",
    "offers",
}
# Spelt out by the settings themselves: tests/settings/test_profiles.py.
BY_SETTINGS = {"profile"}


def attributes(paths: list[Path]) -> set[str]:
    return {
        node.attr
        for path in paths
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
    }


def answers(path: Path) -> set[str]:
    """What a class's methods read, but for its checks, which would read everything."""
    return {
        node.attr
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef) and function.name != "__post_init__"
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute)
    }


def leaves(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        inner = models_in(field.annotation)
        if not inner and name not in BY_PYDANTIC | BY_SETTINGS:
            yield f"{path}{name}", name
        for choice in inner:
            yield from leaves(choice, f"{path}{name}.")


ALL = sorted(set(leaves(Settings)))
READ_OUTSIDE = attributes(OUTSIDE)
READ_BY_BUILD = attributes([BUILD])
READ_BY_CORE = attributes(CORE) | answers(ROOT / "optimizer" / "policy.py")


def is_read(path: str, name: str) -> bool:
    if not path.startswith(("targets.", "defaults.")):
        return name in READ_OUTSIDE
    handed_on = name in READ_BY_BUILD | set(PolicySettings.model_fields) or (
        path.split(".")[-2] in WHOLE
    )
    return name in READ_OUTSIDE or (handed_on and name in READ_BY_CORE)


@pytest.mark.parametrize(("path", "name"), ALL, ids=[path for path, _ in ALL])
def test_a_setting_is_read(path: str, name: str) -> None:
    assert is_read(path, name)


def test_a_setting_that_nothing_reads_would_be_seen() -> None:
    assert not is_read("service.colour", "colour")
    assert not is_read("defaults.colour", "colour")


def test_every_limit_of_the_policy_is_read_by_the_core() -> None:
    unread = {part.name for part in fields(Policy) if part.name not in READ_BY_CORE}

    assert unread == set()
