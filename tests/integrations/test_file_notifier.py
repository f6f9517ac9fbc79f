"""Every message is one line, whoever writes at the same time."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from optimizer.errors import UnavailableError
from optimizer.integrations.file_notifier import FileNotifier


def test_a_message_is_one_line_of_json_whatever_it_holds(tmp_path: Path, noon: datetime) -> None:
    path = tmp_path / "told" / "messages.jsonl"
    notifier = FileNotifier(path=path, clock=lambda: noon)

    notifier.notify(title="Held\n", body="½ \ud800 \u2028", severity="warning", decision_id=None)
    notifier.notify(title="Again", body="", severity="info", decision_id="d-1")

    first, second = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert first["at"] == "2026-03-01T12:00:00+00:00"
    assert (first["title"], first["decision_id"]) == ("Held\n", None)
    assert (second["title"], second["severity"], second["decision_id"]) == ("Again", "info", "d-1")


def test_lines_of_several_writers_do_not_mix(tmp_path: Path, noon: datetime) -> None:
    path = tmp_path / "messages.jsonl"

    def tell(number: int) -> None:
        notifier = FileNotifier(path=path, clock=lambda: noon)
        notifier.notify(title=str(number), body="x" * 20_000, severity="info", decision_id=None)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tell, range(40)))

    titles = [json.loads(line)["title"] for line in path.read_bytes().splitlines()]
    assert sorted(map(int, titles)) == list(range(40))


def test_a_file_that_cannot_be_written_is_unavailable(tmp_path: Path, noon: datetime) -> None:
    notifier = FileNotifier(path=tmp_path, clock=lambda: noon)

    with pytest.raises(UnavailableError):
        notifier.notify(title="Held", body="", severity="info", decision_id=None)
