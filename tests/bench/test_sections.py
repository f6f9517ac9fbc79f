"""A bench renews its own section of a document and touches nothing else."""

from pathlib import Path

from bench.sections import renew

REPLAY = ("<!-- replay:begin -->", "<!-- replay:end -->")
TRACES = ("<!-- traces:begin -->", "<!-- traces:end -->")


def test_a_section_is_renewed_in_place_and_the_rest_stays(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    other = f"{TRACES[0]}\nmeasured\n{TRACES[1]}"
    page.write_text(f"# Title\n\n{REPLAY[0]}\nold\n{REPLAY[1]}\n\n{other}\nend\n", encoding="utf-8")

    renew(page, "replay", "new")
    renew(page, "replay", "newer")

    expected = f"# Title\n\n{REPLAY[0]}\nnewer\n{REPLAY[1]}\n\n{other}\nend\n"
    assert page.read_text(encoding="utf-8") == expected


def test_a_document_without_the_section_gets_it_at_its_end(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("before\n", encoding="utf-8")

    renew(page, "replay", "new")

    assert page.read_text(encoding="utf-8") == f"before\n\n{REPLAY[0]}\nnew\n{REPLAY[1]}\n"
