"""Open the installation's equipment once per process and configuration."""

import hashlib
import os
from datetime import datetime
from pathlib import Path

from optimizer import settings, wiring
from optimizer.loop.equipment import Equipment
from optimizer.loop.tuning import tuned

CONFIG_VARIABLE = "LLMOPT_CONFIG"


class PinnedClock:
    """The real time, unless a simulated world pinned another present."""

    def __init__(self) -> None:
        """Unpinned."""
        self.pinned: datetime | None = None

    def __call__(self) -> datetime:
        """The present, aware UTC."""
        return self.pinned or wiring.utc_now()


_clock = PinnedClock()
_open: dict[str, Equipment] = {}


def config_path(config_file: Path | None) -> Path:
    """The configuration a run works with: named, else LLMOPT_CONFIG, else optimizer.yaml."""
    return config_file or Path(os.environ.get(CONFIG_VARIABLE, "optimizer.yaml"))


def equipment(config_file: Path | None, clock: datetime | None = None) -> Equipment:
    """The equipment for the configuration as it stands now.

    A run reads the configuration at its start; what another run of this process already opened for
    the very same text is used again, because opening checks the database's migrations; arms that
    tuning asked for are read anew. ``clock``
    pins the present for adapters that stamp times.

    Raises:
        ConfigError: the file is missing or wrong.
        UnavailableError: the database does not answer.
    """
    _clock.pinned = clock
    loaded = settings.load(config_path(config_file))
    key = hashlib.sha256(f"{loaded.path.resolve()}:{loaded.fingerprint}".encode()).hexdigest()
    if key not in _open:
        _open[key] = wiring.equip(loaded, clock=_clock)
    return tuned(_open[key])


def close_all() -> None:
    """Give connections back; the next run opens them again."""
    while _open:
        wiring.close(_open.popitem()[1])
