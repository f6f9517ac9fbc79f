import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from optimizer.client import Allocations, Choice, point

TARGET = "support-bot/answer"
WITHIN_VALIDITY = 1_795_514_400.0  # 2026-11-24T10:00:00Z
LAST = 500

# Every generation differs in each of its parts, so that a mixture of two would show.
WRITER = """
import json, os, sys
from optimizer.client import seal

place, draft, last = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
for generation in range(2, last + 1):
    share = generation / 1000
    document = {
        **draft,
        "generation": generation,
        "salt": f"d-{generation}",
        "decision": f"d-{generation}",
        "slices": [
            {"slice": "canary", "arm": "mini", "low": 0.0, "high": share},
            {"slice": "baseline", "arm": "large", "low": share, "high": 1.0},
        ],
        "arms": {
            arm: {"model": arm, "params": {"generation": generation, "pad": "x" * generation}}
            for arm in ("mini", "large")
        },
    }
    with open(place + ".new", "wb") as file:
        file.write(seal(document))
    os.replace(place + ".new", place)
"""


def belongs_together(choice: Choice) -> bool:
    """Whether all parts of a choice come from the one document of its generation."""
    generation = choice.generation
    if generation is None or choice.origin != "current" or choice.reason:
        return False
    share = generation / 1000
    canary = point(f"d-{generation}", choice.unit) < share
    arm, width = ("mini", share) if canary else ("large", 1 - share)
    return (
        choice.decision == f"d-{generation}"
        and (choice.arm, choice.propensity) == (arm, width)
        and choice.config
        == {"model": arm, "params": {"generation": generation, "pad": "x" * generation}}
    )


def test_readers_never_see_a_mixed_or_older_document_while_a_writer_replaces_it(
    publish: Callable[[bytes], Path], draft: Callable[..., dict[str, object]], tmp_path: Path
) -> None:
    root = Path(__file__).parents[2]

    place = publish(b"")
    write = [sys.executable, "-c", WRITER, str(place), json.dumps(draft())]
    subprocess.run([*write, "2"], cwd=root, check=True)
    allocations = Allocations(
        tmp_path / "published", check_every_s=0, clock=lambda: WITHIN_VALIDITY
    )
    written = threading.Event()
    wrong: list[Choice] = []
    seen: list[list[int]] = []

    def read(reader: int) -> None:
        generations: list[int] = []
        while not written.is_set() or not generations:
            choice = allocations.choose(TARGET, f"session-{reader}-{len(generations)}")
            if not belongs_together(choice):
                wrong.append(choice)
            generations.append(choice.generation or 0)
        seen.append(generations)

    readers = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for reader in readers:
        reader.start()
    try:
        subprocess.run([*write, str(LAST)], cwd=root, check=True)
    finally:
        written.set()
        for reader in readers:
            reader.join()

    assert wrong == []
    assert len(seen) == len(readers)
    assert all(generations == sorted(generations) for generations in seen)
    assert len(set().union(*seen)) > 1, "the writer finished before anybody read"
    assert allocations.choose(TARGET, "session-1").generation == LAST
