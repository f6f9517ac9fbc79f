"""Lines and files that cannot be read are refused with their reason, and stop nothing else."""

import gzip
import os
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from file_pulls import MAX_LINE_BYTES, NOW, Puller, ReadIds, json_lines, source_of, written_at
from optimizer.errors import ConfigError, UnavailableError
from optimizer.observations import QuarantineReason


def test_a_gzipped_file_cut_in_half_gives_what_stands_before_the_cut(
    data: Path, puller: Puller
) -> None:
    # Random names, so that half of the compressed bytes hold about half of the rows.
    names = [sha256(f"{n}".encode()).hexdigest() for n in range(400)]
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
            assert [reject.reason for reject in batch.rejects] == [QuarantineReason.UNREADABLE_FILE]
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


def test_a_quote_that_is_never_closed_costs_its_own_line_alone(data: Path, puller: Puller) -> None:
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
    "header", [b"\xff\xfe,request_id\n", b"x" * 2000 + b"\n", b"x" * 2000, b'"a"b"\n']
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


def test_a_gzipped_file_that_became_shorter_is_read_from_its_start(
    data: Path, puller: Puller
) -> None:
    path = data / "a.csv.gz"
    path.write_bytes(gzip.compress(b"request_id,x\na,1\nb,2\n"))
    first = puller.pull()
    path.write_bytes(gzip.compress(b"request_id,x\nc,3\n"))

    assert (first, puller.pull()) == (["a", "b"], ["c"])


def test_a_gzipped_parquet_file_is_refused(data: Path, puller: Puller) -> None:
    (data / "a.parquet.gz").write_bytes(gzip.compress(b"PAR1" + bytes(100) + b"PAR1"))

    assert puller.pull() == []
    assert puller.reasons == [(None, QuarantineReason.UNREADABLE_FILE)]


def test_an_open_quote_in_the_last_lines_is_refused_when_nobody_writes_any_more(
    data: Path, puller: Puller
) -> None:
    path = data / "a.csv"
    path.write_text('request_id,x\na,1\nb,"open\nc,3\nd,4')
    written_at(path, NOW)
    waiting = puller.pull()
    written_at(path, NOW - timedelta(hours=1))

    assert (waiting, puller.pull()) == (["a"], ["c", "d"])
    assert puller.reasons == [(3, QuarantineReason.BAD_LINE)]


def test_quotes_that_do_not_pair_cost_their_own_line_alone(data: Path, puller: Puller) -> None:
    (data / "a.csv").write_text('request_id,x\na,1\nb,"x"y"\nc,3\n')

    assert puller.pull() == ["a", "c"]
    assert puller.reasons == [(3, QuarantineReason.BAD_LINE)]


def test_a_link_to_nowhere_below_the_root_gives_nothing(data: Path, puller: Puller) -> None:
    (data / "current.csv").symlink_to(data / "not there yet.csv")

    assert puller.pull() == []
    assert puller.rejects == []


def test_a_link_to_itself_is_told(data: Path, puller: Puller) -> None:
    (data / "a.csv").symlink_to(data / "a.csv")

    with pytest.raises(ConfigError, match="leads nowhere"):
        puller.pull()


def test_a_spill_that_cannot_be_written_is_told(data: Path, ids: ReadIds) -> None:
    (data / "a.jsonl").write_text(json_lines("a"))

    with pytest.raises(UnavailableError, match="cannot write to"):
        Puller(source_of(data, spill_directory=data / "a.jsonl"), ids).pull()


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
