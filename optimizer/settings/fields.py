"""What may stand at a place: the models and the field that the file's path leads to."""

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from optimizer.settings.model import Settings
from optimizer.settings.places import Place

Annotation = Any
"""What stands behind the colon of a field."""


def models_at(place: Place) -> list[type[BaseModel]]:
    """The models that may stand at a place; several where the file chooses by ``kind``."""
    models: list[type[BaseModel]] = [Settings]
    for step in place:
        if not isinstance(step, int):
            models = [
                found
                for model in models
                if step in model.model_fields
                for found in models_in(model.model_fields[step].annotation)
            ]
    return models


def fields_at(place: Place) -> list[FieldInfo]:
    """The fields that a place's last key may be."""
    while place and isinstance(place[-1], int):
        place = place[:-1]
    if not place:
        return []
    name = str(place[-1])
    models = models_at(place[:-1])
    return [model.model_fields[name] for model in models if name in model.model_fields]


def models_in(annotation: Annotation) -> list[type[BaseModel]]:
    """The models that an annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in {list, Union, UnionType, Annotated}:
        return [found for part in get_args(annotation) for found in models_in(part)]
    return []


def is_secret(place: Place) -> bool:
    """Whether what stands at the place must never be shown."""
    return any(SecretStr in _plain_types(field.annotation) for field in fields_at(place))


def is_text(place: Place) -> bool:
    """Whether only text may stand at the place, so that 123 is meant as text."""
    found = [_plain_types(field.annotation) for field in fields_at(place)]
    return bool(found) and all(types <= {str, SecretStr, type(None)} for types in found)


def is_leaf(place: Place) -> bool:
    """Whether a single value stands at the place, not a section or a list of them."""
    found = fields_at(place)
    return bool(found) and not any(models_in(field.annotation) for field in found)


def _plain_types(annotation: Annotation) -> set[Any]:
    if get_origin(annotation) in {Union, UnionType, Annotated}:
        return {found for part in get_args(annotation) for found in _plain_types(part)}
    return {annotation}
