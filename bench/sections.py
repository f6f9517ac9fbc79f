"""Sections of a document that a bench renews: what stands between its markers, and nothing else."""

from pathlib import Path


def renew(path: Path, name: str, text: str) -> None:
    """Put the text between the markers of that name; a file without them gets them at its end."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    held = path.read_text(encoding="utf-8") if path.exists() else "# Performance\n"
    if begin not in held:
        held = f"{held.rstrip()}\n\n{begin}\n{end}\n"
    before, after = held.split(begin, 1)[0], held.split(end, 1)[1]
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
