"""LMDB as the consent store uses it, by whichever binding the engine in use brings.

Bindings differ in the version of LMDB that they are built with, and two versions cannot share an environment, not even
from different processes. So each has a directory of its own, and no process opens that of the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from tokenweir.errors import TokenweirError

if TYPE_CHECKING:
    from tokenweir._native import ConsentSeal

#: How many views there may be at a time, of all processes.
MAX_READERS: Final = 512

_DIRECTORY_NAMES: Final = {"native": "consent-heed", "reference": "consent-lmdb"}
_ENTRIES_AT_A_TIME: Final = 1_000


class StoreError(TokenweirError):
    """The consent store cannot be used as it is. The text holds nothing of its content."""


class StoreCorruptError(StoreError):
    """What stands in the store was not written like this: it must be rebuilt from the topic."""


class StoreUnavailableError(StoreError):
    """There is no store, or it is not restored yet, or the disk does not take it: try again later."""


class View(Protocol):
    """The entries as they were at one moment. Every method may raise :class:`StoreError`, but not :meth:`close`."""

    def get(self, key: bytes, /) -> bytes | None:
        """Return the value of a key."""

    def neighbours(self, key: bytes, /) -> tuple[tuple[bytes, bytes] | None, tuple[bytes, bytes] | None]:
        """Return the last entry before a key, and the first that is not."""

    def entries_after(self, key: bytes, count: int, /) -> Sequence[tuple[bytes, bytes]]:
        """Return the first entries after a key, at most so many; after an empty key, the first of all."""

    def close(self) -> None:
        """Let go of it, so that its pages can be used again; what is asked of it later raises."""


class Environment(Protocol):
    """An open environment, for one thread. Every method may raise :class:`StoreError`.

    There is no transaction to write in: a writer is alone, so that it reads a view, and gives all changes at once.
    """

    def read(self) -> View:
        """Return the entries as they are now."""

    def write(self, changes: Sequence[tuple[bytes, bytes | None]], /) -> None:
        """Put entries, or remove those without a value: all or none."""

    def reader_check(self) -> int:
        """Free the pages that killed readers had pinned; return the number of those readers."""

    def sync(self) -> None:
        """Wait until everything that was written is on the disk."""

    def close(self) -> None:
        """Close it and all views of it."""


def store_directory(state_directory: Path, engine: str) -> Path:
    """Return where the store of an engine, ``native`` or ``reference``, lies in a state directory."""
    return state_directory / _DIRECTORY_NAMES[engine]


def store_directories(state_directory: Path) -> tuple[Path, ...]:
    """Return where stores lie in a state directory, whichever engine keeps them."""
    return tuple(state_directory / name for name in _DIRECTORY_NAMES.values())


def open_environment(engine: str, directory: Path, map_bytes: int, *, reads_only: bool) -> Environment:
    """Open the environment in a directory by the binding of an engine, ``native`` or ``reference``.

    A process has one of a directory at a time. Nothing is synced but by :meth:`Environment.sync`.

    Raises:
        StoreError: LMDB does not open it.
    """
    # Neither binding is loaded where the other is in use, and one of them may not be there.
    if engine == "native":
        from tokenweir._native import ConsentEnvironment  # noqa: PLC0415 - see above.

        return ConsentEnvironment(directory, map_bytes, MAX_READERS, reads_only)
    from tokenweir.adapters.consentlmdb import LmdbEnvironment  # noqa: PLC0415 - see above.

    return LmdbEnvironment(directory, map_bytes, MAX_READERS, reads_only=reads_only)


def native_seal(engine: str, id_key: bytes, mac_key: bytes) -> ConsentSeal | None:
    """Return the keys of the store for compiled lookups, None where the binding has none."""
    if engine != "native":
        return None
    from tokenweir._native import ConsentSeal  # noqa: PLC0415 - the module may be absent.

    return ConsentSeal(id_key, mac_key)


def all_entries(view: View) -> Iterator[tuple[bytes, bytes]]:
    """Yield all entries of a view, in the order of their keys."""
    last = b""
    while found := view.entries_after(last, _ENTRIES_AT_A_TIME):
        yield from found
        last = found[-1][0]
