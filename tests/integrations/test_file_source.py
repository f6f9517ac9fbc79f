"""Files as they really come: growing, rotated, replaced, with headers of their own."""

import gzip
from datetime import timedelta
from pathlib import Path

import pytest

from file_pulls import NOW, Puller, ReadIds, json_lines, source_of, written_at
from optimizer.integrations.files import forget
from optimizer.observations import QuarantineReason
from optimizer.ports.sources import FileInput


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


def test_each_csv_is_handed_on_with_its_own_header(data: Path) -> None:
    (data / "1.csv").write_text("request_id,x\na,1\n")
    (data / "2.csv").write_text("x,new,request_id\n2,n,b\n")

    headers = {
        Path(given.origin).name: given.path.read_text().splitlines()[0]
        for batch in source_of(data).pull({}, until=NOW)
        for given in batch.inputs
        if isinstance(given, FileInput)
    }

    assert headers == {"1.csv": "request_id,x", "2.csv": "x,new,request_id"}


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
