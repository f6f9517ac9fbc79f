import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from optimizer.client import MAX_BYTES, Allocations, file_name

TARGET = "support-bot/answer"
IN_CANARY = "session-45"  # its point under the salt of a draft is below 0.01
EXPIRES = 1_795_518_000.0  # 2026-11-24T11:00:00Z, as drafts say
BASELINES = {TARGET: {"arm": "large", "model": "large-0", "params": {"stop": ["."]}}}

Sealed = Callable[..., bytes]
Publish = Callable[[bytes], Path]
Case = tuple[Callable[[Path, Publish, Sealed], None], str]


# Every way in which a file can be no use, and the word by which its reason begins.


def _missing(place: Path, _publish: Publish, _sealed: Sealed) -> None:
    place.unlink()


def _truncated(place: Path, publish: Publish, _sealed: Sealed) -> None:
    publish(place.read_bytes()[:-20])


def _empty(_place: Path, publish: Publish, _sealed: Sealed) -> None:
    publish(b"")


def _altered(_place: Path, publish: Publish, sealed: Sealed) -> None:
    publish(sealed(share=0.5, generation=8).replace(b'"generation":8', b'"generation":9'))


def _oversized(place: Path, publish: Publish, _sealed: Sealed) -> None:
    publish(place.read_bytes() + b" " * MAX_BYTES)


def _misplaced(_place: Path, publish: Publish, sealed: Sealed) -> None:
    publish(sealed(share=0.5, generation=8, target="support-bot/route"))


def _older(_place: Path, publish: Publish, sealed: Sealed) -> None:
    publish(sealed(share=0.5, generation=6))


def _directory(place: Path, _publish: Publish, _sealed: Sealed) -> None:
    place.unlink()
    place.mkdir()


def _pipe(place: Path, _publish: Publish, _sealed: Sealed) -> None:
    place.unlink()
    os.mkfifo(place)


def _loop(place: Path, _publish: Publish, _sealed: Sealed) -> None:
    place.unlink()
    place.symlink_to(place)


USELESS: dict[str, Case] = {
    "missing": (_missing, "missing: there is no file"),
    "truncated": (_truncated, "corrupt: allocation field 'document'"),
    "empty": (_empty, "corrupt: allocation field 'document'"),
    "altered": (_altered, "corrupt: allocation field 'checksum'"),
    "oversized": (_oversized, "corrupt: allocation field 'document' is 1048577"),
    "misplaced": (_misplaced, "corrupt: allocation field 'target' is 'support-bot/route'"),
    "older": (_older, "older: generation 6, seen was 7"),
    "directory": (_directory, "unreadable: not a regular file"),
    "pipe": (_pipe, "unreadable: not a regular file"),
    "loop": (_loop, "unreadable: Too many levels"),
}
useless = pytest.mark.parametrize("case", USELESS.values(), ids=USELESS.keys())


@useless
def test_a_useless_file_leaves_the_last_good_allocation_in_force(
    publish: Publish,
    sealed: Sealed,
    reader: Callable[..., Allocations],
    case: Case,
) -> None:
    spoil, words = case
    place = publish(sealed(share=0.25))
    allocations = reader()
    before = allocations.choose(TARGET, IN_CANARY)

    spoil(place, publish, sealed)

    after = allocations.choose(TARGET, IN_CANARY)
    assert (before.origin, after.origin) == ("current", "last_good")
    assert after.reason.startswith(words)
    assert after.log_fields() == before.log_fields()
    assert after.config == before.config


@useless
def test_a_useless_file_and_an_expired_allocation_put_every_unit_on_its_baseline(
    publish: Publish,
    sealed: Sealed,
    reader: Callable[..., Allocations],
    times: dict[str, float],
    case: Case,
) -> None:
    spoil, words = case
    place = publish(sealed(share=0.25))
    allocations = reader(baselines={TARGET: {"model": "not this one"}})
    assert allocations.choose(TARGET, IN_CANARY).slice == "canary"

    spoil(place, publish, sealed)
    times["now"] = EXPIRES

    choice = allocations.choose(TARGET, IN_CANARY)
    assert (choice.arm, choice.config["model"]) == ("large", "large-1")
    assert (choice.slice, choice.propensity, choice.decision) == ("baseline", 1.0, None)
    assert (choice.origin, choice.generation) == ("baseline", 7)
    assert choice.reason.startswith(f"stale since 2026-11-24T11:00:00Z; {words}")


@pytest.mark.parametrize(
    "case",
    [case for name, case in USELESS.items() if name != "older"],
    ids=[name for name in USELESS if name != "older"],
)
def test_a_useless_file_before_any_good_one_gives_the_configured_baseline(
    publish: Publish,
    sealed: Sealed,
    reader: Callable[..., Allocations],
    case: Case,
) -> None:
    spoil, words = case
    spoil(publish(sealed()), publish, sealed)

    choice = reader(baselines=BASELINES).choose(TARGET, "session-1")

    assert (choice.arm, choice.slice, choice.propensity) == ("large", "baseline", 1.0)
    assert choice.config == {"model": "large-0", "params": {"stop": ["."]}}
    assert (choice.origin, choice.generation, choice.decision) == ("baseline", None, None)
    assert choice.reason.startswith(f"no allocation seen; {words}")


@useless
def test_a_useful_file_ends_every_fallback(
    publish: Publish,
    sealed: Sealed,
    reader: Callable[..., Allocations],
    case: Case,
) -> None:
    spoil, words = case
    place = publish(sealed())
    allocations = reader()
    allocations.choose(TARGET, "session-1")
    spoil(place, publish, sealed)
    assert words in allocations.health(TARGET).reason

    if place.is_dir():
        place.rmdir()
    publish(sealed(generation=8))

    choice = allocations.choose(TARGET, "session-1")
    assert (choice.origin, choice.generation, choice.reason) == ("current", 8, "")


def test_a_moved_away_file_that_comes_back_unchanged_is_current_again(
    publish_long_ago: Publish, sealed: Sealed, reader: Callable[..., Allocations]
) -> None:
    place = publish_long_ago(sealed())
    allocations = reader()
    allocations.choose(TARGET, "session-1")
    aside = place.rename(place.with_suffix(".aside"))
    assert allocations.choose(TARGET, "session-1").origin == "last_good"

    aside.rename(place)

    assert allocations.choose(TARGET, "session-1").origin == "current"


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's right to read everything, beside which permissions mean nothing."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("locked", ["file", "directory"])
def test_an_unreadable_file_leaves_the_last_good_and_a_right_given_back_is_noticed(
    sealed: Sealed, times: dict[str, float], locked: str
) -> None:
    # Not pytest's own directory: it is closed to all but the user who runs the tests.
    with tempfile.TemporaryDirectory() as name:
        directory, place = Path(name), Path(name, file_name(TARGET))
        directory.chmod(0o755)
        place.write_bytes(sealed(generation=7))
        allocations = Allocations(directory, check_every_s=0, clock=lambda: times["now"])
        allocations.choose(TARGET, "session-1")
        place.write_bytes(sealed(generation=8))
        (place if locked == "file" else directory).chmod(0)

        with as_nobody():
            unreadable = allocations.choose(TARGET, "session-1")
        directory.chmod(0o755)
        place.chmod(0o644)
        readable = allocations.choose(TARGET, "session-1")

    assert (unreadable.origin, unreadable.generation) == ("last_good", 7)
    assert unreadable.reason == "unreadable: Permission denied"
    assert (readable.origin, readable.generation) == ("current", 8)


def test_an_expired_file_that_is_refreshed_is_current_again(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations], times: dict[str, float]
) -> None:
    publish(sealed(share=0.25))
    allocations = reader()

    times["now"] = EXPIRES
    stale = allocations.choose(TARGET, IN_CANARY)
    publish(sealed(share=0.25, expires_at="2026-11-24T17:00:00Z"))
    fresh = allocations.choose(TARGET, IN_CANARY)

    assert (stale.origin, stale.reason) == ("baseline", "stale since 2026-11-24T11:00:00Z")
    assert (fresh.origin, fresh.slice, fresh.generation) == ("current", "canary", 7)


def test_an_older_generation_stays_refused_even_when_the_newer_has_expired(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations], times: dict[str, float]
) -> None:
    publish(sealed(generation=7))
    allocations = reader()
    allocations.choose(TARGET, "session-1")

    publish(sealed(generation=6, expires_at="2026-11-25T00:00:00Z"))
    times["now"] = EXPIRES

    choice = allocations.choose(TARGET, "session-1")
    assert (choice.origin, choice.generation) == ("baseline", 7)
    assert choice.reason == "stale since 2026-11-24T11:00:00Z; older: generation 6, seen was 7"
