import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from optimizer.client import Allocations

TARGET = "support-bot/answer"
PUBLISHED = 1_795_496_400.0  # 2026-11-24T05:00:00Z, as drafts say

Sealed = Callable[..., bytes]
Publish = Callable[[bytes], Path]


FORKED = """
import os, sys, threading
from optimizer.client import Allocations

held, leave = threading.Event(), threading.Event()
ticks = [0.0]

def clock():
    # The second thread stops in the middle of a look, with the lock in its hand.
    if threading.current_thread() is not threading.main_thread():
        held.set()
        leave.wait()
    return 1795496460.0

allocations = Allocations(sys.argv[1], check_every_s=1, clock=clock, monotonic=lambda: ticks[0])
allocations.choose("support-bot/answer", "u")
os.replace(sys.argv[2], os.path.join(sys.argv[1], "support-bot%2Fanswer.json"))
ticks[0] = 1.0
thread = threading.Thread(target=allocations.choose, args=("support-bot/answer", "u"))
thread.start()
held.wait()
child = os.fork()
if child == 0:
    print(allocations.choose("support-bot/answer", "u").generation, flush=True)
    os._exit(0)
os.waitpid(child, 0)
leave.set()
thread.join()
"""


def test_a_forked_child_looks_for_itself_while_its_parent_was_looking(
    publish: Publish, sealed: Sealed, tmp_path: Path
) -> None:
    place = publish(sealed(generation=7))
    (tmp_path / "next").write_bytes(sealed(generation=8))
    root = Path(__file__).parents[2]

    # From 3.12 on, Python warns of forking beside a thread: here that is the point.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, place.parent, tmp_path / "next"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert done.stdout.split() == ["8"]


def test_a_look_in_progress_keeps_no_other_thread_waiting(
    publish: Publish, sealed: Sealed, tmp_path: Path
) -> None:
    inside, leave = threading.Event(), threading.Event()
    slow = threading.Thread()
    ticks = [0.0]

    def clock() -> float:
        if threading.current_thread() is slow:
            inside.set()
            leave.wait(timeout=10)
        return PUBLISHED

    publish(sealed(generation=7))
    allocations = Allocations(
        tmp_path / "published", check_every_s=1, clock=clock, monotonic=lambda: ticks[0]
    )
    allocations.choose(TARGET, "session-1")
    publish(sealed(generation=8))
    ticks[0] = 1.0
    slow = threading.Thread(target=allocations.choose, args=(TARGET, "session-1"))
    slow.start()
    assert inside.wait(timeout=10)

    meanwhile = allocations.choose(TARGET, "session-1")
    leave.set()
    slow.join()
    afterwards = allocations.choose(TARGET, "session-1")

    assert (meanwhile.generation, afterwards.generation) == (7, 8)


def test_a_thread_that_is_overtaken_does_not_go_back(
    publish: Publish, sealed: Sealed, tmp_path: Path
) -> None:
    overtaking: list[bool] = []

    def monotonic() -> float:
        # Called between a thread's glance at what is known and its own look at the file.
        if overtaking:
            overtaking.clear()
            publish(sealed(generation=9))
            assert allocations.choose(TARGET, "session-1").generation == 9
            publish(sealed(generation=8))
        return 0.0

    publish(sealed(generation=7))
    allocations = Allocations(
        tmp_path / "published", check_every_s=0, clock=lambda: PUBLISHED, monotonic=monotonic
    )
    allocations.choose(TARGET, "session-1")
    overtaking.append(True)

    overtaken = allocations.choose(TARGET, "session-1")

    assert (overtaken.generation, overtaken.origin) == (9, "last_good")
