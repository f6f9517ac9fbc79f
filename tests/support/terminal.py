"""A person at a terminal: types ``llmopt`` commands and reads what is printed."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from flows.cli import ENTRIES
from optimizer.cli import group


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """Types commands in a folder; ``ok`` expects exit code 0 and gives what was printed."""

    folder: Path

    def run(self, *arguments: str) -> Result:
        command = group(ENTRIES)
        config = self.folder / "optimizer.yaml"
        return CliRunner().invoke(command, ["--config", str(config), *arguments])

    def ok(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:  # noqa: ANN401 - what a program would read
        return json.loads(self.ok(*arguments, "--json"))

    def told(self) -> list[dict[str, Any]]:
        """What the notifier was given."""
        file = self.folder / "told.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
