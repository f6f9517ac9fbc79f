"""What a person may type into the run form, and what the form says of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from flows import parameters as forms
from flows.occasion import occasion
from optimizer.errors import ConfigError

FORMS = [
    form
    for form in vars(forms).values()
    if isinstance(form, type) and issubclass(form, BaseModel) and form is not BaseModel
]
NEEDED: dict[type[BaseModel], dict[str, Any]] = {
    forms.RolloutParameters: {"decision_id": "d-1"},
    forms.RollbackParameters: {"reason": "harm"},
    forms.ApproveParameters: {"decision_id": "d-1"},
}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_field_has_a_title_and_says_what_it_means(form: type[BaseModel]) -> None:
    schema = form.model_json_schema()

    for name, field in schema["properties"].items():
        assert field.get("title", name) != name, name
        assert field.get("description", "").endswith("."), name
    assert schema["title"]
    assert schema["description"].endswith(".")


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_field_nobody_knows_is_refused(form: type[BaseModel]) -> None:
    with pytest.raises(ValidationError, match="nobody_knows"):
        form(**NEEDED.get(form, {}), nobody_knows=1)


@pytest.mark.parametrize(
    ("form", "given"),
    [
        (forms.OptimizeParameters, {"as_of": "yesterday"}),
        (forms.OptimizeParameters, {"as_of": "2026-13-01T00:00:00Z"}),
        (forms.OptimizeParameters, {"targets": "chat"}),
        (forms.OptimizeParameters, {"dry_run": "perhaps"}),
        (forms.RolloutParameters, {}),
        (forms.RolloutParameters, {"decision_id": ""}),
        (forms.RollbackParameters, {"decision_id": "d-1"}),
        (forms.RollbackParameters, {"decision_id": "d-1", "reason": ""}),
        (forms.RollbackParameters, {"reason": "x" * 501}),
        (forms.ApproveParameters, {"decision_id": "d-1", "answer": "maybe"}),
        (forms.ApproveParameters, {"decision_id": "d-1", "actor": ""}),
        (forms.ReapParameters, {"silent_s": 60}),
        (forms.MaintainParameters, {"grains_days": 0}),
    ],
)
def test_what_makes_no_sense_is_refused(form: type[BaseModel], given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        form(**given)


@pytest.mark.parametrize("text", ["2026-03-02T08:00:00", "2026-03-02T10:00:00+02:00"])
def test_one_moment_has_one_text_and_without_a_zone_it_is_utc(text: str) -> None:
    form = forms.OptimizeParameters(as_of=text)

    assert form.as_of == datetime(2026, 3, 2, 8, tzinfo=UTC)
    assert form.as_of.isoformat() == "2026-03-02T08:00:00+00:00"


def test_the_future_is_refused_because_every_bake_time_would_be_over_there() -> None:
    moment = datetime(2026, 3, 2, 8, tzinfo=UTC)

    with pytest.raises(ConfigError, match="lies in the future"):
        occasion(forms.GuardParameters(as_of=moment + timedelta(days=365), clock=moment))
    assert occasion(forms.GuardParameters(as_of=moment, clock=moment)).as_of == moment
