"""Read the file and the environment into checked settings, and say where each problem stands."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from optimizer.errors import ConfigError
from optimizer.settings import domain
from optimizer.settings.environment import overlay
from optimizer.settings.model import Settings
from optimizer.settings.paths import beside
from optimizer.settings.places import dotted
from optimizer.settings.problems import checked
from optimizer.settings.yaml_text import parse

MAX_BYTES = 5 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Checked settings, where they came from, and a fingerprint of everything that shaped them.

    ``origins`` maps dotted paths that were set to ``file:line`` or the variable's name; ``path`` is
    absolute, and relative paths in the settings have been put below its directory.
    """

    settings: Settings
    path: Path
    fingerprint: str
    origins: Mapping[str, str]

    @property
    def folder(self) -> Path:
        """The directory that relative paths are relative to."""
        return self.path.parent


def load(path: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    """Settings from the file and the environment (None: the process's own).

    Raises:
        ConfigError: naming every problem with file, line, path, value and bound.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        msg = f"{path}: no such file; `llmopt config init` writes one to start from"
        raise ConfigError(msg) from None
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise ConfigError(msg) from error
    if len(data) > MAX_BYTES:
        msg = f"{path}: larger than {MAX_BYTES // 1024 // 1024} MiB; is it a configuration?"
        raise ConfigError(msg)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        msg = f"{path}:{line}: not UTF-8"
        raise ConfigError(msg) from None
    return load_text(text, path, os.environ if environment is None else environment)


def load_text(text: str, path: Path, environment: Mapping[str, str]) -> Loaded:
    """Settings from YAML text; ``path`` is what messages call it.

    Raises:
        ConfigError: as :func:`load`.
    """
    document = parse(text, path)
    origins = {place: f"{path}:{line}" for place, line in document.lines.items()}
    merged = overlay(document.values, environment, origins)
    settings = checked(merged, origins, path)
    domain.check(settings, origins, path)
    # Not resolved: a mounted configuration is often a link into a directory of another name.
    absolute = path.absolute()
    return Loaded(
        settings=beside(settings, absolute.parent),
        path=absolute,
        fingerprint=_fingerprint(merged),
        origins=MappingProxyType({dotted(place): origin for place, origin in origins.items()}),
    )


def _fingerprint(merged: Mapping[str, Any]) -> str:
    # Moments are the only values of YAML that JSON does not know.
    text = json.dumps(merged, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
