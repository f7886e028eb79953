"""Time as the running gateway sees it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks: one for people, one that never steps."""

    def now_ms(self) -> int:
        """Wall clock in milliseconds of the epoch."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC in nanoseconds, which is the same in all processes of the machine and never steps."""


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Wall clock in milliseconds of the epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC in nanoseconds."""
        return time.monotonic_ns()
