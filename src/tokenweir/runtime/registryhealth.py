"""Tells people when the schema registry begins to fail, from time to time while it does, and when it answers again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log

_REMIND_SECONDS: Final = 60.0


class RegistryHealth:
    """Logs the faults of a registry without a flood of lines. May be shared by threads.

    Args:
        stream: The stream in whose name it is told; empty for all.
        monotonic: A clock in seconds that never goes back.
    """

    def __init__(self, stream: str, monotonic: Callable[[], float]) -> None:
        self._stream = stream
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failing_since: float | None = None
        self._told_at = 0.0
        self._attempts = 0

    def failed(self, kind: str) -> None:
        """Note a failure."""
        now = self._monotonic()
        with self._lock:
            if self._failing_since is None:
                self._failing_since, self._attempts = now, 0
            elif now - self._told_at < _REMIND_SECONDS:
                self._attempts += 1
                return
            self._attempts += 1
            self._told_at = now
            since, attempts = self._failing_since, self._attempts
        log(Event.REGISTRY_FAILED, kind=kind, stream=self._stream or None, attempts=attempts, seconds=now - since)

    def answered(self) -> None:
        """Note an answer, be it a refusal."""
        with self._lock:
            since, self._failing_since = self._failing_since, None
        if since is not None:
            log(Event.REGISTRY_RECOVERED, seconds=self._monotonic() - since)
