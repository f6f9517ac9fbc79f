"""A publisher for the client's tests: documents as a gateway writes them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from optimizer.client import Allocations, file_name, seal


def _draft(*, share: float = 0.05, generation: int = 7, **changes: object) -> dict[str, object]:
    slices: list[dict[str, object]] = [
        {"slice": "canary", "arm": "mini", "low": 0.0, "high": share},
        {"slice": "baseline", "arm": "large", "low": share, "high": 1 - share},
        {"slice": "control", "arm": "large", "low": 1 - share, "high": 1.0},
    ]
    arms = {
        name: {
            "model": f"{name}-1",
            "provider": None,
            "temperature": 0.7,
            "top_p": 0.9,
            "max_tokens": 1024,
            "prompt_version": "3",
            "params": {"generation": generation},
        }
        for name in ("large", "mini")
    }
    return {
        "format": "llm-auto-optimizer/allocation/1",
        "target": "support-bot/answer",
        "generation": generation,
        "salt": "d-3f2a",
        "published_at": "2026-11-24T05:00:00Z",
        "expires_at": "2026-11-24T11:00:00Z",
        "baseline": "large",
        "slices": [part for part in slices if part["low"] != part["high"]],
        "arms": arms,
        "decision": "d-3f2a",
        **changes,
    }


@pytest.fixture(scope="session")
def draft() -> Callable[..., dict[str, object]]:
    """Maker of documents without checksum: a canary of some share, its control as large."""
    return _draft


@pytest.fixture(scope="session")
def sealed() -> Callable[..., bytes]:
    """Maker of published bytes; takes what `draft` takes."""

    def make(*, share: float = 0.05, generation: int = 7, **changes: object) -> bytes:
        return seal(_draft(share=share, generation=generation, **changes))

    return make


@pytest.fixture
def publish(tmp_path: Path) -> Callable[[bytes], Path]:
    """Puts bytes where the target's file belongs, by atomic replacement."""
    directory = tmp_path / "published"
    directory.mkdir()
    place = directory / file_name("support-bot/answer")

    def put(content: bytes) -> Path:
        fresh = place.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(place)
        return place

    return put


@pytest.fixture
def publish_long_ago(publish: Callable[[bytes], Path]) -> Callable[[bytes], Path]:
    """Publishes a file that has been lying there for years."""

    def put(content: bytes) -> Path:
        place = publish(content)
        os.utime(place, (1_000_000_000, 1_000_000_000))
        return place

    return put


@pytest.fixture
def times() -> dict[str, float]:
    """Both clocks of a reader, moved by hand: a minute after publication, nothing checked."""
    return {"now": 1_795_496_460.0, "ticks": 0.0}


@pytest.fixture
def reader(tmp_path: Path, times: dict[str, float]) -> Callable[..., Allocations]:
    """Maker of readers of the published directory, which look before every choice."""

    def make(**options: Any) -> Allocations:  # noqa: ANN401
        given = {
            "check_every_s": 0,
            "clock": lambda: times["now"],
            "monotonic": lambda: times["ticks"],
            **options,
        }
        return Allocations(tmp_path / "published", **given)

    return make
