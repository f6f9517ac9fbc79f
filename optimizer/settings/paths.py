"""Relative paths: they are relative to the configuration file's directory, never to the caller's.

So the same file means the same places from every working directory: for a person, a schedule, and
a worker alike.
"""

import re
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, SecretStr

from optimizer.settings.model import Settings
from optimizer.settings.places import Raw

M = TypeVar("M", bound=BaseModel)

_SQLITE_FILE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|file:|:memory:|\?|$)([^?]+)(\?.*)?")


def beside(settings: Settings, folder: Path) -> Settings:
    """The settings with every relative path, and every relative SQLite file, put below ``folder``.

    ``~`` is the home directory.
    """
    return _model(settings, folder)


def _model(model: M, folder: Path) -> M:
    changes = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        moved = _moved(value, folder)
        if moved is not value:
            changes[name] = moved
    return model.model_copy(update=changes) if changes else model


def _moved(value: Raw, folder: Path) -> Raw:
    if isinstance(value, Path):
        return folder / value.expanduser()
    if isinstance(value, SecretStr):
        return SecretStr(sqlite_beside(value.get_secret_value(), folder))
    if isinstance(value, BaseModel):
        return _model(value, folder)
    if isinstance(value, list) and any(isinstance(item, BaseModel) for item in value):
        return [_moved(item, folder) for item in value]
    return value


def sqlite_beside(url: str, folder: Path) -> str:
    """The URL, with a relative SQLite file put below ``folder``; any other as it is.

    Examples:
        >>> sqlite_beside("sqlite:///a.db?mode=ro", Path("/etc/llmopt"))
        'sqlite:////etc/llmopt/a.db?mode=ro'
        >>> sqlite_beside("sqlite:////srv/a.db", Path("/etc/llmopt"))
        'sqlite:////srv/a.db'
    """
    found = _SQLITE_FILE.fullmatch(url)
    if found is None:
        return url
    return f"{found[1]}{folder / Path(found[2]).expanduser()}{found[3] or ''}"
