from collections.abc import Callable

import pytest

from optimizer.decision import Decision, State
from optimizer.loop.equipment import Equipment
from terminal import Terminal

Store = Callable[..., Decision]


def test_list_shows_decisions_newest_first_and_filters(terminal: Terminal, waiting: Store) -> None:
    waiting("d-0001", State.CANCELLED)
    waiting("d-0002")

    def ids(*arguments: str) -> list[str]:
        return [row["id"] for row in terminal.json("decisions", "list", *arguments)]

    assert ids() == ["d-0002", "d-0001"]
    assert ids("--in-flight") == ["d-0002"]
    assert ids("--state", "cancelled") == ["d-0001"]
    assert ids("--target", "other") == []
    assert ids("--limit", "1") == ["d-0002"]


def test_show_tells_the_decision_and_its_log(terminal: Terminal, waiting: Store) -> None:
    waiting()

    shown = terminal.json("decisions", "show", "d-0001")

    assert shown["decision"]["state"] == "awaiting_approval"
    assert [entry["reason"] for entry in shown["events"]] == ["approval is required"]
    assert "small is cheaper" in terminal.ok("decisions", "show", "d-0001")


def test_an_approved_decision_starts_and_a_rollback_returns_the_traffic(
    terminal: Terminal, waiting: Store, equipment: Equipment
) -> None:
    decision = waiting()
    before = equipment.gateway("support").read("support")

    terminal.ok("decisions", "approve", "d-0001", "--as", "ada", "--reason", "looks fine")

    started = equipment.ledger.decisions.get(decision.id)
    assert started.state is State.DEPLOYING
    assert started.approved_by == "ada"
    on_traffic = equipment.gateway("support").read("support")
    assert on_traffic is not None
    assert {part.arm for part in on_traffic.slices} == {"large", "small"}

    text = terminal.ok("rollback", "--target", "support", "--reason", "changed my mind")

    after = equipment.gateway("support").read("support")
    assert before is not None
    assert after is not None
    assert after.same_split(before)
    assert "is rolled_back" in text
    assert [m["severity"] for m in terminal.told()] == ["info", "error"]


def test_a_rejected_decision_is_cancelled_and_says_why(terminal: Terminal, waiting: Store) -> None:
    waiting()

    shown = terminal.json("decisions", "reject", "d-0001", "--reason", "not now")

    assert shown["state"] == "cancelled"
    assert shown["reason"] == "rejected: not now"


def test_a_decision_without_traffic_is_cancelled_at_once(
    terminal: Terminal, waiting: Store
) -> None:
    waiting()

    assert terminal.json("decisions", "cancel", "d-0001", "--reason", "x")["state"] == "cancelled"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["decisions", "show", "d-9"], "there is no decision 'd-9'"),
        (["decisions", "approve", "d-9"], "there is no decision 'd-9'"),
        (["decisions", "approve", "d-0001"], "it does not wait for approval"),
        (["decisions", "reject", "d-0001"], "Missing option '--reason'"),
        (["decisions", "cancel", "d-0001", "--reason", " "], "must not be empty"),
        (["decisions", "cancel", "d-0001", "--reason", "x"], "nothing to end"),
        (["rollback", "--reason", "x"], "name a decision, or --target"),
        (["rollback", "d-0001", "--target", "support", "--reason", "x"], "name a decision, or"),
        (["rollback", "--target", "support", "--reason", "x"], "nothing is in flight on support"),
        (["rollback", "d-0001", "--reason", "x", "--dispatch"], "needs PREFECT_API_URL"),
        (["decisions", "list", "--state", "flying"], "is not one of"),
        (["decisions", "approve", "d-0001", "--as", " "], "--as needs a name"),
    ],
)
def test_what_cannot_be_done_is_refused_with_code_2(
    terminal: Terminal, waiting: Store, arguments: list[str], message: str
) -> None:
    waiting("d-0001", State.CANCELLED)

    result = terminal.run(*arguments)

    assert result.exit_code == 2, result.output
    assert message in result.stderr


def test_a_target_that_another_run_acts_on_is_left_alone(
    terminal: Terminal, waiting: Store, equipment: Equipment
) -> None:
    now = waiting().created_at
    assert equipment.ledger.effects.acquire("support", "another", now=now, ttl_s=3600)

    result = terminal.run("decisions", "approve", "d-0001")

    assert result.exit_code == 1
    assert "another run is acting on support" in result.stderr
