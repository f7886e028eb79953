"""A token bucket: so many at once, and so many per second in the long run."""

from __future__ import annotations

from collections.abc import Callable


class TokenBucket:
    """Says whether one more may be done now. For one thread.

    Args:
        per_second: How fast it fills.
        size: How much it holds; it begins full.
        monotonic: A clock in seconds that never goes back.
    """

    def __init__(self, per_second: float, size: float, monotonic: Callable[[], float]) -> None:
        self._per_second = per_second
        self._size = size
        self._monotonic = monotonic
        self._level = size
        self._at_seconds = monotonic()

    def take(self) -> bool:
        """Take a token if there is one."""
        now = self._monotonic()
        self._level = min(self._level + (now - self._at_seconds) * self._per_second, self._size)
        self._at_seconds = now
        if self._level < 1:
            return False
        self._level -= 1
        return True
