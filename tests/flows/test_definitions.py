"""prefect.yaml: what is scheduled, and that it can be run."""

import importlib
from typing import Any

import pytest
import yaml
from prefect import Flow

from house import ROOT

DEFINITIONS: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
ENTRIES: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in DEFINITIONS["deployments"]}

CANCEL = {"limit": 1, "collision_strategy": "CANCEL_NEW"}
QUEUE = {"limit": 1, "collision_strategy": "ENQUEUE"}
EXPECTED = {
    # name: flow, cron, and what happens when one is running already
    "hourly": ("optimize", "0 * * * *", CANCEL),
    "manual": ("optimize", None, QUEUE),
    "guard": ("guard", "*/5 * * * *", CANCEL),
    "rollout": ("rollout", None, None),
    "rollback": ("rollback", None, None),
    "approve": ("approve", None, None),
    "reap": ("reap", "* * * * *", CANCEL),
    "maintain": ("maintain", "0 2 * * *", CANCEL),
    "backtest": ("backtest", None, QUEUE),
}


def test_every_deployment_is_known_here() -> None:
    assert set(ENTRIES) == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_entrypoint_is_a_module_and_a_flow_of_the_expected_name(name: str) -> None:
    module, _, attribute = ENTRIES[name]["entrypoint"].rpartition(".")

    flow = getattr(importlib.import_module(module), attribute)

    assert isinstance(flow, Flow)
    assert flow.name == EXPECTED[name][0]
    assert flow.isasync
    assert not flow.persist_result


@pytest.mark.parametrize("name", EXPECTED)
def test_schedule_and_limit_are_as_expected(name: str) -> None:
    entry, (_, cron, limit) = ENTRIES[name], EXPECTED[name]

    assert [item["cron"] for item in entry["schedules"]] == ([] if cron is None else [cron])
    assert all(item["timezone"] == "UTC" for item in entry["schedules"])
    assert entry.get("concurrency_limit") == limit
    assert entry["enforce_parameter_schema"]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_reaper_finds_every_run_by_its_tag(name: str) -> None:
    from flows.reap import TAG  # noqa: PLC0415 - importing Prefect takes a second

    assert TAG in ENTRIES[name]["tags"]


@pytest.mark.parametrize("name", EXPECTED)
def test_the_form_of_a_deployment_is_one_object_with_a_description(name: str) -> None:
    module, _, attribute = ENTRIES[name]["entrypoint"].rpartition(".")
    flow = getattr(importlib.import_module(module), attribute)

    schema = flow.parameters.model_dump()

    assert list(schema["properties"]) == ["parameters"]
    fields = schema["definitions"][f"{attribute.capitalize()}Parameters"]["properties"]
    assert all(field["title"] and field["description"] for field in fields.values())
