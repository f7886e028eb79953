"""What one caller may cost: a bucket of requests for each, with room for a bounded number of callers."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MOST_CALLERS: Final = 10_000


class Buckets:
    """Token buckets by caller: ``per_minute`` requests at once, refilled steadily.

    Who was not seen for longest is forgotten first; a forgotten caller begins with a full bucket, so a flood of made-up
    callers gains nothing that it would not have anyway.

    Args:
        per_minute: Requests a minute.
        monotonic: Seconds of a clock that never steps.
    """

    def __init__(self, per_minute: int, monotonic: Callable[[], float]) -> None:
        self._size = float(per_minute)
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, caller: str) -> float:
        """Take one request; return 0, or the seconds until there is room for one."""
        now = self._monotonic()
        level, since = self._buckets.pop(caller, (self._size, now))
        level = min(self._size, level + (now - since) * self._size / 60)
        wait = 0.0 if level >= 1 else (1 - level) * 60 / self._size
        self._buckets[caller] = (level - 1 if level >= 1 else level, now)
        if len(self._buckets) > MOST_CALLERS:
            self._buckets.popitem(last=False)
        return wait
