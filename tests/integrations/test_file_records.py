"""Records are found where the csv module finds them, however the bytes are cut into blocks."""

import csv
import io
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.integrations.files.boundaries import csv_boundaries, line_boundaries
from optimizer.integrations.files.position import Position
from optimizer.integrations.files.records import Records

FIELDS = st.text(alphabet='ab",;\n\r é', max_size=8)


def records_of(separator: bytes, max_line_bytes: int = 10_000) -> Records:
    return Records(
        "a.csv",
        partial(csv_boundaries, delimiter=separator),
        start=Position(),
        tail=b"",
        max_line_bytes=max_line_bytes,
    )


@given(
    rows=st.lists(st.lists(FIELDS, min_size=2, max_size=3), max_size=8),
    separator=st.sampled_from(",;\t|"),
    block_bytes=st.integers(min_value=1, max_value=40),
)
@settings(max_examples=50)
def test_records_end_where_the_csv_module_ended_them(
    rows: list[list[str]], separator: str, block_bytes: int
) -> None:
    written: list[bytes] = []
    for row in rows:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=separator, lineterminator="\r\n").writerow(row)
        written.append(text.getvalue().encode())
    data = b"".join(written)
    records = records_of(separator.encode())

    found: list[bytes] = []
    ends: list[int] = []
    for start in range(0, len(data), block_bytes):
        found += records.feed(data[start : start + block_bytes])
        ends.append(records.offset)

    # An offset that a cursor could keep never lies within a record.
    assert b"".join(found) == data
    whole = {sum(map(len, written[:n])) for n in range(len(written) + 1)}
    assert set(ends) <= whole
    assert records.line == data.count(b"\n")
    assert records.take_rejects() == ()


@given(
    data=st.binary(max_size=200).map(lambda data: data.replace(b"x", b"\n").replace(b"y", b'"')),
    cuts=st.tuples(st.integers(1, 30), st.integers(1, 200)),
)
@settings(max_examples=50)
def test_any_bytes_are_given_or_refused_and_counted(data: bytes, cuts: tuple[int, int]) -> None:
    max_line_bytes, block_bytes = cuts
    records = records_of(b",", max_line_bytes)

    given_bytes = 0
    for start in range(0, len(data), block_bytes):
        given_bytes += sum(map(len, records.feed(data[start : start + block_bytes])))
    given_bytes += sum(map(len, records.finish()))

    assert records.offset == len(data)
    assert not records.waiting
    assert records.take_rejects() or given_bytes - len(data) in {0, 1}


@given(data=st.binary(max_size=80).map(lambda data: data.replace(b"x", b"\n")))
def test_every_newline_ends_a_line(data: bytes) -> None:
    ends = line_boundaries(data).ends.tolist()

    assert ends == [n + 1 for n in range(len(data)) if data[n : n + 1] == b"\n"]


def test_a_quote_inside_a_bare_field_opens_nothing() -> None:
    data = b'1,5" pipe\n2,plain\n3,"two\nlines"\n'

    assert csv_boundaries(data, b",").ends.tolist() == [10, 18, 32]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's VmHWM")
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzipped"])
def test_a_line_of_300_mib_is_never_held_in_memory(tmp_path: Path, packed: bool) -> None:  # noqa: FBT001
    path = tmp_path / "data" / ("a.jsonl.gz" if packed else "a.jsonl")
    path.parent.mkdir()
    script = """
        import gzip, sys
        from datetime import UTC, datetime
        from pathlib import Path

        from optimizer.integrations.files import FileSource
        from optimizer.observations import Kind

        def peak_kib():
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

        path = Path(sys.argv[1])
        now = datetime(2026, 3, 1, tzinfo=UTC)
        with (gzip.open(path, "wb", 1) if path.suffix == ".gz" else path.open("wb")) as file:
            file.write(b'{"request_id":"a"}\\n')
            for _ in range(300):
                file.write(b"x" * (1 << 20))
            file.write(b'\\n{"request_id":"b"}\\n')
        source = FileSource(
            name="s", kind=Kind.CALLS, roots=[path.parent], paths=["*"],
            spill_directory=path.parent.parent / "spill", clock=lambda: now,
        )
        before = peak_kib()
        for batch in source.pull({}, until=now):
            print(batch.rejects[0].reason.value, batch.inputs[0].path.read_bytes().count(b"\\n"))
        print(peak_kib() - before)
    """

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )

    rejected, grown_kib = done.stdout.splitlines()
    assert rejected == "line_too_long 2"
    assert int(grown_kib) < 100 * 1024
