"""Where the data sets lie that the published tables were made from, if anywhere."""

import os
from pathlib import Path

import pytest

VARIABLE = "LLMOPT_DATASETS"


def datasets(*names: str) -> Path:
    """The directory that holds the data sets; skips loudly where it is not named or incomplete."""
    place = os.environ.get(VARIABLE)
    if place is None:
        pytest.skip(
            f"NOT REGENERATED: {VARIABLE} does not name the directory of {', '.join(names)}"
        )
    absent = [name for name in names if not (Path(place) / name).is_dir()]
    if absent:
        pytest.skip(f"NOT REGENERATED: {place} lacks {', '.join(absent)}")
    return Path(place)
