"""What the documents say is true: examples load, commands and modules exist, records are whole."""

import importlib
import re
from pathlib import Path

import click
import pytest

from documents import DOCUMENTS, Mention, blocks, mentions
from flows.cli import ENTRIES
from house import ROOT
from optimizer import settings
from optimizer.cli import group

README = ROOT / "README.md"
MENTIONS = mentions()

# The glossary: one word each, and the type that carries it.
GLOSSARY = {
    "target": "optimizer.targets:Target",
    "arm": "optimizer.targets:Arm",
    "observation": "optimizer.observations:Kind",
    "metric": "optimizer.metrics:Metric",
    "direction": "optimizer.metrics:Direction",
    "goal": "optimizer.policy:Goal",
    "guardrail": "optimizer.policy:Guardrail",
    "policy": "optimizer.policy:Policy",
    "stage": "optimizer.policy:Stage",
    "estimate": "optimizer.evidence:Estimate",
    "insight": "optimizer.evidence:Insight",
    "proposal": "optimizer.evidence:Proposal",
    "verdict": "optimizer.evidence:Verdict",
    "decision": "optimizer.decision:Decision",
    "allocation": "optimizer.allocation:Allocation",
    "plan": "optimizer.cycle.arbitrate:Plan",
    "snapshot": "optimizer.ports:Snapshot",
    "source": "optimizer.ports:Source",
    "ledger": "optimizer.ports:Ledger",
    "gateway": "optimizer.ports:Gateway",
}


def problem(mention: Mention) -> str:
    """What is wrong with the command line; empty when nothing is."""
    command: click.Command = group(ENTRIES)
    words = list(mention.words)
    context = click.Context(command)
    while isinstance(command, click.Group) and words:
        name = words.pop(0)
        found = command.get_command(context, name)
        if found is None:
            return f"there is no {name}"
        command = found
    if isinstance(command, click.Group):
        return "a command is missing behind the group"
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    strange = [word for word in words if word.startswith("-") and word not in known | {"--help"}]
    return f"it takes no {strange[0]}" if strange else ""


@pytest.mark.parametrize("mention", MENTIONS, ids=lambda each: f"{each.place}: {each.line}")
def test_every_command_that_is_named_exists(mention: Mention) -> None:
    assert problem(mention) == ""


@pytest.mark.parametrize("line", ["llmopt fly", "llmopt decisions", "llmopt run --fast"])
def test_a_command_that_does_not_exist_is_noticed(line: str) -> None:
    assert problem(Mention(place="here", line=line)) != ""


def test_the_documents_name_commands_at_all() -> None:
    assert {mention.place for mention in MENTIONS} >= {"README.md", "deployments/runbook.md"}


def test_the_configuration_in_the_readme_can_be_used(tmp_path: Path) -> None:
    (text,) = blocks(README, "yaml")
    path = tmp_path / "optimizer.yaml"
    path.write_text(text, encoding="utf-8")

    loaded = settings.load(path, {})

    assert [target.name for target in loaded.settings.targets] == ["support-bot/answer"]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_every_example_configuration_can_be_used(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_bytes(path.read_bytes())

    assert settings.load(copy, {}).settings.targets


def test_every_room_that_the_readme_names_exists() -> None:
    (row,) = [
        line
        for line in README.read_text(encoding="utf-8").splitlines()
        if "| `optimizer/` |" in line
    ]
    names = [name for code in re.findall(r"`([a-z ]+)`", row) for name in code.split()]

    absent = [
        name
        for name in names
        if not (ROOT / "optimizer" / name).is_dir()
        and not (ROOT / "optimizer" / f"{name}.py").is_file()
    ]

    assert len(names) > 10
    assert absent == []


@pytest.mark.parametrize("word", GLOSSARY)
def test_every_word_of_the_glossary_has_its_type(word: str) -> None:
    module, _, name = GLOSSARY[word].partition(":")

    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_of_ours_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", path.read_text(encoding="utf-8"))

    assert [link for link in links if not (path.parent / link).exists()] == []


def test_decision_records_are_numbered_without_gaps() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))

    numbers = [int(path.name.partition("-")[0]) for path in records]

    assert numbers == list(range(1, len(records) + 1))
    for number, path in zip(numbers, records, strict=True):
        text = path.read_text(encoding="utf-8")
        assert text.startswith(f"# {number}. "), path.name
        parts = ["Status: ", "## Context", "## Decision", "## Consequences"]
        assert [part for part in parts if part not in text] == [], path.name
