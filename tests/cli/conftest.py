"""An installation on disk: a real ledger, real gateway files, and a terminal to drive it."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from optimizer import settings, wiring
from optimizer.decision import Decision, Event, State
from optimizer.evidence import DecisionId, Impact, ProposalId
from optimizer.loop.equipment import Acting, Equipment
from optimizer.loop.reconcile import reconcile
from terminal import Terminal

CONFIG = """
database: {connection_string: "sqlite:///ledger.db", spool_directory: spool}
integrations:
  sources: [{kind: file, name: calls, paths: ["logs/*.jsonl"]}]
  gateways: [{kind: file, name: files, directory: allocations}]
  notifiers: [{kind: file, name: told, path: told.jsonl}]
targets:
  - name: support
    baseline: large
    approval: {required: true}
    arms:
      - {name: large, model: m-large}
      - {name: small, model: m-small}
"""


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.delenv("LLMOPT_CONFIG", raising=False)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    (tmp_path / "logs").mkdir()
    (tmp_path / "optimizer.yaml").write_text(CONFIG)
    return Terminal(folder=tmp_path)


@pytest.fixture
def equipment(terminal: Terminal) -> Iterator[Equipment]:
    """The same installation, opened beside the commands; its baseline is published."""
    opened = wiring.equip(settings.load(terminal.folder / "optimizer.yaml", {}))
    now = datetime.now(UTC)  # noqa: TID251 - commands act now
    reconcile(opened, acting=Acting(actor="test", run_id="first", now=now))
    yield opened
    wiring.close(opened)


@pytest.fixture
def waiting(equipment: Equipment) -> Callable[..., Decision]:
    """Stores a decision that waits for a person, and gives it back."""

    def store(
        name: str = "d-0001",
        state: State = State.AWAITING_APPROVAL,
        *,
        expected: Impact = Impact(cost_reduction_pct=40.0),  # noqa: B008 - frozen
        **fields: Any,  # noqa: ANN401 - fields of a decision
    ) -> Decision:
        now = datetime.now(UTC)  # noqa: TID251 - commands act now
        decision = Decision(
            id=DecisionId(name),
            proposal_id=ProposalId(f"p-{name}"),
            target="support",
            strategy="cost_performance",
            baseline="large",
            candidate="small",
            rationale="small is cheaper",
            expected=expected,
            created_at=now,
            created_by="test",
            config_hash="0",
            state=state,
            approval_asked_at=now,
            salt=name,
            **fields,
        )
        event = Event(
            decision_id=decision.id,
            seq=-1,
            at=now,
            kind="transition",
            from_state=State.VALIDATING,
            to_state=state,
            actor="test",
            reason="approval is required",
        )
        assert equipment.ledger.decisions.create(decision, [event])
        return decision

    return store
