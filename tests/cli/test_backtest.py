"""`llmopt backtest`: what people and programs read, and that the installation stays as it was."""

import hashlib
import json
from pathlib import Path

import pytest

from backtest_scene import LARGE, NOW, SMALL, configured, logged, write_log
from optimizer import settings, wiring
from optimizer.loop.equipment import Acting
from optimizer.loop.observe import pull
from optimizer.loop.reconcile import reconcile
from terminal import Terminal

HOURS = 4


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """An installation that has run already: with a ledger, a spool and a published baseline."""
    directory = tmp_path_factory.mktemp("installation")
    write_log(directory, logged({"large": LARGE, "small": SMALL}, hours=HOURS))
    config = configured(directory, {"chat": ("large", "small")})
    equipment = wiring.equip(settings.load(config, {}), clock=lambda: NOW)
    reconcile(equipment, acting=Acting(actor="test", run_id="first", now=NOW))
    for source in equipment.sources:
        pull(
            source,
            ledger=equipment.ledger,
            engine=equipment.engine,
            targets=equipment.targets,
            prices={},
            now=NOW,
        )
    wiring.close(equipment)
    return Terminal(folder=directory)


def contents(folder: Path) -> dict[str, str]:
    """Every file with the hash of its bytes."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_the_installation_stays_as_it_was_byte_for_byte(terminal: Terminal, tmp_path: Path) -> None:
    before = contents(terminal.folder)
    assert {"ledger.db", "calls.csv", "optimizer.yaml"} <= set(before)
    assert any(name.startswith("allocations") for name in before)
    assert any(name.startswith("spool") for name in before)

    page = tmp_path / "page.html"
    told = terminal.ok("backtest", "--html", str(page))

    assert contents(terminal.folder) == before
    assert "large -> small" in told
    assert "with decisions" in told
    assert "best single swap: small" in told
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    assert "<svg" in text
    assert "http://" not in text.replace("http://www.w3.org", "")


@pytest.mark.slow
def test_a_program_reads_the_same(terminal: Terminal) -> None:
    found = json.loads(terminal.ok("backtest", "--json", "--to", "2026-03-02T03"))

    assert found["end"] == "2026-03-02T03:00:00+00:00"
    assert found["total"]["spent"]["requests"] > 0
    low, value, high = (
        found["total"]["decided"]["saving"][name] for name in ("lower", "value", "upper")
    )
    assert low < value < high
    assert "curves" not in found


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "nobody"), "there is no target nobody"),
        (("--from", "2026-03-02T00:30"), "is no whole hour"),
        (("--from", "2026-03-03", "--to", "2026-03-02"), "is not before"),
        (("--html", "nowhere/page.html"), "there is no directory"),
        (("--html", "optimizer.yaml"), "does not end in .html"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(
    terminal: Terminal, arguments: tuple[str, ...], words: str
) -> None:
    result = terminal.run("backtest", *arguments)

    assert result.exit_code == 2
    assert words in result.output
    assert "Traceback" not in result.output
