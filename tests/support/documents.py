"""The project's documents, and the commands they name."""

import re
from dataclasses import dataclass
from pathlib import Path

from house import ROOT, python_files

DOCUMENTS = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("deployments/*.md"),
        *ROOT.glob("examples/*.y*ml"),
    )
    if path.is_file()
)
_CODE = re.compile(r"`(llmopt [^`\n]+)`")
_CONSOLE = re.compile(r"^\s*\$ (llmopt [^#\n]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """A command line as a document or a message gives it."""

    place: str
    line: str

    @property
    def words(self) -> list[str]:
        """The words behind ``llmopt``."""
        return self.line.split()[1:]


def mentions() -> list[Mention]:
    """Every command line in documents, and in what the program says itself."""
    found = []
    for path in (*DOCUMENTS, *python_files("optimizer", "tasks", "flows")):
        text = path.read_text(encoding="utf-8")
        for pattern in (_CODE, _CONSOLE):
            place = path.relative_to(ROOT).as_posix()
            found += [Mention(place=place, line=line.strip()) for line in pattern.findall(text)]
    return found


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of one language in a Markdown file."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return fence.findall(path.read_text(encoding="utf-8"))
