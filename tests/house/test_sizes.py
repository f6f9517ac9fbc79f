from pathlib import Path

import pytest

from house import ROOT, python_files

LIMIT = 400


@pytest.mark.parametrize(
    "path", python_files("."), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_a_file_is_one_idea_and_has_at_most_400_lines(path: Path) -> None:
    length = len(path.read_text(encoding="utf-8").splitlines())

    assert length <= LIMIT
