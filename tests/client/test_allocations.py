import os
from collections.abc import Callable
from pathlib import Path

import pytest

from optimizer.client import Allocations, Choice

TARGET = "support-bot/answer"
IN_CANARY = "session-45"  # its point under the salt of a draft is below 0.01
PUBLISHED = 1_795_496_400.0  # 2026-11-24T05:00:00Z, as drafts say
EXPIRES = 1_795_518_000.0  # 2026-11-24T11:00:00Z, as drafts say
BASELINES = {TARGET: {"arm": "large", "model": "large-0", "params": {"stop": ["."]}}}

Sealed = Callable[..., bytes]
Publish = Callable[[bytes], Path]


def test_a_current_choice_tells_all_there_is_to_log(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations]
) -> None:
    publish(sealed(share=0.25))
    allocations = reader()

    choice = allocations.choose(TARGET, IN_CANARY)

    assert choice == Choice(
        target=TARGET,
        unit=IN_CANARY,
        arm="mini",
        config={
            "model": "mini-1",
            "provider": None,
            "temperature": 0.7,
            "top_p": 0.9,
            "max_tokens": 1024,
            "prompt_version": "3",
            "params": {"generation": 7},
        },
        slice="canary",
        propensity=0.25,
        generation=7,
        decision="d-3f2a",
        origin="current",
        reason="",
    )
    assert choice.log_fields() == {
        "target": TARGET,
        "arm": "mini",
        "slice": "canary",
        "propensity": 0.25,
        "generation": 7,
        "session_id": IN_CANARY,
    }


def test_the_baseline_arm_counts_the_control_in_its_propensity(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations]
) -> None:
    publish(sealed(share=0.25))
    allocations = reader()

    choices = [allocations.choose(TARGET, f"session-{i}") for i in range(100)]

    assert {(c.slice, c.propensity) for c in choices} == {
        ("canary", 0.25),
        ("baseline", 0.75),
        ("control", 0.75),
    }


@pytest.mark.parametrize("ask", ["choose", "health"])
def test_an_unknown_target_without_baseline_is_an_error_that_names_it(
    reader: Callable[..., Allocations], ask: str
) -> None:
    allocations = reader(baselines={"other": {"model": "m"}})

    with pytest.raises(LookupError, match=rf"target '{TARGET}' has no .*\['other'\]"):
        _ = allocations.choose(TARGET, "u") if ask == "choose" else allocations.health(TARGET)


def test_an_unknown_target_is_known_once_it_is_published(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations]
) -> None:
    allocations = reader()
    with pytest.raises(LookupError):
        allocations.choose(TARGET, "session-1")

    publish(sealed())

    assert allocations.choose(TARGET, "session-1").origin == "current"


@pytest.mark.parametrize("target", ["", ".", "..", "a\0b", "\ud800", "x" * 5_000, "../other"])
def test_a_strange_target_with_a_baseline_is_served(
    reader: Callable[..., Allocations], target: str
) -> None:
    allocations = reader(baselines={target: {"model": "m"}})

    choice = allocations.choose(target, "session-1")

    assert (choice.arm, choice.config) == ("baseline", {"model": "m"})


def test_a_strange_unit_is_served(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations]
) -> None:
    publish(sealed())
    allocations = reader()

    for unit in ("", "\0", "\ud800", "x" * 100_000):
        assert allocations.choose(TARGET, unit).origin == "current"


def test_a_caller_that_edits_its_configuration_changes_nobody_elses(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations], times: dict[str, float]
) -> None:
    given = {"model": "m", "params": {"stop": ["."]}}
    allocations = reader(baselines={TARGET: given})

    def deface() -> Choice:
        choice = allocations.choose(TARGET, "session-1")
        assert isinstance(choice.config, dict)
        choice.config["params"].clear()
        choice.config.clear()
        return allocations.choose(TARGET, "session-1")

    configured = deface()
    publish(sealed())
    current = deface()
    times["now"] = EXPIRES
    expired = deface()

    assert configured.config == given == {"model": "m", "params": {"stop": ["."]}}
    assert current.config["params"] == expired.config["params"] == {"generation": 7}


def test_a_file_is_looked_at_no_more_often_than_asked(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations], times: dict[str, float]
) -> None:
    publish(sealed(generation=1))
    allocations = reader(check_every_s=2.0)
    allocations.choose(TARGET, "session-1")
    publish(sealed(generation=2))

    seen = []
    for ticks in (0.0, 1.9, 2.0):
        times["ticks"] = ticks
        seen.append(allocations.choose(TARGET, "session-1").generation)

    assert seen == [1, 1, 2]


def test_a_file_that_looks_unchanged_is_not_read_again(
    publish_long_ago: Publish, sealed: Sealed, reader: Callable[..., Allocations]
) -> None:
    place = publish_long_ago(sealed(generation=1))
    allocations = reader()
    allocations.choose(TARGET, "session-1")

    seen = place.stat()
    place.write_bytes(sealed(generation=2))
    os.utime(place, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    assert allocations.choose(TARGET, "session-1").generation == 1


def test_a_young_file_is_read_again_however_unchanged_it_looks(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations], times: dict[str, float]
) -> None:
    place = publish(sealed(generation=1))
    seen = place.stat()
    times["now"] = seen.st_mtime + 0.5
    allocations = reader()
    allocations.choose(TARGET, "session-1")

    place.write_bytes(sealed(generation=2))
    os.utime(place, ns=(seen.st_atime_ns, seen.st_mtime_ns))

    assert allocations.choose(TARGET, "session-1").generation == 2


@pytest.mark.parametrize("pace", [-1.0, float("nan"), float("inf")])
def test_a_pace_that_is_none_is_refused(reader: Callable[..., Allocations], pace: float) -> None:
    with pytest.raises(ValueError, match="check_every_s"):
        reader(check_every_s=pace)


def test_health_tells_what_a_choice_would(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations], times: dict[str, float]
) -> None:
    allocations = reader(baselines=BASELINES)

    nothing = allocations.health(TARGET)
    place = publish(sealed())
    current = allocations.health(TARGET)
    place.unlink()
    last_good = allocations.health(TARGET)
    times["now"] = EXPIRES
    stale = allocations.health(TARGET)

    assert (nothing.origin, nothing.generation, nothing.age_s) == ("baseline", None, None)
    assert dict(current) == {
        "target": TARGET,
        "origin": "current",
        "generation": 7,
        "age_s": 60.0,
        "reason": "",
        "cache_reason": "",
    }
    assert (last_good.origin, last_good.reason[:8]) == ("last_good", "missing:")
    assert (stale.origin, stale.age_s) == ("baseline", EXPIRES - PUBLISHED)


def test_health_has_no_other_fields(
    publish: Publish, sealed: Sealed, reader: Callable[..., Allocations]
) -> None:
    publish(sealed())

    with pytest.raises(KeyError, match="__init__"):
        reader().health(TARGET)["__init__"]
