"""How fresh the consent store is: a small file that the applier maps and writes, and workers map and read.

Native byte order, every number 64 bits and aligned, so that each is stored and read in one piece::

    0 magic   8, 16 boot id (its first 128 bits of SHA-256)   24 generation   32 restored (0 or 1)   40 partitions
    64 + 8 k: for partition k, CLOCK_MONOTONIC in nanoseconds at the start of the last proof that nothing was missing

The clock is the machine's, the same in every process; it stops at nothing and is never set.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

#: Below the state directory.
FILE_NAME: Final = "consent.fresh"

_MAGIC: Final = int.from_bytes(b"twfresh1", "little")
_MAX_PARTITIONS: Final = 128
_HEADER: Final = 8
_WORDS: Final = _HEADER + _MAX_PARTITIONS
_BYTES: Final = 8 * _WORDS
_SKEW_NS: Final = 1_000_000_000
_BOOT, _GENERATION, _RESTORED, _PARTITIONS = 1, 3, 4, 5


class FreshnessWriter:
    """The applier's side. Whatever an earlier process wrote is void as soon as this is made."""

    def __init__(self, path: Path, boot_id: str) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            # The same file is used again, so that readers which have it mapped stay connected.
            os.ftruncate(descriptor, _BYTES)
            self._map = mmap.mmap(descriptor, _BYTES)
        finally:
            os.close(descriptor)
        self._words = memoryview(self._map).cast("Q")
        self._words[_RESTORED] = 0
        for word in range(1, _WORDS):
            self._words[word] = 0
        self._words[_BOOT], self._words[_BOOT + 1] = _boot_words(boot_id)
        self._words[0] = _MAGIC

    def begin(self, partitions: int, generation: int) -> None:
        """Say that this generation of the store is being restored: nothing is fresh."""
        self._words[_RESTORED] = 0
        for partition in range(_MAX_PARTITIONS):
            self._words[_HEADER + partition] = 0
        self._words[_PARTITIONS] = partitions
        self._words[_GENERATION] = generation

    def prove(self, proofs: Mapping[int, int]) -> None:
        """Store for partitions the monotonic time in nanoseconds at which nothing was missing from them."""
        for partition, at_ns in proofs.items():
            self._words[_HEADER + partition] = at_ns

    def restored(self) -> None:
        """Say that the store is restored."""
        self._words[_RESTORED] = 1

    def withdraw(self) -> None:
        """Say that the store is not restored, before it is wiped or left."""
        self._words[_RESTORED] = 0

    def close(self) -> None:
        """Withdraw, and let go of the file."""
        self.withdraw()
        self._words.release()
        self._map.close()


class Freshness:
    """A reader's side. Where there is no file, or it is of another boot, nothing is restored."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot = _boot_words(boot_id)
        self._map: mmap.mmap | None = None
        self._words: memoryview | None = None

    @property
    def generation(self) -> int:
        """The number of the store's last rebuild, 0 where nothing is known."""
        words = self._valid()
        return 0 if words is None else words[_GENERATION]

    @property
    def restored(self) -> bool:
        """Whether the store has everything that was on the topic when the applier started."""
        words = self._valid()
        return words is not None and words[_RESTORED] == 1

    def staleness_seconds(self, now_monotonic_ns: int) -> float:
        """Return the age of the oldest partition's last proof; infinite while the store is not restored."""
        words = self._valid()
        if words is None or words[_RESTORED] != 1:
            return math.inf
        partitions = words[_PARTITIONS]
        if not 1 <= partitions <= _MAX_PARTITIONS:
            return math.inf
        proofs = words[_HEADER : _HEADER + partitions].tolist()
        oldest_ns = min(proofs)
        # A proof may be a little younger than the caller's look at the clock; any more, and it is of another clock.
        if not oldest_ns or max(proofs) > now_monotonic_ns + _SKEW_NS:
            return math.inf
        return max(now_monotonic_ns - oldest_ns, 0) / 1e9

    def close(self) -> None:
        """Let go of the file."""
        if self._words is not None:
            self._words.release()
            self._words = None
        if self._map is not None:
            self._map.close()
            self._map = None

    def _valid(self) -> memoryview | None:
        words = self._words or self._connect()
        if words is None or words[0] != _MAGIC or (words[_BOOT], words[_BOOT + 1]) != self._boot:
            return None
        return words

    def _connect(self) -> memoryview | None:
        try:
            descriptor = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            if os.fstat(descriptor).st_size != _BYTES:
                return None
            self._map = mmap.mmap(descriptor, _BYTES, access=mmap.ACCESS_READ)
        finally:
            os.close(descriptor)
        self._words = memoryview(self._map).cast("Q")
        return self._words


def _boot_words(boot_id: str) -> tuple[int, int]:
    digest = hashlib.sha256(boot_id.encode()).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:16], "little")
