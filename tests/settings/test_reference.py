from pathlib import Path

import pytest
from pydantic import BaseModel

from house import ROOT
from optimizer.settings import load
from optimizer.settings.explain import difference, effective
from optimizer.settings.fields import models_in
from optimizer.settings.load import load_text
from optimizer.settings.model import Settings
from optimizer.settings.reference import PAGE_COMMAND, page, schema

PATH = Path("/etc/llmopt/optimizer.yaml")


def every_model(model: type[BaseModel]) -> set[type[BaseModel]]:
    inner = {m for f in model.model_fields.values() for m in models_in(f.annotation)}
    return {model}.union(*(every_model(found) for found in inner))


def test_the_page_is_what_the_command_makes() -> None:
    written = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")

    assert written == page(), f"stale: run `{PAGE_COMMAND}`"


@pytest.mark.parametrize("model", sorted(every_model(Settings), key=str))
def test_every_setting_is_described_and_documented(model: type[BaseModel]) -> None:
    text = page()

    for name, field in model.model_fields.items():
        assert field.description, (model.__name__, name)
        if not models_in(field.annotation) or model.__name__ == "PolicySettings":
            assert f"| `{name}` |" in text


def test_the_schema_knows_every_section_and_refuses_unknown_keys() -> None:
    described = schema()

    assert set(described["properties"]) == set(Settings.model_fields)
    assert described["additionalProperties"] is False
    assert described["$schema"].startswith("https://json-schema.org/")


@pytest.mark.parametrize(
    "file", [ROOT / "examples" / "optimizer.yaml", ROOT / "optimizer" / "settings" / "start.yaml"]
)
def test_the_shipped_files_are_valid(file: Path) -> None:
    assert load(file, {}).settings.targets


def test_each_value_in_force_says_where_it_comes_from() -> None:
    text = "service:\n  port: 4300\ndefaults:\n  safety: {quality_min: 0.5}\n"

    found = {e.path: e for e in effective(load_text(text, PATH, {"OPTIMIZER_SERVICE__HOST": "h"}))}

    assert found["service.port"].origin == f"{PATH}:2"
    assert found["service.host"].origin == "OPTIMIZER_SERVICE__HOST"
    assert found["database.max_connections"].origin == "default"
    assert found["defaults.safety.quality_min"].origin == f"{PATH}:4"
    assert found["defaults.safety.failure_rate_max"].value == 0.05
    assert found["defaults.goal.metric"].value == "cost_usd"
    assert found["defaults.cooldown"].value == "30m"


def test_a_variable_that_holds_a_section_is_the_origin_of_all_in_it() -> None:
    loaded = load_text("", PATH, {"OPTIMIZER_SERVICE": "{port: 4300}"})

    found = {e.path: e for e in effective(loaded)}
    assert found["service.port"].origin == "OPTIMIZER_SERVICE"


TARGET = """
integrations: {gateways: [{kind: file, name: files, directory: out}]}
targets:
  - {name: a, baseline: x, arms: [{name: x, model: m}], safety: {quality_min: 0.5}}
  - {name: b, baseline: x, arms: [{name: x, model: m}]}
"""


def test_a_target_shows_only_the_limits_it_sets_itself() -> None:
    paths = [e.path for e in effective(load_text(TARGET, PATH, {}))]

    own = [path for path in paths if path.startswith("targets[0].s")]
    assert own == ["targets[0].safety.quality_min"]
    assert "targets[0].gateway" in paths


def test_targets_are_compared_by_name_and_not_by_their_order() -> None:
    head, _, items = TARGET.partition("targets:\n")
    first, second = items.splitlines()
    swapped = f"{head}targets:\n{second}\n{first}\n".replace("quality_min: 0.5", "quality_min: 0.6")

    changes = difference(load_text(TARGET, PATH, {}), load_text(swapped, PATH, {}))

    assert changes == [("targets[a].safety.quality_min", 0.5, 0.6)]


def test_nothing_differs_from_itself() -> None:
    loaded = load_text(TARGET, PATH, {})

    assert difference(loaded, loaded) == []
