"""What is published is what was asked for, the newest, whole, and readable by applications."""

import json
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.allocation import Allocation, SliceName, canary, whole
from optimizer.client import Allocations, parse
from optimizer.errors import ConfigError, ConflictError, DataError, UnavailableError
from optimizer.integrations.file_gateway import FileGateway
from optimizer.targets import ModelConfig

TARGET = "support-bot/answer"
ARMS = {
    "large": ModelConfig(model="large-1", provider="acme", params={"seed": 7}).as_dict(),
    "small": ModelConfig(model="small-1", temperature=0.2).as_dict(),
}
NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def gateway_in(directory: Path, clock: Callable[[], datetime] = lambda: NOW) -> FileGateway:
    return FileGateway(
        name="files", directory=directory, expires_after=timedelta(hours=6), clock=clock
    )


def split(generation: int, share: float = 0.05) -> Allocation:
    return canary(
        TARGET,
        baseline="large",
        candidate="small",
        share=share,
        control_share=share,
        generation=generation,
        salt="d-1",
        decision_id="d-1",
    )


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return tmp_path / "published"


@pytest.fixture
def path(published: Path) -> Path:
    return published / "support-bot%2Fanswer.json"


@pytest.fixture
def gateway(published: Path) -> FileGateway:
    return gateway_in(published)


def test_where_nothing_is_published_nothing_is_read(gateway: FileGateway) -> None:
    assert gateway.read(TARGET) is None


@given(
    share=st.floats(min_value=1e-6, max_value=0.5),
    generation=st.integers(min_value=0, max_value=99),
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_read_back_is_what_was_applied(
    tmp_path_factory: pytest.TempPathFactory, share: float, generation: int
) -> None:
    gateway = gateway_in(tmp_path_factory.mktemp("published"))
    allocation = split(generation, share)

    gateway.apply(allocation, arms=ARMS)

    assert gateway.read(TARGET) == allocation


def test_twice_is_once_but_for_the_freshness_stamps(published: Path, path: Path) -> None:
    gateway_in(published).apply(split(3), arms=ARMS)
    first = json.loads(path.read_bytes())

    gateway_in(published, lambda: NOW + timedelta(hours=1)).apply(split(3), arms=ARMS)

    second = json.loads(path.read_bytes())
    stamps = {"published_at", "expires_at", "checksum"}
    assert {key for key in first if first[key] != second[key]} == stamps
    assert second["published_at"] == "2026-03-01T13:30:00Z"
    assert second["expires_at"] == "2026-03-01T19:30:00Z"


def test_an_older_generation_is_refused_and_changes_nothing(
    gateway: FileGateway, path: Path
) -> None:
    gateway.apply(split(3), arms=ARMS)
    before = path.read_bytes()

    with pytest.raises(ConflictError, match="generation 2 is older than 3"):
        gateway.apply(whole(TARGET, "large", generation=2), arms=ARMS)

    assert path.read_bytes() == before


def test_another_split_under_the_same_generation_is_refused(gateway: FileGateway) -> None:
    gateway.apply(split(3), arms=ARMS)

    with pytest.raises(ConflictError, match="another split"):
        gateway.apply(split(3, share=0.06), arms=ARMS)

    assert gateway.read(TARGET) == split(3)


def test_targets_do_not_disturb_each_other(gateway: FileGateway) -> None:
    gateway.apply(split(9), arms=ARMS)
    gateway.apply(whole("support-bot", "large", generation=1), arms=ARMS)

    assert gateway.read(TARGET) == split(9)
    assert gateway.read("support-bot") == whole("support-bot", "large", generation=1)


@pytest.mark.parametrize("damage", ["lost", "torn", "edited"])
def test_fencing_outlives_the_loss_of_the_published_file(
    gateway: FileGateway, path: Path, damage: str
) -> None:
    gateway.apply(split(3), arms=ARMS)
    if damage == "lost":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.write_text(path.read_text().replace('"generation":3', '"generation":1'))

    with pytest.raises(ConflictError):
        gateway.apply(split(2), arms=ARMS)
    gateway.apply(split(3), arms=ARMS)

    assert gateway.read(TARGET) == split(3)


def test_fencing_outlives_the_loss_of_what_is_remembered(
    gateway: FileGateway, published: Path
) -> None:
    gateway.apply(split(3), arms=ARMS)
    (published / ".support-bot%2Fanswer.json.generation").write_text("[]")

    with pytest.raises(ConflictError):
        gateway.apply(split(2), arms=ARMS)


def test_a_roll_back_is_possible_when_all_is_damaged(
    gateway: FileGateway, published: Path, path: Path
) -> None:
    gateway.apply(split(3), arms=ARMS)
    path.write_text("{")
    (published / ".support-bot%2Fanswer.json.generation").write_text("{")

    gateway.apply(whole(TARGET, "large", generation=4), arms=ARMS)

    assert gateway.read(TARGET) == whole(TARGET, "large", generation=4)


def test_a_run_that_died_between_its_two_writes_is_finished_by_the_next(
    gateway: FileGateway, path: Path
) -> None:
    gateway.apply(split(3), arms=ARMS)
    before = path.read_bytes()
    gateway.apply(split(4, share=0.1), arms=ARMS)
    path.write_bytes(before)  # generation 4 is remembered, and 3 still published

    assert gateway.read(TARGET) == split(3)
    gateway.apply(split(4, share=0.1), arms=ARMS)

    assert gateway.read(TARGET) == split(4, share=0.1)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-5],
        lambda text: text.replace('"low":0.0', '"low":0.1'),
        lambda text: text.replace("small-1", "small-2"),
        lambda text: text[:0],
    ],
    ids=["torn", "moved", "another model", "empty"],
)
def test_a_damaged_or_hand_edited_file_is_not_believed(
    gateway: FileGateway, path: Path, damage: Callable[[str], str]
) -> None:
    gateway.apply(split(3), arms=ARMS)
    path.write_text(damage(path.read_text()))

    with pytest.raises(DataError, match="not what was published"):
        gateway.read(TARGET)


def test_another_targets_file_is_not_believed(gateway: FileGateway, published: Path) -> None:
    gateway.apply(split(3), arms=ARMS)
    (published / "support-bot%2Fanswer.json").rename(published / "other.json")

    with pytest.raises(DataError, match="of support-bot/answer, not other"):
        gateway.read("other")


def test_applications_choose_what_is_published(gateway: FileGateway, published: Path) -> None:
    gateway.apply(split(3, share=0.3), arms=ARMS)
    client = Allocations(published, clock=NOW.timestamp)

    choices = [client.choose(TARGET, f"session-{n}") for n in range(300)]

    assert {choice.origin for choice in choices} == {"current"}
    assert {(choice.slice, choice.arm) for choice in choices} == {
        ("canary", "small"),
        ("baseline", "large"),
        ("control", "large"),
    }
    assert all(dict(choice.config) == ARMS[choice.arm] for choice in choices)


def test_applications_go_back_to_the_baseline_when_nobody_publishes_any_more(
    gateway: FileGateway, published: Path
) -> None:
    gateway.apply(split(3, share=0.3), arms=ARMS)
    late = Allocations(published, clock=(NOW + timedelta(hours=7)).timestamp)

    assert {late.choose(TARGET, f"s-{n}").arm for n in range(50)} == {"large"}


def test_an_arm_without_a_configuration_is_not_published(gateway: FileGateway, path: Path) -> None:
    with pytest.raises(ConfigError, match="small"):
        gateway.apply(split(3), arms={"large": ARMS["large"]})

    assert not path.exists()


def test_a_name_too_long_for_a_file_is_told_before_anything_is_written(
    gateway: FileGateway, published: Path
) -> None:
    target = "a/" * 90 + "a"

    with pytest.raises(ConfigError, match="too long"):
        gateway.apply(replace(split(1), target=target), arms=ARMS)

    assert not published.exists()


def test_a_directory_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(UnavailableError):
        gateway_in(tmp_path / "file" / "published").apply(split(1), arms=ARMS)


def test_an_expiry_that_is_not_above_zero_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        FileGateway(name="files", directory=tmp_path, expires_after=timedelta(0), clock=lambda: NOW)


def _publish(directory: Path, first: int) -> int:
    """Tries every fourth generation in turn; how many were published."""
    gateway = gateway_in(directory)
    n_published = 0
    for generation in range(first, 80, 4):
        try:
            gateway.apply(split(generation, share=0.01 + generation / 1000), arms=ARMS)
        except ConflictError:
            continue
        n_published += 1
    return n_published


def test_of_four_processes_that_publish_at_once_the_newest_generation_stays(
    published: Path, path: Path
) -> None:
    context = multiprocessing.get_context("spawn")

    with context.Pool(4) as pool:
        counts = pool.starmap(_publish, [(published, first) for first in range(4)])

    allocation = gateway_in(published).read(TARGET)
    assert allocation == split(79, share=0.01 + 79 / 1000)
    assert allocation.share(SliceName.CANARY) == pytest.approx(0.089)
    assert parse(path.read_bytes()).generation == 79
    assert sum(counts) >= 20
    assert not list(published.glob("*.draft"))
