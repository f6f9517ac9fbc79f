"""Tells by appending a line to a file, so that nothing happens in silence."""

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from optimizer.errors import UnavailableError


class FileNotifier:
    """Appends one JSON object a line: at, severity, title, body, decision_id."""

    def __init__(self, *, path: Path, clock: Callable[[], datetime]) -> None:
        """Nothing is written before the first message; ``clock`` gives the present time, aware."""
        self._path = path
        self._clock = clock

    def notify(self, *, title: str, body: str, severity: str, decision_id: str | None) -> None:
        """Append the message.

        Raises:
            UnavailableError: the file cannot be written.
        """
        message = {
            "at": self._clock().astimezone(UTC).isoformat(),
            "severity": severity,
            "title": title,
            "body": body,
            "decision_id": decision_id,
        }
        line = json.dumps(message, ensure_ascii=False) + "\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # One write to a file opened for appending: lines of two processes do not mix.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                os.write(descriptor, line.encode(errors="replace"))
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UnavailableError(f"cannot write to {self._path}: {error.strerror}") from error
