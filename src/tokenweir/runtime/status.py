"""The life signs of a child process: a small memory-mapped file that survives its death.

Native byte order, numbers of 64 bits: process id, CLOCK_MONOTONIC in nanoseconds of the last heartbeat, state, phase,
committed transactions, then on which records of the batch the engine works (the first one's position and how many),
and partition and offset of each record of the batch. One aligned word is stored in one piece, so that a reader needs
no lock; what belongs together is read only once the writer has died or hangs.
"""

from __future__ import annotations

import mmap
import os
import time
from array import array
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

#: The records of a batch at most.
MAX_BATCH_RECORDS: Final = 10_000

_PID, _HEARTBEAT, _STATE, _PHASE, _COMMITS, _FIRST, _COUNT, _HEADER = range(8)
_WORDS: Final = _HEADER + 2 * MAX_BATCH_RECORDS


class ChildState(IntEnum):
    """How far a child has come."""

    STARTING = 0
    BLOCKED = 1  # waits for a transaction that should have been decided long ago
    WAITING = 2  # has joined, waits for consent or for partitions to be taken over
    RUNNING = 3


class Phase(IntEnum):
    """What a worker is doing, as far as it matters when it dies of it."""

    OTHER = 0
    POLL = 1  # In the Kafka client, which unpacks what the broker sends.
    ENGINE = 2  # On the records that are marked.


class Place(NamedTuple):
    """Where a record of the stream's source topic is."""

    partition: int
    offset: int


class Sign(NamedTuple):
    """What a child's file says.

    Attributes:
        pid: Whose file it is.
        heartbeat_ns: When it last showed that it goes on, on the monotonic clock.
        state: How far it has come.
        phase: What it is doing.
        commits: The transactions with records that it has committed.
        records: The records that the engine works on; none in another phase.
    """

    pid: int
    heartbeat_ns: int
    state: ChildState
    phase: Phase = Phase.OTHER
    commits: int = 0
    records: tuple[Place, ...] = ()


class StatusWriter:
    """The child's side."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # Without blocks of its own the file could lose its ground on a full disk: SIGBUS at any later mark.
            os.posix_fallocate(descriptor, 0, 8 * _WORDS)
            self._words = memoryview(mmap.mmap(descriptor, 8 * _WORDS)).cast("Q")
        finally:
            os.close(descriptor)
        self._words[_PHASE] = Phase.OTHER
        self._words[_COMMITS] = 0
        self._words[_STATE] = ChildState.STARTING
        self._words[_PID] = os.getpid()
        self.beat()

    def beat(self) -> None:
        """Say that the loop turns."""
        self._words[_HEARTBEAT] = time.monotonic_ns()

    def state(self, state: ChildState) -> None:
        """Say how far the child has come."""
        self._words[_STATE] = state

    def phase(self, phase: Phase) -> None:
        """Say what the child is going to do."""
        self._words[_HEARTBEAT] = time.monotonic_ns()
        self._words[_PHASE] = phase

    def committed(self) -> None:
        """Say that one more transaction with records is committed."""
        self._words[_COMMITS] += 1

    def batch(self, partitions: Sequence[int], offsets: Sequence[int]) -> None:
        """Say which records the engine is given: the partition and the offset of each."""
        flat = array("Q", bytes(16 * len(offsets)))
        flat[::2] = array("Q", partitions)
        flat[1::2] = array("Q", offsets)
        self._words[_HEADER : _HEADER + len(flat)] = memoryview(flat)

    def records(self, first: int, count: int) -> None:
        """Say on which records of the batch the engine works from now on: so many from this position on."""
        words = self._words
        words[_HEARTBEAT] = time.monotonic_ns()
        words[_FIRST] = first
        words[_COUNT] = count


def read_sign(path: Path) -> Sign | None:
    """Return what a child's file says, or None where there is none yet."""
    try:
        words = memoryview(path.read_bytes()).cast("Q")
    except (FileNotFoundError, TypeError):
        return None
    if len(words) != _WORDS or words[_STATE] not in list(ChildState) or words[_PHASE] not in list(Phase):
        return None
    phase = Phase(words[_PHASE])
    return Sign(
        words[_PID],
        words[_HEARTBEAT],
        ChildState(words[_STATE]),
        phase,
        words[_COMMITS],
        _records(words) if phase is Phase.ENGINE else (),
    )


def _records(words: memoryview[int]) -> tuple[Place, ...]:
    first, count = words[_FIRST], words[_COUNT]
    if first + count > MAX_BATCH_RECORDS:
        return ()
    starts = range(_HEADER + 2 * first, _HEADER + 2 * (first + count), 2)
    return tuple(Place(words[start], words[start + 1]) for start in starts)
