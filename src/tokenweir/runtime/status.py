"""The life signs of a child process: a small memory-mapped file that survives its death.

Native byte order, three numbers of 64 bits: the process id, CLOCK_MONOTONIC in nanoseconds of the last heartbeat, and
the state. One aligned word is stored in one piece, so that a reader needs no lock.
"""

from __future__ import annotations

import mmap
import os
import time
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

_WORDS: Final = 3


class ChildState(IntEnum):
    """How far a child has come."""

    STARTING = 0
    WAITING = 1  # has joined, waits for consent or for partitions to be taken over
    RUNNING = 2


class Sign(NamedTuple):
    """What a child's file says."""

    pid: int
    heartbeat_ns: int
    state: ChildState


class StatusWriter:
    """The child's side."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, 8 * _WORDS)
            self._words = memoryview(mmap.mmap(descriptor, 8 * _WORDS)).cast("Q")
        finally:
            os.close(descriptor)
        self._words[0], self._words[2] = os.getpid(), ChildState.STARTING
        self.beat()

    def beat(self) -> None:
        """Say that the loop turns."""
        self._words[1] = time.monotonic_ns()

    def state(self, state: ChildState) -> None:
        """Say how far the child has come."""
        self._words[2] = state


def read_sign(path: Path) -> Sign | None:
    """Return what a child's file says, or None where there is none yet."""
    try:
        words = memoryview(path.read_bytes()).cast("Q")
    except (FileNotFoundError, TypeError):
        return None
    if len(words) != _WORDS or words[2] not in list(ChildState):
        return None
    return Sign(words[0], words[1], ChildState(words[2]))
