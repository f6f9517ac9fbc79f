"""The simulated world: seeded, as published, obedient to the allocation, a little dirty."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from optimizer.client import FORMAT, file_name, seal
from optimizer.integrations.simulated import SimulatedWorld, published
from optimizer.integrations.simulated.outcomes import LUCK, outcomes
from optimizer.settings import load_text

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


def world(directory: Path, *, seed: int = 7) -> SimulatedWorld:
    return SimulatedWorld(seed=seed, directory=directory, start=START)


def files_of(made: SimulatedWorld) -> dict[str, bytes]:
    return {
        str(path.relative_to(made.logs)): path.read_bytes()
        for path in sorted(made.logs.rglob("*.jsonl"))
    }


def test_the_same_seed_writes_the_same_bytes_however_time_is_cut(tmp_path: Path) -> None:
    at_once, by_halves = world(tmp_path / "a"), world(tmp_path / "b")

    at_once.advance(START + HOUR)
    by_halves.advance(START + HOUR / 2)
    by_halves.advance(START + HOUR)

    assert files_of(at_once) == files_of(by_halves)


def test_another_seed_is_another_world(tmp_path: Path) -> None:
    first, second = world(tmp_path / "a"), world(tmp_path / "b", seed=8)

    first.advance(START + HOUR / 2)
    second.advance(START + HOUR / 2)

    assert files_of(first) != files_of(second)


def test_traffic_has_the_published_means(tmp_path: Path) -> None:
    made = world(tmp_path)

    made.advance(START + 3 * HOUR)
    log = made.traffic_log()

    for target in published():
        rows = log[(log["target"] == target.name) & (log["status"] == "ok")]
        for column, mean in (
            ("cost_usd", target.baseline.cost_usd),
            ("score", target.baseline.quality_mean),
        ):
            known = rows[column].dropna()
            # Requests of a session share some of their quality: a little wider than independent.
            assert abs(known.mean() - mean) < 5 * known.std() / len(known) ** 0.5


def test_labels_come_late_and_not_for_all(tmp_path: Path) -> None:
    made = world(tmp_path)
    made.advance(START + HOUR / 2)

    early = made.traffic_log()["score"].notna().mean()
    made.advance(START + 2 * HOUR)
    first_half = made.traffic_log().query(f"ts_s < {(START + HOUR / 2).timestamp()}")

    assert early < 0.2
    assert first_half["score"].notna().mean() == pytest.approx(made.settings.label_rate, abs=0.03)


def test_what_is_spoiled_is_counted(tmp_path: Path) -> None:
    made = world(tmp_path)

    made.advance(START + 2 * HOUR)
    lines = [line for text in files_of(made).values() for line in text.decode().splitlines()]
    broken = sum(not _parses(line) for line in lines)

    assert broken == made.dirt.halved > 0
    assert len(lines) - len(set(lines)) == made.dirt.doubled > 0
    assert made.dirt.late > 0


def test_the_truth_counts_every_request_of_the_log(tmp_path: Path) -> None:
    made = world(tmp_path)

    requests = made.advance(START + HOUR)
    missing = requests - len(made.traffic_log())

    assert made.truth["n"].sum() == requests
    assert 0 <= missing <= made.dirt.halved + made.dirt.late


def test_traffic_follows_the_published_allocation(tmp_path: Path) -> None:
    made = world(tmp_path)
    made.advance(START + HOUR / 2)
    _publish(tmp_path / "allocations", "bug-fixing", "claude-opus-4-6", "claude-sonnet-4-6")

    made.advance(START + HOUR)
    log = made.traffic_log().query(f"target == 'bug-fixing' and ts_s >= {_at(HOUR / 2)}")
    shares = log["slice"].value_counts(normalize=True)

    assert shares["canary"] == pytest.approx(0.3, abs=0.06)
    assert shares["control"] == pytest.approx(0.3, abs=0.06)
    assert set(log[log["slice"] == "canary"]["arm"]) == {"claude-sonnet-4-6"}


def test_a_refusing_host_fails_more_the_more_it_is_asked() -> None:
    lepton = published()[-1].arm("lepton")
    rng = np.random.default_rng(1)
    luck = dict(zip(LUCK, rng.uniform(1e-9, 1 - 1e-9, (len(LUCK), 20_000)), strict=True))

    rates = [
        outcomes(lepton, luck, np.linspace(0, seconds, 20_000)).refused.mean()
        for seconds in (400_000, 100_000, 20_000, 2_000)
    ]

    assert rates == sorted(rates)
    assert rates[0] < 0.05
    assert rates[-1] == pytest.approx(lepton.refused_rate, abs=0.01)


def test_arms_differ_by_what_is_published_and_by_nothing_else() -> None:
    target = published()[4]
    rng = np.random.default_rng(1)
    luck = dict(zip(LUCK, rng.uniform(1e-9, 1 - 1e-9, (len(LUCK), 500)), strict=True))
    at_s = np.linspace(0, 3600, 500)

    first, second = (outcomes(target.arm(name), luck, at_s) for name in ("bedrock", "groq"))

    # One model behind both hosts: the very same scores, other prices and latencies.
    assert (first.quality == second.quality).all()
    assert first.cost_usd.mean() > second.cost_usd.mean()


def test_its_configuration_is_one_that_users_write(tmp_path: Path) -> None:
    made = world(tmp_path)

    loaded = load_text(made.configuration(), tmp_path / "optimizer.yaml", {})

    assert [target.name for target in loaded.settings.targets] == [t.name for t in published()]


def test_time_passes_by_half_hours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="half hour"):
        world(tmp_path).advance(START + timedelta(minutes=20))


def test_it_knows_which_arms_truly_harm(tmp_path: Path) -> None:
    made = world(tmp_path)

    assert "quality" in made.true_harms("code-refactoring", "kimi-k2.5")
    assert made.true_harms("code-refactoring", "gpt-5.4") == ()


def _at(since: timedelta) -> float:
    return (START + since).timestamp()


def _parses(line: str) -> bool:
    try:
        json.loads(line)
    except json.JSONDecodeError:
        return False
    return True


def _publish(directory: Path, target: str, baseline: str, candidate: str) -> None:
    """An allocation as a gateway writes it: 30 % canary, 30 % control."""
    directory.mkdir(exist_ok=True)
    document = {
        "format": FORMAT,
        "target": target,
        "generation": 1,
        "salt": "salt",
        "decision": "d-1",
        "published_at": START.isoformat().replace("+00:00", "Z"),
        "expires_at": (START + HOUR).isoformat().replace("+00:00", "Z"),
        "baseline": baseline,
        "arms": {baseline: {"model": baseline}, candidate: {"model": candidate}},
        "slices": [
            {"slice": "canary", "arm": candidate, "low": 0.0, "high": 0.3},
            {"slice": "baseline", "arm": baseline, "low": 0.3, "high": 0.7},
            {"slice": "control", "arm": baseline, "low": 0.7, "high": 1.0},
        ],
    }
    (directory / file_name(target)).write_bytes(seal(document))
