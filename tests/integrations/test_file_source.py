"""Files as they really come: growing, rotated, cut, huge, unreadable, hostile."""

import gzip
import os
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from optimizer.errors import ConfigError, DataError, UnavailableError
from optimizer.integrations.files import FileSource, forget
from optimizer.observations import Kind, QuarantineReason
from optimizer.ports.sources import Batch, FileInput, Json, Reject

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MAX_LINE_BYTES = 1000

ReadIds = Callable[[Batch], list[str]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


def source_of(data: Path, *, paths: Sequence[str] = ("**/*",), **settings: Json) -> FileSource:
    bounds = {"max_line_bytes": MAX_LINE_BYTES, "spill_directory": data.parent / "spill"}
    return FileSource(
        name="calls",
        kind=Kind.CALLS,
        roots=[data],
        paths=paths,
        clock=lambda: NOW,
        **(bounds | settings),
    )


class Puller:
    """Pulls again and again, as the hours do; keeps the cursor."""

    def __init__(self, source: FileSource, ids: ReadIds) -> None:
        self.source = source
        self.cursor: Json = {}
        self._ids = ids
        self.rejects: list[Reject] = []

    def pull(self) -> list[str]:
        found: list[str] = []
        self.rejects = []
        for batch in self.source.pull(self.cursor, until=NOW):
            found += self._ids(batch)
            self.rejects += batch.rejects
            self.cursor = batch.cursor
        return found

    @property
    def reasons(self) -> list[tuple[int | None, QuarantineReason]]:
        return [(reject.line, reject.reason) for reject in self.rejects]


@pytest.fixture
def puller(data: Path, ids: ReadIds) -> Puller:
    return Puller(source_of(data), ids)


def json_lines(*names: str) -> str:
    return "".join(f'{{"request_id":"{name}"}}\n' for name in names)


def written_at(path: Path, at: datetime) -> None:
    os.utime(path, (at.timestamp(), at.timestamp()))


# --- growing, rotated and replaced files


def test_only_what_was_added_is_read(data: Path, puller: Puller) -> None:
    path = data / "a.csv"
    path.write_text("request_id,x\na,1\n")
    first = puller.pull()
    with path.open("a") as file:
        file.write("b,2\nc,3\n")

    second = puller.pull()

    assert (first, second) == (["a"], ["b", "c"])


def test_a_partial_last_line_waits_for_its_end(data: Path, puller: Puller) -> None:
    path = data / "a.csv"
    path.write_text("request_id,x\na,1\nb,2")
    written_at(path, NOW)
    first = puller.pull()
    between = puller.pull()
    path.write_text("request_id,x\na,1\nb,22\n")

    second = puller.pull()

    assert (first, between, second) == (["a"], [], ["b"])


def test_a_partial_last_line_is_taken_once_nobody_writes_any_more(
    data: Path, puller: Puller
) -> None:
    path = data / "a.csv"
    path.write_text("request_id,x\na,1\nb,2")
    written_at(path, NOW - timedelta(minutes=16))

    assert puller.pull() == ["a", "b"]
    assert puller.pull() == []


def test_a_complete_object_needs_no_newline(data: Path, puller: Puller) -> None:
    path = data / "a.jsonl"
    path.write_text(json_lines("a") + '{"request_id":"b"}')
    written_at(path, NOW)
    first = puller.pull()
    with path.open("a") as file:
        file.write("\n" + json_lines("c") + '{"request_id":"d')

    second = puller.pull()

    assert (first, second) == (["a", "b"], ["c"])


def test_the_last_line_of_a_gzipped_file_needs_no_newline(data: Path, puller: Puller) -> None:
    path = data / "a.csv.gz"
    path.write_bytes(gzip.compress(b"request_id,x\na,1\nb,2"))
    written_at(path, NOW)

    assert puller.pull() == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [json_lines("new"), json_lines("new", "newer", "newest", "newest of all")],
    ids=["shorter", "longer"],
)
def test_a_rotated_file_is_read_from_its_start(data: Path, puller: Puller, text: str) -> None:
    path = data / "a.jsonl"
    path.write_text(json_lines("old", "older"))
    first = puller.pull()
    path.unlink()
    path.write_text(text)

    second = puller.pull()

    assert first == ["old", "older"]
    assert second[0] == "new"
    assert len(second) == text.count("\n")


def test_an_edited_file_is_read_from_its_start(data: Path, puller: Puller) -> None:
    path = data / "a.csv"
    path.write_text("request_id,x\na,1\nb,2\n")
    puller.pull()
    path.write_text("request_id,x\na,1\nB,2\nc,3\n")

    assert puller.pull() == ["a", "B", "c"]


def test_a_file_that_was_only_touched_gives_nothing_and_is_not_read_twice(
    data: Path, puller: Puller
) -> None:
    path = data / "a.jsonl.gz"
    path.write_bytes(gzip.compress(json_lines("a").encode()))
    puller.pull()
    written_at(path, NOW)

    assert puller.pull() == []
    assert list(puller.source.pull(puller.cursor, until=NOW)) == []


def test_a_file_that_is_gone_leaves_the_cursor(data: Path, puller: Puller) -> None:
    (data / "a.jsonl").write_text(json_lines("a"))
    puller.pull()
    (data / "a.jsonl").unlink()
    (data / "b.jsonl").write_text(json_lines("b"))

    puller.pull()

    assert list(puller.cursor["files"]) == [str(data / "b.jsonl")]


def test_a_forgotten_file_is_read_again(data: Path, puller: Puller) -> None:
    (data / "a.jsonl").write_text(json_lines("a"))
    (data / "b.jsonl").write_text(json_lines("b"))
    puller.pull()

    puller.cursor = forget(puller.cursor, str(data / "a.jsonl"))

    assert puller.pull() == ["a"]


# --- headers and formats


def test_each_csv_is_handed_on_with_its_own_header(data: Path, ids: ReadIds) -> None:
    (data / "1.csv").write_text("request_id,x\na,1\n")
    (data / "2.csv").write_text("x,new,request_id\n2,n,b\n")

    (batch,) = source_of(data).pull({}, until=NOW)  # the copies are gone by now

    inputs = [given for given in batch.inputs if isinstance(given, FileInput)]
    assert [Path(given.origin).name for given in inputs] == ["1.csv", "2.csv"]


def test_every_piece_of_a_csv_has_the_header_and_its_first_line(data: Path) -> None:
    (data / "a.csv").write_text("request_id,x\n" + "".join(f"r{n},1\n" for n in range(40)))
    pieces: list[tuple[str, int]] = []

    for batch in source_of(data, batch_bytes=50).pull({}, until=NOW):
        for given in batch.inputs:
            assert isinstance(given, FileInput)
            text = given.path.read_text().splitlines()
            assert text[0] == "request_id,x"
            pieces.append((text[1].partition(",")[0], given.first_line))

    assert len(pieces) > 3
    # Line 1 is the header, so row n stands on line n + 2.
    assert pieces == [(f"r{line - 2}", line) for _, line in pieces]


def test_a_byte_order_mark_is_not_part_of_the_first_name(data: Path, puller: Puller) -> None:
    (data / "a.csv").write_bytes(b"\xef\xbb\xbfrequest_id,x\na,1\n")
    (data / "b.jsonl").write_bytes(b"\xef\xbb\xbf" + json_lines("b").encode())
    first = puller.pull()
    with (data / "b.jsonl").open("a") as file:
        file.write(json_lines("c"))

    assert sorted(first) == ["a", "b"]
    assert puller.pull() == ["c"]


def test_a_format_can_be_set_where_names_do_not_tell(data: Path, ids: ReadIds) -> None:
    (data / "calls.log").write_text(json_lines("a"))
    told = Puller(source_of(data, format="jsonl"), ids)
    untold = Puller(source_of(data), ids)

    assert told.pull() == ["a"]
    assert untold.pull() == []
    assert untold.reasons == [(None, QuarantineReason.UNREADABLE_FILE)]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.csv.gz"])
def test_an_empty_file_gives_nothing(data: Path, puller: Puller, name: str) -> None:
    (data / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")

    assert puller.pull() == []
    assert puller.rejects == []


def test_a_header_alone_gives_nothing_until_rows_come(data: Path, puller: Puller) -> None:
    (data / "a.csv").write_text("request_id,x\n")
    first = puller.pull()
    (data / "a.csv").write_text("request_id,x\na,1\n")

    assert (first, puller.pull()) == ([], ["a"])


# --- lines and files that cannot be read


def test_a_gzipped_file_cut_in_half_gives_what_stands_before_the_cut(
    data: Path, puller: Puller
) -> None:
    # Random names, so that half of the compressed bytes hold about half of the rows.
    names = [f"{random.Random(n).getrandbits(128):032x}" for n in range(400)]
    whole = gzip.compress(json_lines(*names).encode())
    path = data / "a.jsonl.gz"
    path.write_bytes(whole[: len(whole) // 2])

    first = puller.pull()
    reasons = puller.reasons
    again = puller.pull()
    again_reasons = puller.reasons
    path.write_bytes(whole)
    rest = puller.pull()

    assert 100 < len(first) < 300
    assert reasons == [(None, QuarantineReason.TRUNCATED_FILE)]
    assert (again, again_reasons) == ([], [])
    assert first + rest == names
    assert puller.rejects == []


def test_corrupt_compressed_data_is_refused_once(data: Path, puller: Puller) -> None:
    (data / "a.jsonl.gz").write_bytes(b"this was never compressed\n")

    assert puller.pull() == []
    assert puller.reasons == [(None, QuarantineReason.UNREADABLE_FILE)]
    assert puller.pull() == []
    assert puller.rejects == []


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
def test_a_decompression_bomb_is_cut_off(data: Path, ids: ReadIds, name: str) -> None:
    path = data / name
    path.write_bytes(gzip.compress(b"request_id\n" * 3 + bytes(64 << 20)))
    puller = Puller(source_of(data, max_unpacked_bytes=1 << 20), ids)

    if name.endswith(".csv.gz"):
        assert puller.pull() == ["request_id", "request_id"]
        assert puller.reasons == [(None, QuarantineReason.UNREADABLE_FILE)]
    else:
        for batch in puller.source.pull({}, until=NOW):
            assert [reject.reason for reject in batch.rejects] == [
                QuarantineReason.UNREADABLE_FILE
            ]
            assert "1048576 bytes when unpacked" in batch.rejects[0].detail


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@pytest.mark.parametrize("size", [2 * MAX_LINE_BYTES, 9 << 20])
def test_a_huge_line_is_refused_with_its_place_and_its_beginning(
    data: Path, puller: Puller, name: str, size: int
) -> None:
    text = (json_lines("a") + "x" * size + "\n" + json_lines("b")).encode()
    (data / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)

    found = puller.pull()

    assert found == ["a", "b"]
    (reject,) = puller.rejects
    assert (reject.line, reject.reason) == (2, QuarantineReason.LINE_TOO_LONG)
    assert f"{size}" in reject.detail or f"{size + 1}" in reject.detail
    assert reject.raw == "x" * 200


def test_reading_goes_on_behind_a_huge_line(data: Path, puller: Puller) -> None:
    path = data / "a.jsonl"
    path.write_text(json_lines("a") + "x" * (9 << 20) + "\n")
    first = puller.pull()
    with path.open("a") as file:
        file.write(json_lines("b"))

    assert (first, puller.pull()) == (["a"], ["b"])


def test_a_huge_last_line_waits_and_is_refused_when_nobody_writes_any_more(
    data: Path, puller: Puller
) -> None:
    path = data / "a.jsonl"
    path.write_text(json_lines("a") + "x" * 5000)
    written_at(path, NOW)
    waiting = (puller.pull(), puller.reasons)
    written_at(path, NOW - timedelta(hours=1))

    done = (puller.pull(), puller.reasons)

    assert waiting == (["a"], [])
    assert done == ([], [(2, QuarantineReason.LINE_TOO_LONG)])
    assert puller.pull() == []
    assert puller.rejects == []


def test_a_quote_that_is_never_closed_costs_its_own_line_alone(
    data: Path, puller: Puller
) -> None:
    rows = "".join(f"r{n},1\n" for n in range(300))
    (data / "a.csv").write_text(f'request_id,x\na,1\nb,"open\n{rows}')

    found = puller.pull()

    assert found == ["a", *(f"r{n}" for n in range(300))]
    assert puller.reasons == [(3, QuarantineReason.BAD_LINE)]


def test_lines_that_are_not_text_are_refused_one_by_one(data: Path, puller: Puller) -> None:
    good, bad = json_lines("a").encode(), b'{"request_id":"\xff"}\n'
    (data / "a.jsonl").write_bytes(good + bad + bytes(50) + b"\n" + json_lines("b").encode())

    assert puller.pull() == ["a", "b"]
    assert puller.reasons == [(2, QuarantineReason.BAD_LINE), (3, QuarantineReason.BAD_LINE)]


@pytest.mark.parametrize(
    "header", [b"\xff\xfe,request_id\n", b"x" * 2000 + b"\n", b"x" * 2000, b'"a"b","\nx\n']
)
def test_a_header_that_cannot_be_read_refuses_the_file(
    data: Path, puller: Puller, header: bytes
) -> None:
    (data / "a.csv").write_bytes(header + b"a,1\n")

    assert puller.pull() == []
    assert puller.reasons == [(None, QuarantineReason.BAD_HEADER)]


def test_a_half_written_parquet_file_is_refused_until_it_changes(
    data: Path, puller: Puller
) -> None:
    (data / "a.parquet").write_bytes(b"PAR1" + bytes(100))

    assert puller.pull() == []
    assert puller.reasons == [(None, QuarantineReason.TRUNCATED_FILE)]
    assert puller.pull() == []
    assert puller.rejects == []


def test_a_pipe_is_refused_and_not_waited_for(data: Path, puller: Puller) -> None:
    os.mkfifo(data / "a.csv")

    assert puller.pull() == []
    assert puller.reasons == [(None, QuarantineReason.UNREADABLE_FILE)]


@pytest.fixture
def without_rights() -> Iterator[Path]:
    """A directory in which this process may not read every file, also when it runs as root."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o777)
        was = os.geteuid()
        if was == 0:
            os.seteuid(65534)
        try:
            yield directory
        finally:
            os.seteuid(was)


def test_a_file_without_permission_is_refused_once_and_read_when_it_is_granted(
    without_rights: Path, ids: ReadIds
) -> None:
    data = without_rights / "data"
    data.mkdir()
    (data / "a.jsonl").write_text(json_lines("a"))
    (data / "b.jsonl").write_text(json_lines("b"))
    (data / "a.jsonl").chmod(0)
    puller = Puller(source_of(data), ids)

    first, reasons = puller.pull(), puller.reasons
    second, again = puller.pull(), puller.reasons
    (data / "a.jsonl").chmod(0o600)

    assert (first, reasons) == (["b"], [(None, QuarantineReason.UNREADABLE_FILE)])
    assert (second, again) == ([], [])
    assert puller.pull() == ["a"]


# --- confinement and the spill


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


@pytest.mark.parametrize("setting", ["max_line_bytes", "batch_bytes", "max_unpacked_bytes"])
def test_bounds_are_checked(data: Path, setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting} = 0"):
        source_of(data, **{setting: 0})


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
