"""The lock of a state directory: at any time one process on this machine acts for the gateway that has it.

``run`` holds it for as long as it lives. A replay without a gateway beside it and ``offsets set`` hold it too, and both
end by themselves. Whoever takes it writes into the file what it is, its process id and its engine, so that a replay
that waits for consent can tell whether the lock is to be had some time, or belongs to a gateway whose consent it may
use, and a refusal can name the process.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final, NamedTuple

from tokenweir.errors import RefusedError

FILE_NAME: Final = "lock"
_PASSING: Final = "passing"
_GATEWAY: Final = "gateway"


class Holder(NamedTuple):
    """Who took a lock last, as far as it has said so; a process of an older version says nothing.

    Attributes:
        passing: It ends by itself, and is no gateway.
        pid: Its process id, None if it did not say.
        engine: Whose consent store a gateway keeps, "" if it did not say.
    """

    passing: bool = False
    pid: int | None = None
    engine: str = ""

    @property
    def words(self) -> str:
        """The process in words, to be put into a sentence."""
        return "another process" if self.pid is None else f"process {self.pid}"


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


def try_lock(lock: IO[str], *, passing: bool, engine: str = "") -> bool:
    """Take a lock until its file is closed, unless another process has it; return whether that is done.

    ``passing`` says that whoever takes it ends by itself, ``engine`` whose consent store a gateway keeps.
    """
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    # Only who holds the lock may change what stands in it; it stays there when its writer ends.
    lock.truncate(0)
    lock.write(f"{_PASSING if passing else _GATEWAY} {os.getpid()} {engine}")
    lock.flush()
    return True


def holder(lock: IO[str]) -> Holder:
    """Return who took a lock last."""
    lock.seek(0)
    kind, _, rest = lock.read().partition(" ")
    pid, _, engine = rest.partition(" ")
    return Holder(kind == _PASSING, int(pid) if pid.isascii() and pid.isdigit() else None, engine)


@contextmanager
def held_in_passing(directory: Path) -> Iterator[None]:
    """Hold the lock of a state directory, so that no gateway starts on it meanwhile.

    Raises:
        RefusedError: Somebody else holds it, or the directory cannot be used.
    """
    with open_lock(directory) as lock:
        if not try_lock(lock, passing=True):
            raise RefusedError(
                f"{directory}: a gateway, or a replay, uses this state directory ({holder(lock).words}): stop it first"
            )
        yield
