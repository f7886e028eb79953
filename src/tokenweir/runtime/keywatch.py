"""Whether a running gateway may still open its keyset: its provider is asked again and again.

The roots are in the memory of workers, where no provider can take them back. So a short process of its own opens the
keyset every so often and ends; its end says what the provider said. A no stops the gateway at once, silence after a
while. A KEK in a file is not asked again: who may delete the file may stop the gateway.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Final

from tokenweir.config.models import KeysSection
from tokenweir.runtime.endings import ExitCode
from tokenweir.telemetry.events import Event
from tokenweir.telemetry.logs import log

#: More than a keyset of many roots takes where every call is slow.
_OPENING_SECONDS: Final = 180.0
_RETRY_SECONDS: Final = 60.0


class KeyWatch:
    """Asks the provider of the KEK; the supervisor gives it a turn five times a second."""

    def __init__(self, section: KeysSection, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        """Begin with a KEK that has just opened the keyset; ``start`` starts a process that opens it again."""
        self._watched = section.kek.file is None
        self._recheck_seconds = section.kek_recheck_seconds
        self._grace_seconds = section.kek_grace_seconds
        self._start = start
        self._process: subprocess.Popen[bytes] | None = None
        self._asked_at = 0.0
        self._confirmed_at = time.monotonic()
        self._next_at = self._confirmed_at + self._recheck_seconds
        self._failures = 0

    def confirmed(self) -> bool:
        """Whether the last answer was yes."""
        return self._failures == 0

    def unconfirmed_seconds(self) -> float:
        """Return the time since the last yes; 0 for a KEK that is not asked."""
        return time.monotonic() - self._confirmed_at if self._watched else 0.0

    def turn(self) -> bool:
        """Do what is due; return whether the gateway may go on."""
        if not self._watched:
            return True
        now = time.monotonic()
        if self._process is None:
            if now >= self._next_at:
                self._asked_at, self._process = now, self._start()
        elif (code := self._ended(self._process, now)) is not None:
            self._process = None
            if not self._answered(code, now):
                return False
        if self._failures and now - self._confirmed_at > self._grace_seconds:
            self._tell(Event.KEK_LOST, "unreachable")
            print(  # noqa: T201 - for the person who starts it
                f"error: the KEK has not opened the keyset for {self.unconfirmed_seconds():.0f} seconds, which is more "
                "than keys.kek_grace_seconds; the gateway stops, and starts again when its provider answers",
                file=sys.stderr,
            )
            return False
        return True

    def close(self) -> None:
        """End a process that still asks."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _ended(self, process: subprocess.Popen[bytes], now: float) -> int | None:
        """Return the exit code of the process; one that hangs is killed, and has not got an answer."""
        code = process.poll()
        if code is None and now - self._asked_at > _OPENING_SECONDS:
            process.kill()
            process.wait()
            return ExitCode.UNSERVED
        return code

    def _answered(self, code: int, now: float) -> bool:
        """Note an answer; return whether the gateway may go on."""
        if code == ExitCode.REFUSED:
            self._tell(Event.KEK_LOST, "refused")  # The process has said to its person what the provider said.
            return False
        if code == ExitCode.DONE:
            if self._failures:
                log(Event.KEK_RECOVERED, seconds=self.unconfirmed_seconds())
            self._failures, self._confirmed_at, self._next_at = 0, self._asked_at, now + self._recheck_seconds
        else:
            self._failures += 1
            self._next_at = now + min(self._recheck_seconds, _RETRY_SECONDS)
            log(Event.KEK_SILENT, attempts=self._failures, seconds=self.unconfirmed_seconds())
        return True

    def _tell(self, event: Event, reason: str) -> None:
        log(event, reason=reason, seconds=self.unconfirmed_seconds())
