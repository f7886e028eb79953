"""Tells, after a reader's death, whether it died inside of LMDB, as a damaged page may end the process that reads it.

Each reader has a file ``readers/{pid}-{random}`` in the store's directory, locked (flock(2)) for as long as it lives
and mapped, so that its last word survives a SIGSEGV: the identity of the data file while LMDB runs, and 0 otherwise.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

#: Below the store's directory.
DIRECTORY: Final = "readers"

_BYTES: Final = 8
_NAMELESS: Final = ".new"


class ReaderSign:
    """The reader's side. One per process that reads the store; it ends with the process, or by :meth:`close`."""

    def __init__(self, directory: Path) -> None:
        """Make the file of this reader.

        Args:
            directory: The store's directory, which is there.

        Raises:
            OSError: The disk does not take it.
        """
        (directory / DIRECTORY).mkdir(mode=0o700, exist_ok=True)
        self._path = directory / DIRECTORY / f"{os.getpid()}-{secrets.token_hex(8)}"
        # It gets its name when it is complete and locked, so that nobody takes it for that of a dead process.
        nameless = self._path.with_suffix(_NAMELESS)
        self._descriptor = os.open(nameless, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            os.posix_fallocate(self._descriptor, 0, _BYTES)
            self._words = memoryview(mmap.mmap(self._descriptor, _BYTES)).cast("Q")
            nameless.rename(self._path)
        except OSError:
            nameless.unlink(missing_ok=True)
            os.close(self._descriptor)
            raise

    def enter(self, data_inode: int) -> None:
        """Say that LMDB is going to read the data file of this identity."""
        self._words[0] = data_inode

    def leave(self) -> None:
        """Say that LMDB came back."""
        self._words[0] = 0

    def close(self) -> None:
        """Remove the file: this reader reads no more."""
        self._words.release()
        self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


def died_inside(directory: Path, data_inode: int, pid: int | None = None) -> bool:
    """Whether a reader that is dead, of any process or of one, was reading the data file of this identity when it died.

    A reader that was killed from outside at that very moment is taken for one that damage has killed.
    """
    # The identity 0 is that of no file, and the word of a reader that read none.
    return data_inode != 0 and any(
        word == data_inode for path, word in _dead(directory) if pid is None or _pid_of(path) == pid
    )


def forget_the_dead(directory: Path) -> None:
    """Remove the files of dead readers."""
    for path, _word in _dead(directory):
        path.unlink(missing_ok=True)


def _dead(directory: Path) -> Iterator[tuple[Path, int]]:
    """Yield the files that nobody holds, and their words; who reads a file holds it meanwhile."""
    try:
        paths = list((directory / DIRECTORY).iterdir())
    except FileNotFoundError:
        return
    for path in paths:
        if path.suffix == _NAMELESS:
            continue
        with suppress(FileNotFoundError), _held(path) as descriptor:
            if descriptor is not None:
                yield path, int.from_bytes(os.pread(descriptor, _BYTES, 0), "little")


@contextmanager
def _held(path: Path) -> Iterator[int | None]:
    """Open a file and hold it; give None if somebody else does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        yield None
    else:
        yield descriptor
    finally:
        os.close(descriptor)


def _pid_of(path: Path) -> int:
    return int(path.name.partition("-")[0])
