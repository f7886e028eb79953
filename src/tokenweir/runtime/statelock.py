"""The lock of a state directory: at any time one process on this machine acts for the gateway that has it.

``run`` holds it for as long as it lives. A replay without a gateway beside it and ``offsets set`` hold it too, and both
end by themselves. Whoever is one of those leaves a mark in the file, so that a replay that waits for consent can tell
whether the lock is to be had some time, or belongs to a gateway whose consent it may use.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from tokenweir.errors import RefusedError

FILE_NAME: Final = "lock"
#: It stays in the file when its writer ends; a gateway empties the file.
_MARK: Final = "replay"


def open_lock(directory: Path) -> IO[str]:
    """Return the lock of a state directory, which is made if it is missing; nothing is locked yet.

    Raises:
        RefusedError: The directory cannot be used.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return (directory / FILE_NAME).open("a+")
    except OSError as error:
        raise RefusedError(f"{directory}: the state directory cannot be used ({error.strerror})") from None


def try_lock(lock: IO[str], *, passing: bool) -> bool:
    """Take a lock until its file is closed, unless another process has it; return whether that is done.

    ``passing`` says that whoever takes it ends by itself.
    """
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Only who holds the lock may change what stands in it.
    lock.truncate(0)
    if passing:
        lock.write(_MARK)
        lock.flush()
    return True


def is_passing(lock: IO[str]) -> bool:
    """Whether who held the lock last ends by itself, and is no gateway."""
    lock.seek(0)
    return lock.read() == _MARK


@contextmanager
def held_in_passing(directory: Path) -> Iterator[None]:
    """Hold the lock of a state directory, so that no gateway starts on it meanwhile.

    Raises:
        RefusedError: Somebody else holds it, or the directory cannot be used.
    """
    with open_lock(directory) as lock:
        if not try_lock(lock, passing=True):
            raise RefusedError(f"{directory}: a gateway, or a replay, uses this state directory: stop it first")
        yield
