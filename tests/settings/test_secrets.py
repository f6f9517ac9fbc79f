"""A secret is in no message, no representation, and nothing that is shown."""

import json
from pathlib import Path

import pytest

from optimizer.errors import ConfigError
from optimizer.settings import load_text
from optimizer.settings.explain import difference, effective, masked_url

SECRET = "geheim-7719"
PATH = Path("/etc/llmopt/optimizer.yaml")
FILE = f"""
database: {{connection_string: "postgresql://u:{SECRET}@h/d?password={SECRET}"}}
integrations:
  sources:
    - kind: sql
      name: b
      url: "postgresql://u:{SECRET}@h/d"
      table: t
      cursor_column: c
      id_column: i
  notifiers:
    - {{kind: webhook, name: w, url: "https://h/{SECRET}", secret: {SECRET}}}
"""


def test_no_representation_holds_a_secret() -> None:
    loaded = load_text(FILE, PATH, {"OPTIMIZER_INTEGRATIONS__NOTIFIERS__0__SECRET": SECRET})

    shown = [repr(loaded), str(loaded.settings), loaded.settings.model_dump_json()]
    shown.append(json.dumps([[e.path, e.value, e.origin] for e in effective(loaded)]))
    shown.append(json.dumps(difference(load_text("", PATH, {}), loaded)))

    assert not [text for text in shown if SECRET in text]
    assert "postgresql://u:***@h/d" in shown[-1]


@pytest.mark.parametrize(
    "text",
    [
        f"database: {{conection_string: 'postgresql://u:{SECRET}@h/d'}}",
        f"database: 'postgresql://u:{SECRET}@h/d'",
        f"database: {{connection_string: [{SECRET}]}}",
        f"integrations: {{sources: '{SECRET}'}}",
        f"integrations: {{sources: [{SECRET}]}}",
        f"integrations: {{notifiers: [{{kind: webhook, name: w, url: {{x: {SECRET}}}}}]}}",
        f"integrations: {{notifiers: [{{kind: webhook, name: w, url: u, sekret: {SECRET}}}]}}",
        f"{SECRET}",
        f"a: 1\n{SECRET}: : {SECRET}",
        f"a: {SECRET}\n\tb: 1",
        f"a: '{SECRET}",
        f"a: !!{SECRET} 1".replace(SECRET, "int") + f"\nb: {{c: {SECRET}",
    ],
)
def test_no_message_holds_a_secret(text: str) -> None:
    with pytest.raises(ConfigError) as found:
        load_text(text, PATH, {})

    assert SECRET not in str(found.value)


@pytest.mark.parametrize(
    "variable",
    [
        "OPTIMIZER_DATABASE_CONNECTION_STRING",
        "OPTIMIZER_DATABASE__CONECTION_STRING",
        "OPTIMIZER_DATABASE__MAX_CONNECTIONS__X",
        "OPTIMIZER_DATABASE",
    ],
)
def test_no_message_about_a_variable_holds_a_secret(variable: str) -> None:
    with pytest.raises(ConfigError) as found:
        load_text("database: {max_connections: 2}", PATH, {variable: SECRET})

    assert SECRET not in str(found.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://u:{SECRET}@h:5/d?sslmode=x", "postgresql://u:***@h:5/d"),
        (f"postgresql://u:a@{SECRET}/@h/d", "postgresql://u:***@h/d"),
        (f"postgresql://{SECRET}", "postgresql://***"),
        (SECRET, "***"),
        ("sqlite:////srv/a.db", "sqlite:////srv/a.db"),
    ],
)
def test_a_database_is_shown_without_password_and_options(url: str, shown: str) -> None:
    assert masked_url(url) == shown
