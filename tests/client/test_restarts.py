from collections.abc import Callable
from pathlib import Path

from optimizer.client import Allocations

TARGET = "support-bot/answer"
IN_CANARY = "session-45"  # its point under the salt of a draft is below 0.01
EXPIRES = 1_795_518_000.0  # 2026-11-24T11:00:00Z, as drafts say
BASELINES = {TARGET: {"arm": "large", "model": "large-0", "params": {"stop": ["."]}}}

Sealed = Callable[..., bytes]
Publish = Callable[[bytes], Path]


def test_the_last_good_allocation_outlives_the_process(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations], tmp_path: Path
) -> None:
    place = publish(sealed(share=0.25))
    cache = tmp_path / "state" / "cache"
    reader(cache_directory=cache).choose(TARGET, IN_CANARY)
    place.unlink()

    choice = reader(cache_directory=cache).choose(TARGET, IN_CANARY)

    assert (choice.origin, choice.slice, choice.generation) == ("last_good", "canary", 7)
    assert choice.reason.startswith("missing:")
    assert [kept.name for kept in cache.iterdir()] == ["support-bot%2Fanswer.json"]


def test_a_kept_allocation_refuses_an_older_one_and_expires_like_any(
    publish: Publish,
    sealed: Sealed,
    reader: Callable[..., Allocations],
    tmp_path: Path,
    times: dict[str, float],
) -> None:
    publish(sealed(generation=7))
    reader(cache_directory=tmp_path / "cache").choose(TARGET, "session-1")
    publish(sealed(generation=6))

    again = reader(cache_directory=tmp_path / "cache")

    assert again.choose(TARGET, "session-1").reason == "older: generation 6, seen was 7"
    times["now"] = EXPIRES
    assert again.choose(TARGET, "session-1").origin == "baseline"


def test_a_spoilt_copy_is_reported_passed_over_and_mended(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations], tmp_path: Path
) -> None:
    place = publish(sealed())
    reader(cache_directory=tmp_path / "cache").choose(TARGET, "session-1")
    copy = tmp_path / "cache" / place.name
    copy.write_bytes(copy.read_bytes()[:-1])
    place.unlink()

    again = reader(cache_directory=tmp_path / "cache", baselines=BASELINES)
    broken = again.health(TARGET)
    publish(sealed())
    mended = again.health(TARGET)

    assert broken.origin == "baseline"
    assert broken.cache_reason.startswith("last good copy not read: allocation field")
    assert (mended.origin, mended.cache_reason) == ("current", "")
    assert copy.read_bytes() == sealed()


def test_a_cache_that_cannot_be_written_is_only_a_line_in_the_health(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations], tmp_path: Path
) -> None:
    publish(sealed())
    (tmp_path / "file").touch()  # a file where a directory should be stops root as well

    allocations = reader(cache_directory=tmp_path / "file" / "cache")

    health = allocations.health(TARGET)
    assert (health.origin, health.reason) == ("current", "")
    assert "copy not" in health.cache_reason


def test_a_copy_that_cannot_take_its_place_leaves_no_draft(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations], tmp_path: Path
) -> None:
    place = publish(sealed())
    (tmp_path / "cache" / place.name / "occupied").mkdir(parents=True)

    health = reader(cache_directory=tmp_path / "cache").health(TARGET)

    assert health.cache_reason.startswith("last good copy not written:")
    assert [kept.name for kept in (tmp_path / "cache").iterdir()] == [place.name]


def test_a_copy_is_replaced_whole_under_a_process_that_reads_it(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations], tmp_path: Path
) -> None:
    place = publish(sealed(generation=7))
    allocations = reader(cache_directory=tmp_path / "cache")
    allocations.choose(TARGET, IN_CANARY)

    with (tmp_path / "cache" / place.name).open("rb") as other:
        publish(sealed(generation=8))
        allocations.choose(TARGET, IN_CANARY)
        assert other.read() == sealed(generation=7)

    assert (tmp_path / "cache" / place.name).read_bytes() == sealed(generation=8)
