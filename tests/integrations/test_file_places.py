"""A source reads below its roots alone, and leaves nothing in its spill."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from file_pulls import NOW, Puller, ReadIds, json_lines, source_of
from optimizer.errors import ConfigError, DataError, UnavailableError
from optimizer.integrations.files import FileSource
from optimizer.observations import Kind
from optimizer.ports.sources import Json


@pytest.mark.parametrize("pattern", ["../*.csv", "/etc/*", "a/../../b"])
def test_a_pattern_that_leads_out_is_refused_before_anything_is_read(
    data: Path, pattern: str
) -> None:
    with pytest.raises(ConfigError):
        source_of(data, paths=[pattern])


def test_a_symbolic_link_that_leads_out_is_refused(data: Path, puller: Puller) -> None:
    secret = data.parent / "secret.csv"
    secret.write_text("request_id\na\n")
    (data / "a.csv").symlink_to(secret)

    with pytest.raises(ConfigError, match=r"a\.csv leads out"):
        puller.pull()


def test_an_absolute_pattern_below_a_root_is_found(data: Path, ids: ReadIds) -> None:
    (data / "a.jsonl").write_text(json_lines("a"))

    assert Puller(source_of(data, paths=[f"{data}/*.jsonl"]), ids).pull() == ["a"]


def test_no_match_gives_nothing_and_a_missing_root_is_told(data: Path, puller: Puller) -> None:
    nothing = puller.pull()
    data.rmdir()

    assert nothing == []
    with pytest.raises(UnavailableError, match="is not there"):
        puller.pull()


def test_another_sources_cursor_is_refused(data: Path, puller: Puller) -> None:
    (data / "a.jsonl").write_text(json_lines("a"))
    puller.cursor = {"files": {str(data / "a.jsonl"): {"page": 7}}}

    with pytest.raises(DataError):
        puller.pull()


@pytest.mark.parametrize(
    "changes", [{"roots": []}, {"paths": []}, {"format": "xml"}], ids=["roots", "paths", "format"]
)
def test_settings_are_checked_at_once(data: Path, changes: dict[str, Json]) -> None:
    settings: dict[str, Json] = {"roots": [data], "paths": ["*"], "format": "auto"} | changes

    with pytest.raises(ConfigError):
        FileSource(
            name="calls",
            kind=Kind.CALLS,
            spill_directory=data.parent / "spill",
            clock=lambda: NOW,
            **settings,
        )


@pytest.mark.parametrize("setting", ["max_line_bytes", "batch_bytes", "max_unpacked_bytes"])
def test_bounds_are_checked(data: Path, setting: str) -> None:
    bound: dict[str, Json] = {setting: 0}

    with pytest.raises(ConfigError, match=f"{setting} = 0"):
        source_of(data, **bound)


def test_the_spill_is_empty_after_a_pull_also_a_broken_off_one(data: Path) -> None:
    (data / "a.jsonl").write_text(json_lines(*(f"r{n}" for n in range(100))))
    pull = source_of(data, batch_bytes=100).pull({}, until=NOW)
    assert isinstance(pull, Iterator)

    next(iter(pull))
    during = list((data.parent / "spill").glob("*/piece-*"))
    next(iter(pull))
    later = list((data.parent / "spill").glob("*/piece-*"))
    del pull

    assert len(during) == len(later) == 1
    assert during != later
    assert list((data.parent / "spill").iterdir()) == []


def test_what_a_killed_process_left_in_the_spill_is_removed(data: Path, puller: Puller) -> None:
    left = data.parent / "spill" / "pull-dead"
    left.mkdir(parents=True)
    (left / "lock").touch()
    (left / "piece-000001.csv").write_text("rows")

    puller.pull()

    assert not left.exists()
