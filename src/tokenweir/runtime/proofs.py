"""Proofs that nothing is missing from the consent store: answers of the broker, compared with what is applied.

An answer says where a partition ended at some time after the question was asked. As soon as the applied position has
reached that end, everything that was on the topic when the question was asked is in the store: the partition is as
fresh as the *start* of the round trip.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

# Answers that may wait for the position to reach them: with one a second, more than may ever be of use.
_MAX_PENDING: Final = 16


class FreshnessProofs:
    """The answers that are still to be reached, and the newest proof of each partition. Times are monotonic ns."""

    def __init__(self, partitions: int) -> None:
        self._pending: list[deque[tuple[int, int]]] = [deque(maxlen=_MAX_PENDING) for _ in range(partitions)]
        self._proved_ns = [0] * partitions

    @property
    def oldest_ns(self) -> int:
        """The time at which nothing was missing from any partition, 0 if a partition has no proof yet."""
        return min(self._proved_ns, default=0)

    def hear(self, started_ns: int, high: Mapping[int, int], stable: Mapping[int, int]) -> None:
        """Take in the high watermarks and last stable offsets of a round trip that began at ``started_ns``.

        An answer whose last stable offset lies below the high watermark proves nothing: what is not decided between
        them may still become a withdrawal.
        """
        for partition, pending in enumerate(self._pending):
            if stable[partition] >= high[partition]:
                pending.append((started_ns, high[partition]))

    def prove(self, position: Sequence[int]) -> dict[int, int]:
        """Return the new proofs, by partition, now that everything below ``position`` is applied."""
        proofs: dict[int, int] = {}
        for partition, pending in enumerate(self._pending):
            while pending and pending[0][1] <= position[partition]:
                proofs[partition] = self._proved_ns[partition] = pending.popleft()[0]
        return proofs
